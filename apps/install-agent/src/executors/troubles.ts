import { sleep } from '#platform';
import { type ExecutorContext } from '../executor.js';
import { byNamespace, type Kubectl } from './kubectl.js';
import { type KubeObject } from './objects.js';
import { troublesOf } from './readiness.js';

/** A wait that takes longer than this says in the log what it waits for, and again when that changes. */
const FIRST_MS = 1_500;
const NEXT_MS = 5_000;

/** Looks at the pods of workloads while they are waited for, so that a failure can name its cause (an image, an exit code). */
export class Troubles {
  /** What was seen last; pods of a job that ran out of time, or of what was rolled back, are gone by the end. */
  seen: readonly string[] = [];
  private due = performance.now() + FIRST_MS;

  constructor(
    private readonly kubectl: Kubectl,
    private readonly context: ExecutorContext,
  ) {}

  get isDue(): boolean {
    return performance.now() > this.due;
  }

  async look(workloads: readonly KubeObject[]): Promise<void> {
    const { context, kubectl } = this;
    const found: string[] = [];
    for (const [namespace, members] of byNamespace(workloads, context.namespace)) {
      const pods = await kubectl.pods(context, namespace, 'apply_failed');
      found.push(...members.flatMap((object) => troublesOf(object, pods)));
    }
    for (const trouble of found) if (!this.seen.includes(trouble)) context.step.log('warn', trouble);
    if (found.length > 0) this.seen = found;
    this.due = performance.now() + NEXT_MS;
  }

  /** Looks again and again until the work is done, however that ends. */
  async during<T>(work: Promise<T>, workloads: readonly KubeObject[]): Promise<T> {
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.context.step.signal]);
    const watch = async (): Promise<void> => {
      while (!signal.aborted) {
        await sleep(Math.max(0, this.due - performance.now()), signal);
        await this.look(workloads);
      }
    };
    // What is waited for is the work; a look that fails or is cut costs an explanation.
    const watching = watch().catch(() => undefined);
    try {
      return await work;
    } finally {
      stop.abort();
      await watching;
    }
  }
}
