import { useEffect, useState, type ReactNode } from 'react';
import { ActionIcon, CopyButton, Tooltip } from '@mantine/core';
import { Link } from 'react-router';

const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 86_400;

/** `4 s`, `3 min`, `2 h`, `5 d`. */
function roughly(seconds: number): string {
  if (seconds < MINUTE_S) return `${Math.floor(seconds)} s`;
  if (seconds < HOUR_S) return `${Math.floor(seconds / MINUTE_S)} min`;
  if (seconds < 2 * DAY_S) return `${Math.floor(seconds / HOUR_S)} h`;
  return `${Math.floor(seconds / DAY_S)} d`;
}

/** Milliseconds as people read them: `240 ms`, `3.2 s`, `2 min 5 s`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < MINUTE_S * 1000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < HOUR_S) return `${Math.floor(seconds / MINUTE_S)} min ${seconds % MINUTE_S} s`;
  return `${Math.floor(seconds / HOUR_S)} h ${Math.floor((seconds % HOUR_S) / MINUTE_S)} min`;
}

export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit] ?? ''}`;
}

/** The present time, new every so often. */
export function useNow(everyMs: number): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** How long ago; the exact time on hover. */
export function Ago({ at }: { readonly at: string | undefined }) {
  const now = useNow(10_000);
  if (at === undefined) return <span className="muted">never</span>;
  const seconds = (now - Date.parse(at)) / 1000;
  const text = seconds < -1 ? `in ${roughly(-seconds)}` : seconds < 5 ? 'just now' : `${roughly(seconds)} ago`;
  return (
    <time dateTime={at} title={new Date(at).toLocaleString()} className="nowrap">
      {text}
    </time>
  );
}

/** From a beginning to an end, or to now. */
export function Took({ from, to }: { readonly from: string | undefined; readonly to: string | undefined }) {
  const now = useNow(1_000);
  if (from === undefined) return <span className="muted">–</span>;
  return (
    <span className="nowrap">
      {duration((to === undefined ? Math.max(now, Date.parse(from)) : Date.parse(to)) - Date.parse(from))}
    </span>
  );
}

export function Copy({ text, label }: { readonly text: string; readonly label: string }) {
  return (
    <CopyButton value={text}>
      {({ copied, copy }) => (
        <Tooltip label={copied ? 'copied' : label}>
          <ActionIcon variant="subtle" color="gray" size="xs" onClick={copy} aria-label={label}>
            <svg
              width="12"
              height="12"
              viewBox="0 0 16 16"
              fill="none"
              stroke="currentColor"
              strokeWidth="1.6"
              aria-hidden
            >
              {copied ? (
                <path d="m3 8.500 3.500 3.500L13 5" />
              ) : (
                <>
                  <rect x="5.500" y="5.500" width="8" height="8" rx="1.500" />
                  <path d="M10.500 5.500v-2a1 1 0 0 0-1-1h-6a1 1 0 0 0-1 1v6a1 1 0 0 0 1 1h2" />
                </>
              )}
            </svg>
          </ActionIcon>
        </Tooltip>
      )}
    </CopyButton>
  );
}

/** An id, short; the whole of it is copied. Ids of one minute begin alike, so the end is shown. */
export function Id({ id, to }: { readonly id: string; readonly to?: string }) {
  const [kind = '', rest = ''] = id.split('_');
  const short = <span className="mono">{`${kind}_…${rest.slice(-6)}`}</span>;
  return (
    <span className="nowrap">
      {to === undefined ? (
        <span title={id}>{short}</span>
      ) : (
        <Link to={to} title={id} className="link">
          {short}
        </Link>
      )}{' '}
      <Copy text={id} label={`copy ${id}`} />
    </span>
  );
}

/** The first digits of a digest; the whole of it is copied. */
export function DigestOf({ digest }: { readonly digest: string }) {
  return (
    <span className="nowrap">
      <span className="mono" title={digest}>
        {digest.replace('sha256:', '').slice(0, 12)}
      </span>{' '}
      <Copy text={digest} label="copy the digest" />
    </span>
  );
}

/** Names beside values; what is undefined is left out. */
export function Facts({ facts }: { readonly facts: Readonly<Record<string, ReactNode>> }) {
  return (
    <dl className="facts">
      {Object.entries(facts)
        .filter(([, value]) => value !== undefined)
        .map(([name, value]) => (
          <div key={name}>
            <dt className="muted">{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

/** Any JSON value as text. */
export const plain = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

/** What did `key:key_…`, `agent:agt_…`, `service:…` something, short. */
export function Actor({ actor }: { readonly actor: string }) {
  const [kind = '', id = ''] = actor.split(':');
  const short = id.includes('_') ? `…${id.slice(-6)}` : id;
  return (
    <span className="nowrap" title={actor}>
      {kind} <span className="mono">{short}</span>
    </span>
  );
}
