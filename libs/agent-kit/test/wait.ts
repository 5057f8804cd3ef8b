import { setTimeout as delay } from 'node:timers/promises';

/** Resolves as soon as the condition holds; throws when it does not within the time. */
export async function waitFor(condition: () => boolean | Promise<boolean>, withinMs = 90_000): Promise<void> {
  const until = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > until) throw new Error(`not within ${withinMs} ms: ${condition.toString()}`);
    await delay(5);
  }
}
