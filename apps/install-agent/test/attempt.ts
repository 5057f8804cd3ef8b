import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  Processes,
  Redactor,
  type JobHandler,
  type ProposedPlan,
  type StepContext,
  type StepDefinition,
} from '#agent-kit';
import { ImsError, type Envelope, type JobStatement, type JsonObject } from '#contracts';
import { cleanedChanges } from '#domain';

/** Resolves as soon as the condition holds; throws when it does not within the time. */
export async function waitFor(condition: () => boolean | Promise<boolean>, withinMs = 90_000): Promise<void> {
  const until = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > until) throw new Error(`not within ${withinMs} ms: ${condition.toString()}`);
    await delay(10);
  }
}

/**
 * One attempt as the job loop runs it (journal in memory, real processes, the real redactor), with a crash where the
 * test wants one: everything that was started is killed at once, and another life goes on from the journal.
 */
export class Attempt {
  /** The log, as it would be shipped. */
  readonly log: string[] = [];
  /** Every command that was run: program and arguments. */
  readonly commands: string[][] = [];
  /** What the customer's policy would be asked about. */
  proposed: ProposedPlan | undefined;
  readonly outputs: Record<string, JsonObject> = {};
  private readonly started = new Set<string>();
  private readonly redactor = new Redactor();
  readonly workspace: string;

  constructor(
    dir: string,
    private readonly handler: JobHandler,
    private readonly order: { readonly statement: JobStatement; readonly envelope: Envelope },
  ) {
    this.workspace = join(dir, 'work', order.statement.job_id);
  }

  /** To the end; the result. */
  async run(): Promise<JsonObject> {
    for (const step of await this.left()) await this.step(step);
    return this.handler.result(this.outputs).result;
  }

  /** Up to the named step, which is not begun: the agent ends between two steps. */
  async runBefore(name: string): Promise<this> {
    for (const step of await this.left()) {
      if (step.name === name) break;
      await this.step(step);
    }
    return this;
  }

  /** Into the named step; killed as soon as the condition holds. */
  async crashIn(name: string, when: () => boolean | Promise<boolean>): Promise<this> {
    await this.runBefore(name);
    const [step] = await this.left();
    if (!step) throw new Error(`there is no step ${name}`);
    const life = new Life(this.workspace);
    const end = this.step(step, life).then(
      () => 'ended',
      () => 'cut',
    );
    await waitFor(when);
    await life.cut();
    if ((await end) === 'ended') throw new Error(`${name} had ended before it was cut`);
    return this;
  }

  /**
   * Into the named step, and killed when its `nth` program has been started. A step with fewer programs is killed when it
   * has done all and nothing of that is journalled, which is the other end of what a crash can be.
   */
  async crashAt(name: string, nth: number): Promise<this> {
    await this.runBefore(name);
    await this.endAt(name, nth, (life) => life.cut());
    return this;
  }

  /** Into the named step, and cancelled when its `nth` program has been started. The code that it ends with. */
  async cancelAt(name: string, nth: number): Promise<string> {
    await this.runBefore(name);
    return this.endAt(name, nth, (life) => life.cancel());
  }

  private async endAt(name: string, nth: number, end: (life: Life) => Promise<void>): Promise<string> {
    const step = (await this.left()).find((each) => each.name === name);
    if (!step) throw new Error(`there is no step ${name}`);
    const life = new Life(this.workspace);
    const from = this.commands.length;
    let over: string | undefined;
    const running = this.step(step, life, false).then(
      () => (over = 'done'),
      (thrown: unknown) => (over = ImsError.of(thrown).code),
    );
    await waitFor(() => over !== undefined || this.commands.length >= from + nth, 120_000);
    await end(life);
    return running;
  }

  /** The code and detail of the failure, as the result would have it. */
  async failure(): Promise<{ code: string; detail: string }> {
    try {
      await this.run();
    } catch (thrown) {
      if (!(thrown instanceof ImsError)) throw thrown;
      return { code: thrown.code, detail: this.redactor.redact(thrown.detail) };
    }
    throw new Error('the job succeeded');
  }

  /** Names of the programs that were run, with their first word: `kubectl get`. */
  get calls(): string[] {
    return this.commands.map(([program = '', ...args]) => {
      const words = args.filter((_, at) => args[at] !== '--namespace' && args[at - 1] !== '--namespace');
      return `${program.split('/').at(-1) ?? ''} ${words[0] ?? ''}`;
    });
  }

  private async left(): Promise<StepDefinition[]> {
    const steps = await this.handler.steps(this.order.statement);
    return steps.filter(({ name }) => this.outputs[name] === undefined);
  }

  /** `journal: false`: what it answers is lost, as when the agent ends before it is written. */
  private async step(step: StepDefinition, life = new Life(this.workspace), journal = true): Promise<void> {
    const crashed = this.started.has(step.name);
    this.started.add(step.name);
    await mkdir(this.workspace, { recursive: true, mode: 0o700 });
    const output = (await step.run(this.context(life, crashed))) ?? {};
    if (journal) this.outputs[step.name] = output;
  }

  private context(life: Life, crashed: boolean): StepContext {
    return {
      ...this.order,
      attempt: this.order.statement.attempt,
      workspace: this.workspace,
      signal: life.signal,
      crashed,
      secrets: { add: (value) => this.redactor.add(value), hide: (text) => this.redactor.redact(text) },
      log: (_, text) => this.log.push(this.redactor.redact(text)),
      outputOf: (name) => this.outputs[name],
      propose: (plan) => {
        const clean = (text: string): string => this.redactor.redact(text);
        const { changes, ...rest } = plan;
        const cleaned = changes === undefined ? {} : { changes: cleanedChanges(changes, clean) };
        this.proposed = { ...rest, text: clean(plan.text), ...cleaned };
        return Promise.resolve();
      },
      run: async ({ onLine = (line: string) => line, level: _level, ...command }) => {
        this.commands.push([command.command, ...command.args]);
        return life.processes.run({
          cwd: this.workspace,
          ...command,
          signal: life.signal,
          onLine: (stream, line) => {
            const shown = onLine(line, stream);
            if (shown !== undefined) this.log.push(this.redactor.redact(shown));
          },
        });
      },
    };
  }
}

/** One life of the agent's process. */
class Life {
  readonly processes: Processes;
  private readonly abort = new AbortController();

  constructor(home: string) {
    this.processes = new Processes({ home });
  }

  get signal(): AbortSignal {
    return this.abort.signal;
  }

  /** As the job loop does: programs get the polite signals, and their time. */
  async cancel(): Promise<void> {
    this.abort.abort(new ImsError('cancelled'));
    return Promise.resolve();
  }

  async cut(): Promise<void> {
    this.processes.killNow();
    this.abort.abort(new ImsError('unavailable', 'the agent was killed'));
    await this.processes.dispose();
  }
}
