import { createHash, randomUUID } from 'node:crypto';
import { chown, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  Envelope,
  ImsError,
  PAYLOAD_TYPES,
  openEnvelope,
  parse,
  signEnvelope,
  type JobId,
  type Signer,
} from '#contracts';
import { type PlanAnswer, type PlanFacts } from '#domain';
import { verifyNkey } from '#messaging';
import { privateDirectory, writePrivate } from './files.js';

/** A plan that waits for the customer. */
export interface PlanQuestion extends PlanFacts {
  readonly job_id: JobId;
  readonly attempt: number;
  /** `apply of db (terraform-module)` */
  readonly what: string;
  readonly asked_at: string;
}
/** What was answered, on this host. It is bound to the digest and to the job that asked. */
interface Decision {
  readonly digest: string;
  readonly job_id: JobId;
  readonly decision: 'approved' | 'rejected';
  readonly by: string;
  readonly note?: string;
  readonly at: string;
  readonly envelope?: Envelope;
}
/** What an approver signs on a machine of its own. */
interface SignedApproval {
  readonly plan_digest: string;
  readonly at: string;
  readonly id: string;
}
export interface CustomerPauseFile {
  readonly note: string;
  readonly until?: string;
  readonly by: string;
  readonly at: string;
}

const PLAN_BYTES_MAX = 4 * 2 ** 20;
/** A plan's text is kept so long after it was last made. */
const PLAN_DAYS = 30;
const HOUR_MS = 3_600_000;
/** The approver's machine may have another time than this one. */
const AHEAD_MS = 10 * 60_000;

const hexOf = (digest: string): string => digest.replace(/^sha256:/, '');

/**
 * Questions, answers, texts of plans and the pause: files in the state directory, by which the agent and the operator's
 * commands on the same host speak with each other. Nothing that comes over a wire is ever written here but digests,
 * names and counts of plans that this agent made itself.
 */
export class Approvals {
  readonly directory: string;
  readonly pauseFile: string;
  private readonly plans: string;

  constructor(private readonly stateDir: string) {
    this.directory = join(stateDir, 'approvals');
    this.pauseFile = join(stateDir, 'pause.json');
    this.plans = join(stateDir, 'plans');
  }

  /** Makes the directories and drops old texts. */
  async prepare(now: Date): Promise<void> {
    for (const path of [this.directory, this.plans]) await this.ours(await privateDirectory(path));
    const waiting = new Set((await this.questions()).map(({ digest }) => hexOf(digest)));
    for (const name of await readdir(this.plans)) {
      const { mtimeMs } = await stat(join(this.plans, name));
      const old = now.getTime() - mtimeMs > PLAN_DAYS * 24 * HOUR_MS;
      if (old && !waiting.has(name)) await rm(join(this.plans, name), { force: true });
    }
  }

  // ---- the agent's side

  async keepPlan(digest: string, text: string): Promise<void> {
    const cut = text.length > PLAN_BYTES_MAX ? `${text.slice(0, PLAN_BYTES_MAX)}\n… cut here\n` : text;
    await writeFile(join(this.plans, hexOf(digest)), cut, { mode: 0o600 });
  }

  /** Asks; what the same job asked before about another plan is taken back, with its answer. */
  async ask(question: PlanQuestion): Promise<void> {
    const { job_id: jobId, digest } = question;
    for (const old of await this.questions()) {
      if (old.job_id === jobId && old.digest !== digest) await this.drop(old.digest);
    }
    await writePrivate(this.questionFile(digest), JSON.stringify(question));
  }

  /**
   * The customer's answer to this plan of this job: not that of another job, not one that is older than `hours`, and
   * with approvers only a yes that one of them signed.
   */
  async answer(
    digest: string,
    jobId: JobId,
    {
      approvers = [],
      hours = 24,
      now,
    }: { readonly approvers?: readonly string[]; readonly hours?: number; readonly now: Date },
  ): Promise<PlanAnswer | undefined> {
    const decision = await readJson<Decision>(this.decisionFile(digest));
    if (decision?.digest !== digest || decision.job_id !== jobId) return undefined;
    const { note, envelope } = decision;
    const more = note === undefined ? {} : { note };
    if (decision.decision === 'rejected') return { decision: 'rejected', by: decision.by, ...more };
    let at = decision.at;
    let by = decision.by;
    if (approvers.length > 0) {
      if (envelope === undefined) return undefined;
      try {
        const signed = openApproval(envelope, approvers);
        if (signed.plan_digest !== digest) return undefined;
        at = signed.at;
        by = envelope.key_id;
      } catch {
        return undefined;
      }
    }
    const age = now.getTime() - Date.parse(at);
    // Written so that a time that is none does not count either.
    if (!(age <= hours * HOUR_MS && age >= -AHEAD_MS)) return undefined;
    return { decision: 'approved', by, ...more };
  }

  /** The job is over: its question and answer go; the text of the plan stays for a while. */
  async settle(jobId: JobId): Promise<void> {
    for (const question of await this.questions()) if (question.job_id === jobId) await this.drop(question.digest);
  }

  // ---- the operator's side

  /** All questions, oldest first, with the answer that was given, if any. */
  async pending(): Promise<(PlanQuestion & { readonly answer?: Decision['decision'] })[]> {
    const all = await Promise.all(
      (await this.questions()).map(async (question) => {
        const decision = await readJson<Decision>(this.decisionFile(question.digest));
        const given = decision?.job_id === question.job_id ? { answer: decision.decision } : {};
        return { ...question, ...given };
      }),
    );
    return all.sort((one, other) => one.asked_at.localeCompare(other.asked_at));
  }

  /** The one waiting plan whose digest begins so (`sha256:` may be left out). Throws when there is none, or several. */
  async find(start: string): Promise<PlanQuestion> {
    return one(start, await this.questions(), ({ digest }) => hexOf(digest));
  }

  /** The text of a plan, waiting or not. */
  async planText(start: string): Promise<string> {
    const names = await readdir(this.plans).catch(() => [] as string[]);
    return readFile(
      join(
        this.plans,
        one(start, names, (name) => name),
      ),
      'utf8',
    );
  }

  async decide(
    { digest, job_id }: PlanQuestion,
    answer: Pick<Decision, 'decision' | 'by' | 'note' | 'envelope'>,
    now: Date,
  ): Promise<void> {
    const decision: Decision = { digest, job_id, at: now.toISOString(), ...answer };
    await this.put(this.decisionFile(digest), decision);
  }

  async pause(pause: CustomerPauseFile): Promise<void> {
    await this.put(this.pauseFile, pause);
  }
  async unpause(): Promise<boolean> {
    const was = (await this.paused()) !== undefined;
    await rm(this.pauseFile, { force: true });
    return was;
  }
  /** The pause that a command made. What cannot be read is a pause all the same: somebody wanted one. */
  async paused(): Promise<CustomerPauseFile | undefined> {
    try {
      return await readJson<CustomerPauseFile>(this.pauseFile);
    } catch {
      return { note: `${this.pauseFile} cannot be read`, by: 'unknown', at: new Date(0).toISOString() };
    }
  }

  private async questions(): Promise<PlanQuestion[]> {
    const names = await readdir(this.directory).catch(() => [] as string[]);
    const files = names.filter((name) => name.endsWith('.question.json'));
    const read = await Promise.all(
      files.map((name) => readJson<PlanQuestion>(join(this.directory, name)).catch(() => undefined)),
    );
    return read.filter((question) => question !== undefined);
  }

  private async drop(digest: string): Promise<void> {
    await rm(this.questionFile(digest), { force: true });
    await rm(this.decisionFile(digest), { force: true });
  }

  private questionFile(digest: string): string {
    return join(this.directory, `${hexOf(digest)}.question.json`);
  }
  private decisionFile(digest: string): string {
    return join(this.directory, `${hexOf(digest)}.decision.json`);
  }

  private async put(file: string, value: object): Promise<void> {
    await writePrivate(file, JSON.stringify(value));
    await this.ours(file);
  }

  /** Made by root for an agent that is somebody else: it must be able to read it. */
  private async ours(path: string): Promise<void> {
    const { uid, gid } = await stat(this.stateDir);
    if (process.geteuid?.() === 0 && uid !== 0) await chown(path, uid, gid);
  }
}

/** A yes to a plan, signed. */
export function signApproval(digest: string, signer: Signer, now: Date): Envelope {
  const approval: SignedApproval = { plan_digest: digest, at: now.toISOString(), id: randomUUID() };
  return signEnvelope(PAYLOAD_TYPES.planApproval, approval, signer);
}

/** What was signed, when one of the approvers signed it; throws `statement_refused`. */
export function openApproval(envelope: Envelope, approvers: readonly string[]): SignedApproval {
  const text = openEnvelope(parse(Envelope, envelope, 'tolerant'), PAYLOAD_TYPES.planApproval, approvers, verifyNkey);
  const { plan_digest: digest, at, id } = (text ?? {}) as Partial<SignedApproval>;
  if (typeof digest !== 'string' || typeof at !== 'string' || typeof id !== 'string') {
    throw new ImsError('statement_refused', 'what was signed is not an approval');
  }
  return { plan_digest: digest, at, id };
}

/** SHA-256 of the exact bytes that were signed: tells which statement an entry of the record is about. */
export const statementDigest = ({ payload }: Envelope): string =>
  `sha256:${createHash('sha256').update(Buffer.from(payload, 'base64')).digest('hex')}`;

function one<T>(start: string, all: readonly T[], hex: (each: T) => string): T {
  const prefix = hexOf(start.trim().toLowerCase());
  if (!/^[0-9a-f]{6,64}$/.test(prefix)) throw new Error(`${start} is not a digest, nor its first 6 digits or more`);
  const found = all.filter((each) => hex(each).startsWith(prefix));
  const [first, second] = found;
  if (first === undefined) throw new Error(`there is no such plan: ${start} (see pending)`);
  if (second !== undefined) throw new Error(`${found.length} plans begin with ${start}: give more of the digest`);
  return first;
}

/** Undefined when the file is not there. */
async function readJson<T extends object>(file: string): Promise<T | undefined> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  });
  return text === undefined ? undefined : (JSON.parse(text) as T);
}
