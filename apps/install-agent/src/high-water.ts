import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { privateDirectory, writePrivate } from '#agent-kit';
import { ImsError, type JobStatement, type StatementRelease } from '#contracts';
import { compareReleases } from '#domain';

/** The newest that was begun for one component. */
interface Mark {
  readonly issued_at: string;
  readonly release?: StatementRelease;
}

/**
 * What this agent has done, as a line that nothing goes below: a job that was signed before the last one that was begun
 * for its component is a replay, and an older release is a downgrade unless the signed job says `rollback`. It is kept
 * on this host (`high-water.json`), so an IMS that was taken over or restored from a backup cannot bring an old fault
 * back unnoticed. A teardown does not lower it.
 */
export class HighWater {
  private readonly file: string;
  private marks: Promise<Map<string, Mark>> | undefined;
  private writing: Promise<void> = Promise.resolve();

  constructor(private readonly stateDir: string) {
    this.file = join(stateDir, 'high-water.json');
  }

  /** Throws `statement_refused` for a job that is too old, `release_downgraded` for a release that is. */
  async check({ component, issued_at, kind, release, rollback }: JobStatement): Promise<void> {
    const mark = (await this.read()).get(component.name);
    if (mark === undefined) return;
    if (Date.parse(issued_at) < Date.parse(mark.issued_at)) {
      throw new ImsError(
        'statement_refused',
        `the job statement is refused: it was signed at ${issued_at}, before the last job of ${component.name} (${mark.issued_at})`,
      );
    }
    // A teardown names the release that it takes away.
    if (kind === 'destroy' || rollback === true || mark.release === undefined) return;
    if (release === undefined || compareReleases(release, mark.release) < 0) {
      const asked = release === undefined ? 'a job without a release' : `release ${release.version}`;
      throw new ImsError(
        'release_downgraded',
        `${asked} is older than ${mark.release.version} (${mark.release.id}), which ${component.name} has had here`,
      );
    }
  }

  /** To be called before the first effect. On disk when it resolves. */
  async raise({ component, issued_at, kind, release }: JobStatement): Promise<void> {
    const marks = await this.read();
    const before = marks.get(component.name);
    const newest = kind === 'destroy' ? before?.release : (release ?? before?.release);
    marks.set(component.name, { issued_at, ...(newest === undefined ? {} : { release: newest }) });
    this.writing = this.writing
      .catch(() => undefined)
      .then(async () => {
        await privateDirectory(this.stateDir);
        await writePrivate(this.file, JSON.stringify(Object.fromEntries(marks)));
      });
    await this.writing;
  }

  private read(): Promise<Map<string, Mark>> {
    this.marks ??= this.load();
    return this.marks;
  }

  private async load(): Promise<Map<string, Mark>> {
    if (!existsSync(this.file)) return new Map();
    return new Map(Object.entries(JSON.parse(await readFile(this.file, 'utf8')) as Record<string, Mark>));
  }
}
