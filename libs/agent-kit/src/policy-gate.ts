import { watch, type FSWatcher } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Envelope, type JobId, type JsonObject } from '#contracts';
import { isPaused, type CustomerPolicy } from '#domain';
import { backoffMs, createLogger, sleep } from '#platform';
import { Approvals, statementDigest, type CustomerPauseFile } from './approvals.js';
import { writePrivate } from './files.js';
import { PolicyFaults, loadPolicy, plainPolicy, type LoadedPolicy } from './policy-file.js';
import { CustomerRecord } from './record.js';

export interface CustomerGateOptions {
  readonly stateDir: string;
  /** A file that has to be there; default: `policy.yaml` in the state directory, if there is one. */
  readonly policyFile?: string;
  readonly version: string;
  /** Server time minus this host's: a hold ends on the scheduler's clock. */
  readonly skewMs?: () => number;
  /** How often it looks for changes that no event told of. */
  readonly pollMs?: number;
  readonly now?: () => Date;
}
type Report = (policy: JsonObject) => Promise<unknown>;

/** Shown by `status` and `policy show`, written by the running agent. */
export const STATUS_FILE = 'policy.status.json';
export const POLICY_FILE = 'policy.yaml';
export const RECORD_DIRECTORY = 'record';
/** An editor writes a file in several steps. */
const SETTLE_MS = 50;
const POLL_MS = 5_000;
const PENDING_MAX = 50;
const logger = createLogger('policy');

/**
 * The customer's say over its agent: which policy is in force, what was answered to which plan, and the record of it
 * all. It follows the files on this host and nothing else; no message from outside reaches it.
 */
export class CustomerGate {
  private loaded: LoadedPolicy | undefined;
  private faults: readonly string[] = [];
  private pause: CustomerPauseFile | undefined;
  private stamp = '';
  private answers = '';
  /** Grows with each change that may let a deferred job go on. */
  private version = 0;
  private readonly deferred = new Map<JobId, number>();
  private looking: Promise<unknown> = Promise.resolve();
  private readonly closing = new AbortController();
  private readonly watchers: FSWatcher[] = [];
  private timers: NodeJS.Timeout[] = [];
  private report: Report | undefined;
  private reporting: Promise<void> | undefined;
  private again = false;
  /** Called when the policy is another. */
  onChange: () => void = () => undefined;
  readonly policyFile: string;

  private constructor(
    private readonly options: CustomerGateOptions,
    readonly record: CustomerRecord,
    readonly approvals: Approvals,
  ) {
    this.policyFile = options.policyFile ?? join(options.stateDir, POLICY_FILE);
  }

  /** Reads what is in force. An invalid policy file does not stop the agent, but everything it is asked for. */
  static async open(options: CustomerGateOptions): Promise<CustomerGate> {
    const approvals = new Approvals(options.stateDir);
    const record = await CustomerRecord.open(join(options.stateDir, RECORD_DIRECTORY));
    const gate = new CustomerGate(options, record, approvals);
    await approvals.prepare(gate.now());
    await record.append('agent.started', { version: options.version });
    await gate.refresh();
    gate.answers = await gate.answersStamp();
    return gate;
  }

  now(): Date {
    return this.options.now?.() ?? new Date();
  }
  get skewMs(): number {
    return this.options.skewMs?.() ?? 0;
  }

  /** What counts now. Without any valid policy everything is held, as nobody can tell what the customer wanted. */
  get policy(): CustomerPolicy {
    if (this.loaded === undefined) return { pause: { note: `the policy file is not valid (${this.faults[0] ?? ''})` } };
    const { policy } = this.loaded;
    const pauses = [this.pause, policy.pause].filter((each) => each !== undefined && isPaused(each, this.now()));
    // The one that lasts longest: one without an end, else the later one.
    const [pause] = pauses.sort((one, other) => (other?.until ?? '~').localeCompare(one?.until ?? '~'));
    const { pause: _, ...rest } = policy;
    if (pause === undefined) return rest;
    return { ...rest, pause: { note: pause.note, ...(pause.until === undefined ? {} : { until: pause.until }) } };
  }

  get slots(): number | undefined {
    return this.loaded?.policy.limits?.slots;
  }

  /** From now on changes are noticed at once and reported, and what is in force is reported first. */
  start(report: Report): void {
    this.report = report;
    const soon = (): void => {
      const timer = setTimeout(() => void this.check(), SETTLE_MS);
      this.timers = [...this.timers.slice(-10), timer];
    };
    const { stateDir, pollMs = POLL_MS } = this.options;
    for (const path of new Set([stateDir, this.approvals.directory, dirname(this.policyFile)])) {
      try {
        const watcher = watch(path, { persistent: false }, soon);
        watcher.on('error', (error) => logger.debug({ err: error, path }, 'changes are found by looking only'));
        this.watchers.push(watcher);
      } catch (error) {
        // Out of inotify watches, or a file system that has none.
        logger.debug({ err: error, path }, 'changes are found by looking only');
      }
    }
    this.timers.push(setInterval(() => void this.check(), pollMs).unref());
    this.tell();
  }

  async stop(): Promise<void> {
    this.closing.abort();
    this.watchers.forEach((watcher) => watcher.close());
    this.timers.forEach((timer) => clearTimeout(timer));
    await this.looking.catch(() => undefined);
    await this.reporting;
    await this.record.append('agent.stopped', {}).catch((error: unknown) => logger.error({ err: error }, 'no record'));
    await this.record.close();
  }

  /** A statement that is not good: somebody tried to make this agent act. */
  async statementRefused(jobId: JobId, attempt: number, envelope: Envelope, detail: string): Promise<void> {
    const ids = { job_id: jobId, attempt, statement_digest: statementDigest(envelope) };
    await this.record.append('job.refused', { ...ids, code: 'statement_refused', detail });
  }

  /** Looks whether the files are others than those that were read: two `stat`s when they are not. */
  refresh(): Promise<boolean> {
    const look = this.looking.catch(() => false).then(() => this.look());
    this.looking = look;
    return look;
  }

  /** An attempt was put off under what is in force at this moment. */
  noteDeferral(jobId: JobId): void {
    this.deferred.set(jobId, this.version);
  }

  /**
   * The scheduler holds the job now. If something changed after the attempt had ended, its report came too early to lift
   * this hold, and is made again. After a restart nobody can tell, so it is too.
   */
  deferralSettled(jobId: JobId): void {
    if (this.deferred.get(jobId) !== this.version) this.tell();
    this.deferred.delete(jobId);
  }

  /** What both sides may see. */
  async state(): Promise<JsonObject> {
    const pending = (await this.approvals.pending()).filter(({ answer }) => answer === undefined);
    const { loaded, faults } = this;
    return {
      ...plainPolicy(this.policy),
      file: {
        state: loaded?.state ?? 'invalid',
        ...(loaded?.digest === undefined ? {} : { digest: loaded.digest }),
        ...(faults.length === 0 ? {} : { faults: faults.slice(0, 20).map((fault) => fault.slice(0, 300)) }),
      },
      pending: pending.slice(0, PENDING_MAX).map((question) => ({ ...question })),
      record: { ...this.record.head },
    };
  }

  private async check(): Promise<void> {
    if (this.closing.signal.aborted) return;
    try {
      await this.refresh();
      const answers = await this.answersStamp();
      if (answers === this.answers) return;
      this.answers = answers;
      this.version += 1;
      this.tell();
    } catch (error) {
      logger.error({ err: error }, 'the policy could not be looked at');
    }
  }

  private async look(): Promise<boolean> {
    const stamp = `${await stampOf(this.policyFile)} ${await stampOf(this.approvals.pauseFile)}`;
    if (stamp === this.stamp) return false;
    const first = this.stamp === '';
    const before = JSON.stringify([this.policy, this.faults]);
    try {
      const owner = (await stat(this.options.stateDir)).uid;
      this.loaded = await loadPolicy(this.policyFile, this.options.policyFile !== undefined, owner);
      this.faults = [];
    } catch (error) {
      if (!(error instanceof PolicyFaults)) throw error;
      this.faults = error.faults;
    }
    this.pause = await this.approvals.paused();
    this.stamp = stamp;
    // Written anew with the same content, or read while it was half written.
    if (!first && JSON.stringify([this.policy, this.faults]) === before) return false;
    this.version += 1;
    await this.recordPolicy(first);
    this.onChange();
    if (!first) this.tell();
    return true;
  }

  private async recordPolicy(first: boolean): Promise<void> {
    const { loaded, faults, policyFile: file } = this;
    if (faults.length > 0) {
      const kept = loaded === undefined ? 'everything is held' : 'the policy before it stays in force';
      logger.error({ file, faults }, `the policy file is not valid: ${kept}`);
      await this.record.append('policy.invalid', { file, faults: faults.slice(0, 20), kept });
      return;
    }
    const state = loaded?.state ?? 'invalid';
    if (state === 'defaults') logger.warn({ file }, 'there is no policy file: everything is allowed');
    else logger.info({ file, digest: loaded?.digest, policy: this.policy }, 'policy in force');
    const digest = loaded?.digest === undefined ? {} : { digest: loaded.digest };
    await this.record.append(first ? 'policy.in_force' : 'policy.changed', {
      ...digest,
      state,
      policy: plainPolicy(this.policy),
      ...(this.pause === undefined ? {} : { paused_by: this.pause.by }),
    });
  }

  /** Reports until it has arrived; what changes meanwhile is reported after that. */
  private tell(): void {
    if (this.report === undefined) return;
    this.again = true;
    this.reporting ??= this.deliver();
  }

  private async deliver(): Promise<void> {
    const { signal } = this.closing;
    for (let tries = 1; this.again && !signal.aborted; tries++) {
      this.again = false;
      try {
        const state = await this.state();
        const status = { ...state, policy_file: this.policyFile };
        await writePrivate(join(this.options.stateDir, STATUS_FILE), JSON.stringify(status));
        await this.report?.(state);
        tries = 0;
      } catch (error) {
        this.again = true;
        if (tries === 1 || tries % 20 === 0) logger.warn({ tries, err: error }, 'the policy could not be reported');
        await sleep(backoffMs(tries, { baseMs: 200, maxMs: 10_000 }), signal);
      }
    }
    this.reporting = undefined;
  }

  private async answersStamp(): Promise<string> {
    const { directory } = this.approvals;
    const names = (await readdir(directory)).filter((name) => name.endsWith('.decision.json')).sort();
    return (await Promise.all(names.map((name) => stampOf(join(directory, name))))).join(' ');
  }
}

/** Differs whenever the file is another or was written to. */
async function stampOf(file: string): Promise<string> {
  try {
    const { ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true });
    return `${ino}:${size}:${mtimeNs}:${ctimeNs}`;
  } catch {
    return '-';
  }
}
