import { ImsError } from '#contracts';
import { RestProblem } from '../local/rest.js';

/** One thing that the attacker tried, and how it ended. */
export interface Line {
  readonly what: string;
  /** `then`: not the attacker, but what its victim does afterwards. */
  readonly end: 'got' | 'refused' | 'then';
  /** refused: the error code, or the rule where no code is answered. got: what it is worth. then: what comes of it. */
  readonly by: string;
  /** False: it ended in another way than the drill says that it must. */
  readonly expected: boolean;
}

/** What one drill showed. */
export interface Findings {
  readonly drill: string;
  /** What the attacker had to begin with. */
  readonly had: string;
  readonly lines: readonly Line[];
}

/** A refusal that comes without an error code: a search that finds nothing, a subject that NATS denies. */
export class Refused extends Error {
  constructor(readonly rule: string) {
    super(rule);
  }
}

/** The code or rule of a refusal; undefined for everything else, which is a fault of the drill and not an outcome. */
function refusalOf(thrown: unknown): string | undefined {
  if (thrown instanceof Refused) return thrown.rule;
  if (thrown instanceof ImsError || thrown instanceof RestProblem) return thrown.code;
  return undefined;
}

/**
 * Plays one attack, line by line. Each line says beforehand how it must end; a drill that ends otherwise goes on, so
 * that the list is whole, and is not as expected.
 */
export class Play {
  readonly lines: Line[] = [];

  constructor(
    private readonly drill: string,
    private readonly had: string,
    private readonly onLine: (line: Line) => void,
  ) {}

  /** The attacker gets this, and we say so. */
  async got(what: string, worth: string, act: () => Promise<unknown>): Promise<void> {
    const refusal = await this.outcome(act);
    this.note({ what, end: refusal === undefined ? 'got' : 'refused', by: refusal ?? worth }, refusal === undefined);
  }

  /** This must fail, by this code or rule. */
  async refused(what: string, by: string, act: () => Promise<unknown>): Promise<void> {
    const refusal = await this.outcome(act);
    this.note(
      { what, end: refusal === undefined ? 'got' : 'refused', by: refusal ?? 'it went through' },
      refusal === by,
    );
  }

  /** What those do who were attacked; it must succeed. */
  async then(what: string, comes: string, act: () => Promise<unknown>): Promise<void> {
    const refusal = await this.outcome(act);
    this.note({ what, end: 'then', by: refusal ?? comes }, refusal === undefined);
  }

  get findings(): Findings {
    return { drill: this.drill, had: this.had, lines: this.lines };
  }

  private async outcome(act: () => Promise<unknown>): Promise<string | undefined> {
    try {
      await act();
      return undefined;
    } catch (thrown) {
      const refusal = refusalOf(thrown);
      if (refusal === undefined) throw thrown;
      return refusal;
    }
  }

  private note(line: Omit<Line, 'expected'>, expected: boolean): void {
    const noted = { ...line, expected };
    this.lines.push(noted);
    this.onLine(noted);
  }
}

/** Looks again until there is an answer that is neither undefined nor false; throws, naming what, after `limitMs`. */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  limitMs = 120_000,
): Promise<Exclude<T, undefined | false>> {
  const end = performance.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found as Exclude<T, undefined | false>;
    if (performance.now() > end) throw new Error(`waited ${limitMs / 1000} s in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
}

/** Passes when it is there: what the attacker gets by looking. */
export const found = (there: boolean): Promise<void> =>
  there ? Promise.resolve() : Promise.reject(new Refused('not there'));
/** Refused, by this rule, when it is not there. */
export const absent = (there: boolean, rule: string): Promise<void> =>
  there ? Promise.resolve() : Promise.reject(new Refused(rule));
