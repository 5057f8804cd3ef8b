import { newId, type Renew, type Renewed, type StopOrder } from '#contracts';
import { type Bus } from '#messaging';
import { waitFor } from '../test/wait.js';
import { Lease, Leases } from './leases.js';

class Holder {
  fenced = 0;
  readonly orders: StopOrder[] = [];
  fence = (): void => {
    this.fenced += 1;
  };
  stop = (order: StopOrder): void => void this.orders.push(order);
}
const lease = (holder: Holder, marginMs = 5): Lease => new Lease(newId('job'), 1, holder, marginMs);

it('is always fenced, and never while it is live, whatever the fraction of a millisecond', async () => {
  const holders = Array.from({ length: 200 }, (_, i) => {
    const holder = new Holder();
    const one = lease(holder);
    one.extend(performance.now(), 30 + i / 7);
    holder.fence = () => {
      expect(one.live).toBe(false);
      holder.fenced += 1;
    };
    return holder;
  });
  await waitFor(() => holders.every(({ fenced }) => fenced === 1), 2_000);
});

it('counts from before the request, only ever grows, and is over once released', () => {
  const holder = new Holder();
  const one = lease(holder, 1_000);
  const now = performance.now();
  one.extend(now - 5_000, 5_500);
  expect(one.live).toBe(false);
  one.extend(now, 60_000);
  one.extend(now - 50_000, 60_000);
  expect(one.live).toBe(true);
  one.release();
  expect(one.live).toBe(false);
  one.extend(now, 120_000);
  expect(one.live).toBe(false);
});

it('that waits for a receipt is renewed but has nothing to stop', async () => {
  const holder = new Holder();
  const one = lease(holder, 0);
  one.extend(performance.now(), 10);
  one.workOver();
  one.stop({ job_id: one.jobId, attempt: 1, code: 'stale_attempt', force: false, reason: '' });
  const other = new Holder();
  lease(other, 0).extend(performance.now(), 20);
  await waitFor(() => other.fenced === 1);
  expect([holder.fenced, holder.orders]).toEqual([0, []]);
});

it('all go in one message; a failed one is tried again before the next beat', async () => {
  const asked: Renew[] = [];
  let failures = 1;
  const call = (_: unknown, renew: Renew): Promise<Renewed> => {
    asked.push(renew);
    if (failures-- > 0) return Promise.reject(new Error('lost'));
    const [first] = renew.leases;
    const stop = [{ ...first!, code: 'cancelled' as const, force: false, reason: 'asked' }];
    return Promise.resolve({ lease_ms: 60_000, stop });
  };
  let beats = 0;
  const bus = { call, signal: () => (beats += 1) } as unknown as Bus;
  const leases = new Leases(bus, newId('agent'), 'session-1', { beatMs: 200, marginMs: 0 });
  const holders = [new Holder(), new Holder()];
  const held = holders.map((holder) =>
    leases.hold({ jobId: newId('job'), attempt: 1 }, holder, performance.now(), 30_000),
  );
  leases.start();
  await waitFor(() => asked.length === 2);
  expect(beats).toBe(1);
  expect(asked[1]).toEqual({
    session_id: 'session-1',
    leases: held.map(({ jobId }) => ({ job_id: jobId, attempt: 1 })),
  });
  await waitFor(() => holders[0]!.orders.length === 1);
  expect(holders[1]!.orders).toEqual([]);
  // One that is cancelled keeps its lease until it has stopped.
  expect(held.every(({ live }) => live)).toBe(true);
  leases.stop();
  expect(held.some(({ live }) => live)).toBe(false);
});
