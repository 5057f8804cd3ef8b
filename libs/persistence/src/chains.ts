import { hashEvent, type Event } from '#contracts';
import { eventOfRow } from './events.js';
import { type Query } from './outbox.js';

/** The last event of a chain: whoever kept it elsewhere can tell later that the chain up to it is still the same. */
export interface ChainHead {
  readonly seq: number;
  readonly hash: string;
}

/**
 * `missing`: an event between two others, or at the beginning. `relinked`: its predecessor is another one, so something
 * was reordered or replaced. `changed`: its own text. `truncated`: the service counted more events than there are.
 * `replaced`: it is not what it was when its hash was kept elsewhere.
 */
export interface ChainFault {
  readonly seq: number;
  readonly reason: 'missing' | 'relinked' | 'changed' | 'truncated' | 'replaced';
}

export interface CheckedChain {
  readonly chain: string;
  readonly events: number;
  readonly head: ChainHead;
  /** The first one: what comes after it proves nothing. */
  readonly fault?: ChainFault;
}

/** Checks one chain, event by event in their order; remembers nothing but the last one. */
class ChainCheck {
  events = 0;
  fault: ChainFault | undefined;
  private last: ChainHead;

  constructor(
    before: ChainHead = { seq: 0, hash: '' },
    private readonly kept?: ChainHead,
  ) {
    this.last = before;
  }

  get head(): ChainHead {
    return this.last;
  }

  take(event: Event): void {
    this.events += 1;
    if (this.fault) return;
    const { seq, hash } = this.last;
    if (event.seq !== seq + 1) this.fault = { seq: seq + 1, reason: 'missing' };
    else if (event.prev_hash !== hash) this.fault = { seq: event.seq, reason: 'relinked' };
    else if (hashEvent(hash, event) !== event.hash) this.fault = { seq: event.seq, reason: 'changed' };
    else if (event.seq === this.kept?.seq && event.hash !== this.kept.hash) {
      this.fault = { seq: event.seq, reason: 'replaced' };
    } else this.last = { seq: event.seq, hash: event.hash };
  }

  /** `stored`: what the service's own table says of the chain's end. */
  end(stored: ChainHead | undefined): void {
    if (this.fault) return;
    const { seq, hash } = this.last;
    const expected = Math.max(stored?.seq ?? 0, this.kept?.seq ?? 0);
    if (expected > seq) this.fault = { seq: seq + 1, reason: 'truncated' };
    else if (stored?.seq !== seq || stored.hash !== hash) this.fault = { seq, reason: 'replaced' };
  }
}

/**
 * The first place where events of one chain, in order, do not fit together; undefined when the chain is whole.
 * `before`: the last event of the part that has been checked already.
 */
export function findChainBreak(events: readonly Event[], before?: Event): ChainFault | undefined {
  const check = new ChainCheck(before);
  for (const event of events) check.take(event);
  return check.fault;
}

/** `bigint` comes as text where the driver has not been told otherwise. */
interface PageRow extends Record<string, unknown> {
  readonly chain: string;
  readonly seq: number | string;
  readonly head_seq: number | string | null;
  readonly head_hash: string | null;
}

const PAGE_ROWS = 2_000;

/**
 * Recomputes every chain of a service's schema, one after another, holding at most a page of events. Run it in one
 * REPEATABLE READ transaction, or events that are recorded meanwhile look like faults.
 *
 * Who can write the database can also make a chain anew from some event on, with all its hashes, and cut its end. Only
 * `kept` shows that: heads of an earlier run, which have to lie where the database's owner cannot write.
 */
export async function* checkChains(
  query: Query,
  kept: ReadonlyMap<string, ChainHead> = new Map(),
  pageRows = PAGE_ROWS,
): AsyncGenerator<CheckedChain> {
  const seen = new Set<string>();
  const checked = (chain: string, check: ChainCheck, stored: ChainHead | undefined): CheckedChain => {
    check.end(stored);
    if (kept.has(chain)) seen.add(chain);
    const { events, head, fault } = check;
    return { chain, events, head, ...(fault ? { fault } : {}) };
  };
  let open: { chain: string; check: ChainCheck; stored: ChainHead | undefined } | undefined;
  let after: readonly [string, number] = ['', 0];
  for (;;) {
    const rows = await query<PageRow>(
      `SELECT e.*, c.seq AS head_seq, c.hash AS head_hash FROM events e LEFT JOIN event_chains c USING (chain)
        WHERE (e.chain, e.seq) > ($1, $2) ORDER BY e.chain, e.seq LIMIT $3`,
      [...after, pageRows],
    );
    for (const { head_seq, head_hash, ...row } of rows) {
      if (open?.chain !== row.chain) {
        if (open) yield checked(open.chain, open.check, open.stored);
        const stored = head_seq === null ? undefined : { seq: Number(head_seq), hash: head_hash ?? '' };
        open = { chain: row.chain, check: new ChainCheck(undefined, kept.get(row.chain)), stored };
      }
      open.check.take(eventOfRow(row));
      after = [row.chain, Number(row.seq)];
    }
    if (rows.length < pageRows) break;
  }
  if (open) yield checked(open.chain, open.check, open.stored);
  // Chains of which every event is gone.
  const bare = await query<{ chain: string; seq: number | string; hash: string }>(
    `SELECT c.chain, c.seq, c.hash FROM event_chains c
      WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.chain = c.chain) ORDER BY c.chain`,
  );
  for (const { chain, seq, hash } of bare) yield checked(chain, new ChainCheck(), { seq: Number(seq), hash });
  for (const [chain, head] of kept)
    if (!seen.has(chain)) yield checked(chain, new ChainCheck(undefined, head), undefined);
}
