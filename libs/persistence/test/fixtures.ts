import { type MigrationInterface, type QueryRunner } from 'typeorm';
import { newId, type VendorId } from '#contracts';
import { Database, openDataSource, type NewEvent, type Publisher } from '#persistence';

/** A table of one's own, to see what a transaction left. */
export class Notes1800000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text UNIQUE)');
  }
  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE notes');
  }
}

export interface Opened {
  readonly database: Database;
  close(): Promise<void>;
}

export async function open(url: string, poolSize = 5): Promise<Opened> {
  const dataSource = await openDataSource({
    service: 'job-scheduler',
    url,
    migrations: [Notes1800000000000],
    poolSize,
  });
  const database = new Database(dataSource, 'job-scheduler');
  return {
    database,
    close: async () => {
      await database.stopRelay();
      await dataSource.destroy();
    },
  };
}

export interface Sent {
  readonly subject: string;
  readonly messageId: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
}

/** Stands in for the broker: keeps what it gets, and fails for as long as `down` is set. */
export class RecordingPublisher implements Publisher {
  readonly sent: Sent[] = [];
  down = false;
  /** Called before each publish; a test may hold it here. */
  before: (subject: string) => Promise<void> = () => Promise.resolve();

  async publish(
    subject: string,
    headers: Readonly<Record<string, string>>,
    body: string,
    messageId: string,
  ): Promise<void> {
    await this.before(subject);
    if (this.down) throw new Error('the broker is down');
    this.sent.push({ subject, messageId, headers, body: JSON.parse(body) });
  }
}

/** Resolves when the condition holds; it is looked at every 5 ms, for at most 15 s. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 30_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export function fact(vendor: VendorId, data: NewEvent['data'] = {}): NewEvent {
  return { chainOf: vendor, type: 'test.fact', vendor_id: vendor, actor: 'service:test', data };
}
export const newVendor = (): VendorId => newId('vendor');
