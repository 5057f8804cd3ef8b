import semver from 'semver';
import { ImsError, type ErrorCode } from '#contracts';

/** What of a release decides who may get it. */
export interface ReleaseFacts {
  readonly id: string;
  readonly version: string;
  /** RFC 3339. */
  readonly created_at: string;
  readonly required?: boolean | null;
  readonly rollback_floor?: string | null;
  readonly bad?: { readonly reason: string } | null;
}

/** Throws `invalid_request` for what is not a semantic version (`v1.2` and `1.2` are none: one version, one text). */
export function checkVersion(version: string, pointer: string): void {
  if (/^\d[0-9A-Za-z.+-]*$/.test(version) && semver.parse(version) !== null) return;
  const message = 'must be a semantic version, as 1.4.0 or 2.0.0-rc.1';
  throw new ImsError('invalid_request', `${pointer} ${message}`, [{ pointer, message }]);
}

/**
 * Which of two releases of an app is newer: below zero when `a` is the older. Semantic versions decide, then the time
 * (builds of one version, and texts of before versions were checked, which are older than every version).
 */
export function compareReleases(
  a: Pick<ReleaseFacts, 'version' | 'created_at'>,
  b: Pick<ReleaseFacts, 'version' | 'created_at'>,
): number {
  const [left, right] = [semver.parse(a.version), semver.parse(b.version)];
  const byVersion = left && right ? left.compare(right) : Number(left !== null) - Number(right !== null);
  return byVersion !== 0 ? byVersion : Date.parse(a.created_at) - Date.parse(b.created_at);
}

/** A move of one install to a release. */
export interface ReleaseMove {
  readonly target: ReleaseFacts;
  /** The release that it has now, whole; undefined before the first and after a teardown. */
  readonly installed?: ReleaseFacts | undefined;
  /** Every release whose deployment was ever begun here, also before a teardown. */
  readonly had: readonly ReleaseFacts[];
  /** Required releases of the app. */
  readonly required: readonly ReleaseFacts[];
  /** A person asked for an older release. */
  readonly rollback: boolean;
}
export interface MoveRefusal {
  readonly code: Extract<ErrorCode, 'release_bad' | 'release_downgraded' | 'release_required' | 'rollback_refused'>;
  readonly detail: string;
}

/**
 * Why the move must not be made; undefined when it may. Going back is for people to say: agents refuse it too, so a
 * replayed or forged job cannot bring an old fault back. What an install has already is never refused to it.
 */
export function refuseMove({ target, installed, had, required, rollback }: ReleaseMove): MoveRefusal | undefined {
  if (target.bad && target.id !== installed?.id) {
    return { code: 'release_bad', detail: `${target.version} (${target.id}): ${target.bad.reason}` };
  }
  const newer = had.filter((release) => compareReleases(release, target) > 0).toSorted((a, b) => compareReleases(b, a));
  const [newest] = newer;
  if (newest) {
    if (!rollback) {
      return { code: 'release_downgraded', detail: `this install has had ${newest.version} (${newest.id})` };
    }
    const barred = newer.find(({ rollback_floor: floor }) => floor && semver.gt(floor, target.version));
    if (barred) {
      const detail = `after ${barred.version} (${barred.id}) nothing below ${barred.rollback_floor ?? ''} may come`;
      return { code: 'rollback_refused', detail };
    }
    return undefined;
  }
  if (!installed) return undefined;
  const skipped = required
    .filter(
      (release) => !release.bad && compareReleases(release, installed) > 0 && compareReleases(release, target) < 0,
    )
    .toSorted(compareReleases)[0];
  if (!skipped) return undefined;
  return {
    code: 'release_required',
    detail: `${skipped.version} (${skipped.id}) comes between ${installed.version} and ${target.version}`,
  };
}
