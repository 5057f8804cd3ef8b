import { LIMITS, type AgentId, type JobId } from '#contracts';
import { selfFenceAt, type Effect } from '#domain';
import { type Random } from '../random.js';
import { type Clock } from './clock.js';
import { type ModelScheduler, type Renewal } from './scheduler.js';

/** How an agent reaches the scheduler, and how it does not. Lost requests and lost replies look the same: no answer. */
export interface Wire {
  ask<T>(agent: ModelAgent, request: () => T, answer: (reply: T | undefined) => void): void;
}
export interface AgentRules {
  readonly selfFenceAt: typeof selfFenceAt;
}
export const AGENT_RULES: AgentRules = { selfFenceAt };

interface Step {
  readonly name: string;
  readonly ms: number;
}
/** What is on the agent's disk; a crash leaves it. */
interface JournalEntry {
  readonly job: JobId;
  readonly attempt: number;
  readonly steps: readonly Step[];
  readonly begun: Set<string>;
  readonly done: Set<string>;
  result?: { outcome: 'succeeded' | 'failed' | 'cancelled' | 'deferred'; code?: string };
}
/** What is in memory; a crash takes it. */
interface Run {
  readonly entry: JournalEntry;
  fenceAt: number;
  working: boolean;
  stopping: boolean;
  /** The program of the step that runs now; a number of its own, so that a late timer of a dead one does nothing. */
  program: number;
}

/** A step's program outlives a pause of its agent, but not the lease: its keeper looks twice a second. */
const KEEPER_LATE_MS = LIMITS.selfFenceMarginMs / 4 + 500;
const CLAIM_TIMEOUT_MS = 5_000;

/** An agent's process, its disk, the programs that it runs, and the world that they change. */
export class ModelAgent {
  readonly journal = new Map<string, JournalEntry>();
  private readonly fences = new Map<JobId, number>();
  private runs = new Map<string, Run>();
  private readonly claiming = new Set<JobId>();
  private session = '';
  private lives = 0;
  private programs = 0;
  private pausedUntil = 0;
  alive = false;
  /** Nothing arrives and nothing leaves. */
  cutUntil = 0;
  /** This host's monotonic clock runs so much faster or slower. */
  readonly rate: number;
  private pending: JobId[] = [];

  constructor(
    readonly id: AgentId,
    private readonly clock: Clock,
    private readonly random: Random,
    private readonly scheduler: ModelScheduler,
    private readonly wire: Wire,
    private readonly effects: Effect[],
    private readonly rules: AgentRules,
  ) {
    this.rate = 1 + (random.next() - 0.5) * 0.02;
  }

  get settled(): boolean {
    return this.journal.size === 0;
  }

  start(): void {
    if (this.alive) return;
    this.alive = true;
    this.lives += 1;
    this.session = `session-${this.id}-${this.lives}`;
    this.runs = new Map();
    this.claiming.clear();
    this.pending = [];
    const { lives } = this;
    for (const entry of this.journal.values()) {
      if (entry.result) this.report(entry);
      else this.resume(entry);
    }
    const beat = (): void => {
      if (!this.alive || this.lives !== lives) return;
      this.renew();
      this.later(LIMITS.beatMs, beat);
    };
    beat();
  }

  /** kill -9: the programs go with it, the disk stays. */
  crash(): void {
    this.alive = false;
    this.pausedUntil = 0;
    this.runs.clear();
  }
  /** SIGSTOP: what was to happen happens at the end of the pause; programs go on. */
  pause(ms: number): void {
    this.pausedUntil = Math.max(this.pausedUntil, this.clock.now + ms);
  }

  offered(job: JobId): void {
    this.soon(() => {
      if (this.claiming.has(job) || this.pending.includes(job)) return;
      if (this.busy >= LIMITS.agentSlots) this.pending.push(job);
      else this.claim(job);
    });
  }
  told(job: JobId, attempt: number): void {
    this.soon(() => {
      const run = this.runs.get(`${job}.${attempt}`);
      if (run?.working) this.stop(run);
    });
  }

  private get busy(): number {
    return this.claiming.size + [...this.runs.values()].filter(({ working }) => working).length;
  }

  /** In this process, when it is not paused; never in a later life. */
  private soon(work: () => void): void {
    const { lives } = this;
    const attempt = (): void => {
      if (!this.alive || this.lives !== lives) return;
      if (this.clock.now < this.pausedUntil) this.clock.after(this.pausedUntil - this.clock.now, attempt);
      else work();
    };
    attempt();
  }
  private later(ms: number, work: () => void): void {
    const { lives } = this;
    this.clock.after(ms / this.rate, () => {
      if (this.lives === lives) this.soon(work);
    });
  }
  private ask<T>(request: () => T, answer: (reply: T | undefined) => void): void {
    this.wire.ask(this, request, (reply) => this.soon(() => answer(reply)));
  }
  /** This host's own clock, in its own milliseconds. */
  private get monotonic(): number {
    return this.clock.now * this.rate;
  }

  private claim(job: JobId): void {
    this.claiming.add(job);
    const sentAt = this.monotonic;
    const { session } = this;
    let over = false;
    const end = (attempt: number | undefined): void => {
      if (over) return;
      over = true;
      this.claiming.delete(job);
      if (attempt !== undefined && !this.runs.has(`${job}.${attempt}`)) this.begin(job, attempt, sentAt);
      this.next();
    };
    this.ask<number | undefined>(() => this.scheduler.claim(this.id, session, job), end);
    this.later(CLAIM_TIMEOUT_MS, () => end(undefined));
  }

  private next(): void {
    const job = this.busy < LIMITS.agentSlots ? this.pending.shift() : undefined;
    if (job !== undefined) this.claim(job);
  }

  private begin(job: JobId, attempt: number, sentAt: number): void {
    // A statement of an attempt that is no newer than what was seen is refused.
    if (attempt <= (this.fences.get(job) ?? 0)) return;
    this.fences.set(job, attempt);
    const steps = Array.from({ length: this.random.int(1, 3) }, (_, i) => ({
      name: `step-${i}`,
      ms: this.random.weighted([
        [6, this.random.int(5, 300)],
        [2, this.random.int(300, 5_000)],
        [0.2, this.random.int(5_000, 40_000)],
      ]),
    }));
    const entry: JournalEntry = { job, attempt, steps, begun: new Set(), done: new Set() };
    this.journal.set(`${job}.${attempt}`, entry);
    this.run(entry, sentAt);
  }

  private resume(entry: JournalEntry): void {
    const sentAt = this.monotonic;
    let over = false;
    this.ask(
      () => this.scheduler.resume(this.id, this.session, entry.job, entry.attempt),
      (granted) => {
        if (over) return;
        over = true;
        if (granted === true) this.run(entry, sentAt);
        else if (granted === false) this.drop(entry);
      },
    );
    this.later(1_000, () => {
      if (over) return;
      over = true;
      this.resume(entry);
    });
  }

  private run(entry: JournalEntry, sentAt: number): void {
    const run: Run = { entry, fenceAt: -Infinity, working: true, stopping: false, program: 0 };
    this.runs.set(`${entry.job}.${entry.attempt}`, run);
    this.extend(run, sentAt);
    this.work(run);
  }

  private live(run: Run): boolean {
    return this.monotonic < run.fenceAt;
  }
  private extend(run: Run, sentAt: number): void {
    const fenceAt = this.rules.selfFenceAt(sentAt, LIMITS.leaseMs, LIMITS.selfFenceMarginMs);
    if (fenceAt <= run.fenceAt) return;
    run.fenceAt = fenceAt;
    const look = (): void => {
      if (!run.working || this.runs.get(`${run.entry.job}.${run.entry.attempt}`) !== run) return;
      if (run.fenceAt > fenceAt) return;
      // A timer may be early by the rounding of two clocks.
      if (this.live(run)) this.later(Math.ceil(fenceAt - this.monotonic) + 1, look);
      else this.fence(run);
    };
    this.later(fenceAt - this.monotonic, look);
  }
  private fence(run: Run): void {
    run.working = false;
    run.program = 0;
    this.drop(run.entry);
    this.next();
  }

  /** From the first step that is not done. */
  private work(run: Run): void {
    const { entry } = run;
    if (!run.working) return;
    if (run.stopping) {
      this.finish(run, { outcome: 'cancelled' });
      return;
    }
    const step = entry.steps.find(({ name }) => !entry.done.has(name));
    if (!step) {
      this.finish(run, this.ending());
      return;
    }
    if (!this.live(run)) {
      this.fence(run);
      return;
    }
    const crashed = entry.begun.has(step.name);
    entry.begun.add(step.name);
    // It looks first: what an earlier life has done is not done again.
    if (
      crashed &&
      this.effects.some(
        (each) =>
          each.job_id === entry.job &&
          each.attempt === entry.attempt &&
          each.step === step.name &&
          each.phase === 'done',
      )
    ) {
      entry.done.add(step.name);
      this.work(run);
      return;
    }
    const program = ++this.programs;
    run.program = program;
    this.effect(entry, step.name, 'began');
    // The program runs beside its agent: a pause does not stop it, a crash, a fence or its keeper does.
    const { lives } = this;
    this.clock.after(step.ms, () => {
      const kept = this.clock.now * this.rate < run.fenceAt + KEEPER_LATE_MS;
      if (run.program !== program || this.lives !== lives || !this.alive || !kept) return;
      this.effect(entry, step.name, 'done');
      this.soon(() => {
        if (run.program !== program) return;
        if (!this.live(run)) {
          this.fence(run);
          return;
        }
        entry.done.add(step.name);
        this.work(run);
      });
    });
  }

  private ending(): NonNullable<JournalEntry['result']> {
    return this.random.weighted([
      [90, { outcome: 'succeeded' }],
      [5, { outcome: 'failed', code: 'registry_unavailable' }],
      [2, { outcome: 'failed', code: 'apply_failed' }],
      [3, { outcome: 'deferred' }],
    ]);
  }

  private stop(run: Run): void {
    if (run.stopping) return;
    run.stopping = true;
    // SIGINT may be ignored; SIGKILL is not.
    this.later(this.random.chance(0.7) ? this.random.int(1, 200) : LIMITS.cancelSigkillMs, () => {
      if (!run.working) return;
      run.program = 0;
      if (this.live(run)) this.finish(run, { outcome: 'cancelled' });
      else this.fence(run);
    });
  }

  private finish(run: Run, result: NonNullable<JournalEntry['result']>): void {
    run.working = false;
    run.program = 0;
    run.entry.result = result;
    this.report(run.entry);
    this.next();
  }

  private report(entry: JournalEntry): void {
    const send = (): void => {
      if (this.journal.get(`${entry.job}.${entry.attempt}`) !== entry) return;
      this.ask(
        () => this.scheduler.result(this.id, entry.job, entry.attempt, entry.result ?? { outcome: 'failed' }),
        (receipt) => {
          if (receipt !== undefined) this.drop(entry);
        },
      );
      this.later(LIMITS.resultResendMs, send);
    };
    send();
  }

  private drop(entry: JournalEntry): void {
    this.journal.delete(`${entry.job}.${entry.attempt}`);
    this.runs.delete(`${entry.job}.${entry.attempt}`);
  }

  private renew(): void {
    const sentAt = this.monotonic;
    const { session } = this;
    const held = [...this.runs.values()];
    if (held.length === 0) return;
    this.ask(
      () => held.map(({ entry }): Renewal => this.scheduler.renew(this.id, session, entry.job, entry.attempt)),
      (answers) => {
        if (answers === undefined) return;
        held.forEach((run, i) => {
          if (answers[i] !== 'stale') this.extend(run, sentAt);
          if (!run.working) return;
          if (answers[i] === 'stale') this.fence(run);
          else if (answers[i] === 'cancelled') this.stop(run);
        });
      },
    );
  }

  private effect({ job, attempt }: JournalEntry, step: string, phase: 'began' | 'done'): void {
    this.effects.push({
      witness: 'world',
      job_id: job,
      attempt,
      step,
      phase,
      at: new Date(this.clock.now).toISOString(),
    });
  }
}
