import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { Injectable, type OnModuleInit } from '@nestjs/common';
import { ImsError, LIMITS, newId, sortedJson, type JsonValue } from '#contracts';
import { createLogger, Lifecycle } from '#platform';
import { Database } from '#persistence';

/** What was answered, enough to answer it again. */
export interface Answer {
  readonly status: number;
  readonly location?: string;
  readonly body: object;
}

/** A request that wants to be done once. */
export interface OnceOnly {
  /** The Idempotency-Key header. */
  readonly key: string;
  readonly actor: string;
  /** The credential that came with the request; empty for public routes. */
  readonly credential: string;
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}

interface Row {
  readonly request_hash: Buffer;
  readonly run: number;
  readonly id_suffix: string;
  readonly answer: Buffer | null;
  readonly running: boolean;
  readonly expired: boolean;
}

/** Longer than any handler may take (three calls of 10 s): after this time a run whose replica died is taken over. */
const RUN_LEASE_S = 60;
const SWEEP_MS = 60 * 60_000;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/**
 * Idempotency-Key: the first request under a key runs, later ones with the same body get its answer.
 *
 * - Only answers that succeeded are kept, for LIMITS.idempotencyMs. A request that failed may be sent again under the
 *   same key and then runs again; ids that it reserved (`Ask.reserve`) stay the same.
 * - Answers may hold secrets (API key, enrolment token). They are stored encrypted with a key derived from the
 *   Idempotency-Key, the credential and the body, none of which are stored: who has the database cannot read them.
 */
@Injectable()
export class Idempotency implements OnModuleInit {
  private readonly logger = createLogger('idempotency');

  constructor(
    private readonly database: Database,
    private readonly lifecycle: Lifecycle,
  ) {}

  onModuleInit(): void {
    const timer = setInterval(() => {
      this.sweep().catch((error: unknown) => this.logger.warn({ err: error }, 'old records stay for now'));
    }, SWEEP_MS);
    timer.unref();
    this.lifecycle.onDrain('stop-intake', 'idempotency sweep', () => {
      clearInterval(timer);
      return Promise.resolve();
    });
  }

  /**
   * Runs the work unless it has been answered. Throws `idempotency_in_progress` while another run is under way,
   * `idempotency_mismatch` when the key was used for another request.
   */
  async once(
    request: OnceOnly,
    work: (idSuffix: () => string) => Promise<Answer>,
  ): Promise<Answer & { replayed: boolean }> {
    if (!/^[\x21-\x7e]{1,255}$/.test(request.key)) {
      throw new ImsError('invalid_request', 'Idempotency-Key must be 1 to 255 visible ASCII characters');
    }
    const text = JSON.stringify(sortedJson((request.body ?? null) as JsonValue));
    const keyHash = createHash('sha256').update(request.key).digest();
    // Keyed, because a body may hold values that could be guessed from a plain hash.
    const requestHash = createHmac('sha256', request.key).update(`${request.method} ${request.path}\n${text}`).digest();
    const begun = await this.begin(request.actor, keyHash, requestHash);
    const vault = new Vault(request, text);
    if ('answer' in begun) return { ...vault.open(begun.answer), replayed: true };
    let reserved = false;
    try {
      const answer = await work(() => {
        reserved = true;
        return begun.idSuffix;
      });
      await this.settle(request.actor, keyHash, begun.run, vault.seal(answer));
      return { ...answer, replayed: false };
    } catch (error) {
      await this.settle(request.actor, keyHash, begun.run, reserved ? 'keep ids' : 'forget');
      throw error;
    }
  }

  /** Claims the key for one run, or finds the answer. Each write is fenced by `run`, so two racers cannot both win. */
  private async begin(
    actor: string,
    keyHash: Buffer,
    requestHash: Buffer,
  ): Promise<{ run: number; idSuffix: string } | { answer: Buffer }> {
    const idSuffix = newId('event').replace(/^evt_/, '');
    const inserted = await this.database.query(
      `INSERT INTO idempotency (actor, key_hash, request_hash, id_suffix, running_until)
       VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5)) ON CONFLICT DO NOTHING RETURNING run`,
      [actor, keyHash, requestHash, idSuffix, RUN_LEASE_S],
    );
    if (inserted.length > 0) return { run: 1, idSuffix };
    const rows = await this.database.query<Row>(
      `SELECT request_hash, run, id_suffix, answer, running_until > now() IS TRUE AS running,
              created_at < now() - make_interval(secs => $3) AS expired
       FROM idempotency WHERE actor = $1 AND key_hash = $2`,
      [actor, keyHash, LIMITS.idempotencyMs / 1000],
    );
    const row = rows[0];
    // Swept between the two statements: it is as good as new, and the client's next try will find it so.
    if (row === undefined) throw new ImsError('idempotency_in_progress');
    if (!row.expired) {
      if (!row.request_hash.equals(requestHash)) throw new ImsError('idempotency_mismatch');
      if (row.answer !== null) return { answer: row.answer };
      if (row.running) throw new ImsError('idempotency_in_progress');
    }
    const next = row.expired ? idSuffix : row.id_suffix;
    const taken = await this.database.query(
      `UPDATE idempotency SET run = run + 1, request_hash = $4, id_suffix = $5, answer = NULL,
              running_until = now() + make_interval(secs => $6),
              created_at = CASE WHEN $7 THEN now() ELSE created_at END
       WHERE actor = $1 AND key_hash = $2 AND run = $3 AND (running_until IS NULL OR running_until <= now())
       RETURNING run`,
      [actor, keyHash, row.run, requestHash, next, RUN_LEASE_S, row.expired],
    );
    if (taken.length === 0) throw new ImsError('idempotency_in_progress');
    return { run: row.run + 1, idSuffix: next };
  }

  /**
   * Keeps the answer, or frees the key after a failure (with no row left behind, unless ids are reserved in it: failed
   * enrolments of strangers must not fill the table). A database that is away here must not turn work that is done
   * into a failure: the key then stays taken until its lease ends.
   */
  private async settle(
    actor: string,
    keyHash: Buffer,
    run: number,
    outcome: Buffer | 'keep ids' | 'forget',
  ): Promise<void> {
    const mine = 'WHERE actor = $1 AND key_hash = $2 AND run = $3';
    try {
      if (outcome === 'forget') {
        await this.database.query(`DELETE FROM idempotency ${mine}`, [actor, keyHash, run]);
      } else {
        const answer = outcome === 'keep ids' ? null : outcome;
        await this.database.query(`UPDATE idempotency SET answer = $4, running_until = NULL ${mine}`, [
          actor,
          keyHash,
          run,
          answer,
        ]);
      }
    } catch (error) {
      this.logger.warn({ err: error, actor }, 'an idempotency record could not be settled');
    }
  }

  /** Deletes records that are past their time. Any replica, any number of times. */
  async sweep(): Promise<void> {
    await this.database.query('DELETE FROM idempotency WHERE created_at < now() - make_interval(secs => $1)', [
      LIMITS.idempotencyMs / 1000,
    ]);
  }
}

/** AES-256-GCM under a key that only the sender of the same request can derive again. */
class Vault {
  private readonly key: Buffer;

  constructor(request: OnceOnly, body: string) {
    const material = JSON.stringify([request.key, request.credential, body]);
    this.key = Buffer.from(hkdfSync('sha256', material, request.actor, 'ims idempotency answer v1', 32));
  }

  seal(answer: Answer): Buffer {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.key, nonce);
    const sealed = Buffer.concat([cipher.update(JSON.stringify(answer), 'utf8'), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]);
  }

  /** Throws `conflict` when the credential is another one than at the first time (a rotated operator key). */
  open(stored: Buffer): Answer {
    const nonce = stored.subarray(0, NONCE_BYTES);
    const decipher = createDecipheriv('aes-256-gcm', this.key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAuthTag(stored.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
    try {
      const text = Buffer.concat([decipher.update(stored.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
      return JSON.parse(text.toString('utf8')) as Answer;
    } catch {
      throw new ImsError(
        'conflict',
        'this request was answered to another credential, and its answer is sealed with it',
      );
    }
  }
}
