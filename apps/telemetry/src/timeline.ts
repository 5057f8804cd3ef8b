import { Injectable } from '@nestjs/common';
import {
  HISTORY_KINDS,
  listTimeline,
  type Event,
  type HistoryEntry,
  type HistoryPage,
  type ListTimeline,
} from '#contracts';
import { Serves } from '#messaging';
import { Database, decodeCursor, limitOf, pageOf } from '#persistence';

type Kind = HistoryEntry['kind'];
/** First part of a fact's type, where it is not the kind itself. */
const KINDS: Readonly<Record<string, Kind>> = { pull_token: 'token', approval: 'plan', attempt: 'job' };

const kindOf = ({ type }: Pick<Event, 'type'>): Kind => {
  const [area = ''] = type.split('.');
  return KINDS[area] ?? HISTORY_KINDS.find((kind) => kind === area) ?? 'other';
};

/** What is worth a word beside a fact's type, in this order. */
const TOLD = ['component', 'kind', 'attempt', 'status', 'version', 'release_id', 'plan_digest', 'code'] as const;

/** A fact as one sentence: `job created: web, apply, queued`. */
export function titleOf({ type, data }: Pick<Event, 'type' | 'data'>): string {
  const words = TOLD.flatMap((key) => {
    const value = data[key];
    if (typeof value !== 'string' && typeof value !== 'number') return [];
    return [key === 'attempt' ? `attempt ${value}` : String(value)];
  });
  const what = type.replaceAll(/[._]/g, ' ');
  return `${what}${words.length === 0 ? '' : `: ${words.join(', ')}`}`.slice(0, 300);
}

/** The course of an install, for people and for those who keep a copy: every fact once, in the order of arrival. */
@Injectable()
export class Timeline {
  constructor(private readonly database: Database) {}

  @Serves(listTimeline)
  async list(query: ListTimeline): Promise<HistoryPage> {
    const { vendor_id, install_id, kind, since, until, cursor } = query;
    const [xid, position] = decodeCursor(cursor, 2) ?? ['0', '0'];
    const limit = limitOf(query);
    const rows = await this.database.query<{ event: Event; key: [string, string] }>(
      `SELECT event, ARRAY[xid::text, position::text] AS key FROM facts
        WHERE vendor_id = $1 AND install_id = $2 AND (xid, position) > ($3::text::xid8, $4::text::bigint)
          -- What is older than every transaction that is still running: nothing can come before it any more.
          AND xid < pg_snapshot_xmin(pg_current_snapshot())
          AND ($5::timestamptz IS NULL OR (event->>'at')::timestamptz >= $5)
          AND ($6::timestamptz IS NULL OR (event->>'at')::timestamptz <= $6)
          AND ($7::text[] IS NULL OR split_part(event->>'type', '.', 1) = ANY($7))
        ORDER BY xid, position LIMIT ${limit + 1}`,
      [
        vendor_id,
        install_id,
        digits(xid),
        digits(position),
        since ?? null,
        until ?? null,
        kind === undefined ? null : areasOf(kind),
      ],
    );
    const { data, next_cursor } = pageOf(rows, limit, ({ key }) => key);
    const last = data.at(-1)?.key ?? [digits(xid), digits(position)];
    return {
      data: data.map(({ event }) => ({
        id: event.id,
        at: event.at,
        kind: kindOf(event),
        title: titleOf(event),
        event,
      })),
      ...(next_cursor === undefined ? {} : { next_cursor }),
      resume_cursor: Buffer.from(JSON.stringify(last)).toString('base64url'),
    };
  }
}

const areasOf = (kind: Kind): string[] => [
  kind,
  ...Object.entries(KINDS).flatMap(([area, of]) => (of === kind ? [area] : [])),
];
const digits = (text: string | undefined): string => (/^\d{1,19}$/.test(text ?? '') ? (text ?? '0') : '0');
