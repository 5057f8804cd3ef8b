import { Cluster } from './cluster.js';
import { runJobs } from './jobs.js';
import type { Kinds } from './kinds.js';
import { collectGarbage, runDefinitions, runNamespaces, runProvisioning } from './lifecycle.js';
import { type AllowedImageHosts, runPods } from './pods.js';
import type { Store } from './store.js';
import { runDaemonSets, runDeployments, runReplicaSets, runStatefulSets } from './workloads.js';

/** Long enough that watchers see the states in between, short enough that a test does not wait. */
const TICK_MS = 10;
/** setTimeout takes at most 2^31-1 ms; later alarms are simply looked at again. */
const MAX_TIMER_MS = 86_400_000;

/**
 * Runs every controller after each change until nothing changes any more. All of them are level-based: they look at what
 * is, not at what happened, so a restart needs no memory.
 *
 * @returns a function that stops them
 */
export function startControllers(store: Store, kinds: Kinds, allowed: AllowedImageHosts | undefined): () => void {
  const cluster = new Cluster(store);
  let due: NodeJS.Timeout | undefined;
  let alarm: NodeJS.Timeout | undefined;
  let stopped = false;

  const tick = (): void => {
    due = undefined;
    clearTimeout(alarm);
    // Pods first: what a later controller makes in this tick moves in the next one.
    runPods(cluster, allowed);
    runReplicaSets(cluster);
    runDeployments(cluster);
    runStatefulSets(cluster);
    runDaemonSets(cluster);
    runJobs(cluster);
    runProvisioning(cluster);
    runDefinitions(cluster, kinds);
    collectGarbage(cluster);
    runNamespaces(cluster);
    const next = cluster.takeAlarm();
    if (next !== undefined && !stopped)
      alarm = setTimeout(soon, Math.min(Math.max(next - Date.now(), 0), MAX_TIMER_MS));
  };
  const soon = (): void => {
    if (!stopped) due ??= setTimeout(tick, TICK_MS);
  };
  const unsubscribe = store.subscribe(soon);
  soon();
  return () => {
    stopped = true;
    unsubscribe();
    clearTimeout(due);
    clearTimeout(alarm);
  };
}
