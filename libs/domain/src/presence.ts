import { type PRESENCES } from '#contracts';
import { defineMachine } from './machine.js';

export type Presence = (typeof PRESENCES)[number];

/** Nothing is final here: a revoked agent may be enrolled again, with a new key. */
export const presenceMachine = defineMachine<Presence, 'enrol' | 'seen' | 'silent' | 'revoke'>({
  name: 'presence',
  initial: ['never_enrolled'],
  finals: [],
  from: {
    never_enrolled: { enrol: 'offline', revoke: 'revoked' },
    offline: { enrol: 'offline', seen: 'online', revoke: 'revoked' },
    online: { enrol: 'offline', silent: 'offline', revoke: 'revoked' },
    revoked: { enrol: 'offline' },
  },
});

/**
 * Whether an agent counts as gone. Both times are milliseconds of the same monotonic clock. `listeningSince`: since
 * when beats could be heard at all; a service that has just started, or was cut off, must not call anybody gone.
 */
export function isSilent(
  lastBeat: number | undefined,
  listeningSince: number,
  now: number,
  offlineAfterMs: number,
): boolean {
  return now - Math.max(lastBeat ?? -Infinity, listeningSince) > offlineAfterMs;
}
