import { type AnyContract } from '#contracts';
import { type Metrics } from '#platform';
import { labelOf } from './wire.js';

/** What the adapter counts. `result`: `ok` or an error code for calls; `ack`, `nak`, `dead` for stream messages. */
export type Observe = (contract: AnyContract, result: string, startedMs: number) => void;

/** 1 ms to 30 s: a call has at most 10 s, a stream handler as long as it needs. */
const BUCKETS = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 30];

export function observerOf(metrics: Metrics): Observe {
  const handled = metrics.counter({
    name: 'ims_messages_handled_total',
    help: 'Messages handled, by contract and result.',
    labels: ['contract', 'result'],
  });
  const seconds = metrics.histogram({
    name: 'ims_message_handling_seconds',
    help: 'Time in the handler of a message.',
    labels: ['contract'],
    buckets: BUCKETS,
  });
  return (contract, result, startedMs) => {
    handled.inc({ contract: labelOf(contract), result });
    seconds.observe({ contract: labelOf(contract) }, (performance.now() - startedMs) / 1000);
  };
}
