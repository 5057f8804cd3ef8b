import vm from 'node:vm';
import { ImsError, LOG_LEVELS, type LogFilter, type LogText } from '#contracts';
import { levelBit } from './log-frames.js';

/** Of one frame of 200 lines. A usual expression needs a tenth of a millisecond; one that backtracks has no end. */
const MATCH_MS = 100;

/** Tells which lines a filter wants. Throws `invalid_request` for an expression that is none or takes too long. */
export class LogMatcher {
  /** The levels that are wanted, as in `log_chunks.levels`. */
  readonly levels: number;
  private readonly since: number;
  private readonly until: number;
  private readonly needle: string | undefined;
  private readonly script: vm.Script | undefined;
  private readonly context: vm.Context | undefined;

  constructor(private readonly filter: LogFilter) {
    const wanted = LOG_LEVELS.slice(LOG_LEVELS.indexOf(filter.level ?? 'debug'));
    this.levels = wanted.reduce((bits, level) => bits | levelBit(level), 0);
    this.since = filter.since === undefined ? -Infinity : Date.parse(filter.since);
    this.until = filter.until === undefined ? Infinity : Date.parse(filter.until);
    if (filter.q === undefined || filter.regex !== true) this.needle = filter.q?.toLowerCase();
    else {
      this.context = vm.createContext({ expression: compiled(filter.q), texts: [] });
      this.script = new vm.Script('texts.map((text) => expression.test(text))');
    }
  }

  /** One answer a line. */
  matches(lines: readonly LogText[]): boolean[] {
    const texts = this.textsMatch(lines);
    return lines.map(({ at, level, step }, i) => {
      if ((levelBit(level) & this.levels) === 0) return false;
      if (this.filter.step !== undefined && step !== this.filter.step) return false;
      const time = Date.parse(at);
      return time >= this.since && time <= this.until && texts[i] === true;
    });
  }

  private textsMatch(lines: readonly LogText[]): readonly boolean[] {
    const { needle, script, context } = this;
    if (script === undefined || context === undefined) {
      return lines.map(({ text }) => needle === undefined || text.toLowerCase().includes(needle));
    }
    context['texts'] = lines.map(({ text }) => text);
    try {
      // Here and not in the open: a regular expression cannot be stopped otherwise.
      return script.runInContext(context, { timeout: MATCH_MS }) as boolean[];
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
      throw badExpression('takes too long over a line of this log: avoid nested repetitions');
    }
  }
}

function compiled(source: string): RegExp {
  try {
    return new RegExp(source, 'iu');
  } catch (error) {
    throw badExpression(`is not a regular expression: ${(error as Error).message}`);
  }
}

const badExpression = (message: string): ImsError =>
  new ImsError('invalid_request', `/q ${message}`, [{ pointer: '/q', message }]);
