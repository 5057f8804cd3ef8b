import { existsSync } from 'node:fs';
import { readFile, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { writePrivate } from '#agent-kit';
import { type JsonObject } from '#contracts';
import { type InstallAgentConfig } from '../config.js';
import { type ExecutorContext } from '../executor.js';

/** Where the state of the components is: a file in each one's directory, or objects of an S3 bucket of the customer's. */

const LOCAL = 'terraform.tfstate';
/** State that the customer hands in: it is taken once, before the first plan after it was put there. */
const HANDED_IN = 'import.tfstate';
/** Which jobs have begun a run, and when: a lock that stays tells only its host and its time. */
const MARKS = 'terraform-runs.json';

export class TerraformState {
  constructor(private readonly config: InstallAgentConfig) {}

  /** Whether there may be something to destroy. Of a bucket only terraform can tell. */
  mayExist(stateDir: string): boolean {
    return this.isRemote || existsSync(join(stateDir, LOCAL));
  }

  get isRemote(): boolean {
    return this.config.TERRAFORM_STATE !== undefined;
  }

  /** The backend block that overrides whatever backend the module names. No credential is in it. */
  backend(context: ExecutorContext): JsonObject {
    const {
      TERRAFORM_STATE: place,
      TERRAFORM_STATE_ENDPOINT: endpoint,
      TERRAFORM_STATE_CREDENTIALS: file,
    } = this.config;
    if (place === undefined) return { local: { path: join(context.stateDir, LOCAL) } };
    const { host: bucket, pathname, searchParams } = new URL(place);
    const folder = pathname.replace(/^\/+|\/+$/g, '');
    const { component } = context.step.statement;
    return {
      s3: {
        bucket,
        key: [folder, context.installId, component.name, LOCAL].filter((part) => part !== '').join('/'),
        region: searchParams.get('region') ?? 'us-east-1',
        encrypt: true,
        use_lockfile: true,
        ...(file === undefined ? {} : { shared_credentials_files: [file] }),
        // Something that speaks S3 has no other service of AWS beside it.
        ...(endpoint === undefined
          ? {}
          : {
              endpoints: { s3: endpoint },
              use_path_style: true,
              skip_credentials_validation: true,
              skip_metadata_api_check: true,
              skip_region_validation: true,
              skip_requesting_account_id: true,
            }),
      },
    };
  }

  /**
   * A state that has to go into the backend: one that the customer handed in, or the local one of before the bucket was
   * configured. `push` refuses what is older than what is there, and another's. Taken once.
   */
  async takeOver({ stateDir, step }: ExecutorContext, push: (file: string) => Promise<unknown>): Promise<void> {
    const files = [join(stateDir, HANDED_IN), ...(this.isRemote ? [join(stateDir, LOCAL)] : [])];
    for (const file of files.filter((each) => existsSync(each))) {
      await push(file);
      await rename(file, `${file}.taken`);
      step.log('info', `the state in ${file.slice(stateDir.length + 1)} was taken over`);
    }
  }

  /** Each job's mark is written before its run, and a run that had the lock and ended well takes all of them back. */
  async running<T>({ stateDir, step }: ExecutorContext, run: () => Promise<T>): Promise<T> {
    const marks = await marksOf(stateDir);
    const { job_id: job } = step.statement;
    // The lock in the way may be of its first run: a mark that is there stays as it is.
    if (!marks.some((mark) => mark.job === job)) {
      const from = new Date().toISOString();
      await writePrivate(join(stateDir, MARKS), JSON.stringify([...marks, { job, from }]));
    }
    const result = await run();
    await rm(join(stateDir, MARKS), { force: true });
    return result;
  }

  /** The id of the lock in the way, when it may be broken, from what terraform has said. */
  async breakable({ stateDir, step }: ExecutorContext, said: readonly string[]): Promise<string | undefined> {
    return leftBy(said.join('\n'), await marksOf(stateDir), step.statement.job_id, hostname());
  }
}

/** A run of this job began then, and is not known to have ended well. */
interface Mark {
  readonly job: string;
  readonly from: string;
}
async function marksOf(stateDir: string): Promise<readonly Mark[]> {
  const file = join(stateDir, MARKS);
  return existsSync(file) ? (JSON.parse(await readFile(file, 'utf8')) as Mark[]) : [];
}

/**
 * The id of a lock that a run of this very job has left: it was taken on this host, and this job's was the last run that
 * had begun before it was. The job's lease is ours, and what was left of that run was killed before this attempt began.
 * Undefined for everybody else's lock.
 */
export function leftBy(said: string, marks: readonly Mark[], job: string, host: string): string | undefined {
  const field = (name: string): string | undefined => new RegExp(`\\b${name}:\\s+(\\S.*?)\\s*$`, 'm').exec(said)?.[1];
  const [id, who, created] = [field('ID'), field('Who'), field('Created')];
  if (id === undefined || created === undefined || who?.endsWith(`@${host}`) !== true) return undefined;
  // `2026-11-24 16:59:12.9658264 +0000 UTC`, as Go prints it.
  const at = Date.parse(created.replace(/^(\S+) ([^\s.]+)(\.\d{1,3})?\d* \+0000 UTC$/, '$1T$2$3Z'));
  const holder = marks
    .filter(({ from }) => Date.parse(from) <= at)
    .sort((one, other) => Date.parse(one.from) - Date.parse(other.from))
    .at(-1);
  return holder?.job === job ? id : undefined;
}
