import { type ReactNode } from 'react';

export type Tone = 'good' | 'busy' | 'wait' | 'bad' | 'none';
interface Look {
  readonly tone: Tone;
  readonly label?: string;
  /** Something goes on: the dot breathes. */
  readonly live?: boolean;
}

/** Every status word of the API, in one place. A word that is not here is shown as it is, without a colour. */
const LOOKS: Readonly<Record<string, Look>> = {
  succeeded: { tone: 'good' },
  deployed: { tone: 'good' },
  healthy: { tone: 'good' },
  online: { tone: 'good' },
  redeemed: { tone: 'good' },
  done: { tone: 'good' },
  approved: { tone: 'good' },
  delivered: { tone: 'good' },
  active: { tone: 'good' },
  running: { tone: 'busy', live: true },
  deploying: { tone: 'busy', live: true },
  progressing: { tone: 'busy', live: true },
  started: { tone: 'busy', live: true },
  issued: { tone: 'busy' },
  queued: { tone: 'wait' },
  blocked: { tone: 'none' },
  pending: { tone: 'none' },
  waiting: { tone: 'wait' },
  held: { tone: 'wait' },
  parked: { tone: 'wait' },
  paused: { tone: 'wait' },
  draining: { tone: 'wait', live: true },
  drained: { tone: 'wait' },
  cancelling: { tone: 'wait', live: true },
  deferred: { tone: 'wait' },
  drifted: { tone: 'wait' },
  degraded: { tone: 'wait' },
  failed: { tone: 'bad' },
  lost: { tone: 'bad' },
  stopped: { tone: 'bad' },
  tampered: { tone: 'bad' },
  rejected: { tone: 'bad' },
  missing: { tone: 'bad' },
  bad: { tone: 'bad' },
  revoked: { tone: 'bad' },
  offline: { tone: 'bad' },
  never_enrolled: { tone: 'none', label: 'never enrolled' },
  cancelled: { tone: 'none' },
  skipped: { tone: 'none' },
  absent: { tone: 'none' },
  removed: { tone: 'none' },
  expired: { tone: 'none' },
  unknown: { tone: 'none' },
};

export const lookOf = (status: string): Look => LOOKS[status] ?? { tone: 'none' };
export const toneOf = (status: string): Tone => lookOf(status).tone;
export const toneStyle = (tone: Tone): Record<string, string> => ({ '--tone': `var(--tone-${tone})` });

/** A status as a dot and a word: the word carries it, the colour only helps. */
export function Status({ value, children }: { readonly value: string; readonly children?: ReactNode }) {
  const { tone, label, live } = lookOf(value);
  return (
    <span className="status">
      <span
        className="dot"
        style={toneStyle(tone)}
        data-live={live || undefined}
        data-hollow={tone === 'none' || undefined}
        aria-hidden
      />
      {children ?? label ?? value.replaceAll('_', ' ')}
    </span>
  );
}
