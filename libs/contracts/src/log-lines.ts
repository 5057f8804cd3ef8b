import { createHash } from 'node:crypto';
import { Flag, IdOf, Int, ListOf, OneOf, Optional, parse, Text, Time } from './fields.js';
import { isId, type AgentId, type JobId } from './ids.js';
import { LIMITS } from './limits.js';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevelName = (typeof LOG_LEVELS)[number];
export class LogText {
  @Time() at: string;
  @OneOf(LOG_LEVELS) level: LogLevelName;
  @Text(0, 40) step: string;
  @Text(0, LIMITS.logLineBytes) text: string;
}
/** Consecutive lines of one attempt; `first_seq` numbers the first, from 1. Sent again unchanged after a crash. */
export class LogFrame {
  @IdOf('job') job_id: JobId;
  @Int(1, 1_000_000) attempt: number;
  @Int(1, Number.MAX_SAFE_INTEGER) first_seq: number;
  @ListOf(() => LogText, LIMITS.logFrameLines) lines: LogText[];
  /** True on the last frame of the attempt. */
  @Flag() last: boolean;
  /** SHA-256 (base64url) of the bytes of the attempt's frame before this one; absent on the first. */
  @Optional() @Text(43, 43) prev?: string;
}

/** The link of an attempt's chain: of the bytes of a frame, named by the next one as `prev`. */
export const hashLogFrame = (bytes: Uint8Array | string): string =>
  createHash('sha256').update(bytes).digest('base64url');

export class LogLine extends LogText {
  @Int(1, 1_000_000) attempt: number;
  @Int(1, Number.MAX_SAFE_INTEGER) seq: number;
}
export class ReadLogs {
  @IdOf('job') job_id: JobId;
  /** The job's agent: lines that another agent sent under this job id are not shown. */
  @IdOf('agent') agent_id: AgentId;
  /** Position after which to go on: `<attempt>.<seq>`, the SSE id. */
  @Optional() @Text(3, 40) after?: string;
  @Optional() @Int(1, 5000) limit?: number;
}
export class LogPage {
  @ListOf(() => LogLine, 5000) data: LogLine[];
  /** Position of the last line given; the same as `after` when there was none. */
  @Optional() @Text(3, 40) position?: string;
  /** More lines are already there. */
  @Flag() more: boolean;
  /** The highest attempt whose last frame is stored: a reader that has its lines has them all. Absent: none yet. */
  @Optional() @Int(1, 1_000_000) ended_attempt?: number;
}

/*
 * The general check by decorators takes 21 ms for a frame of 200 lines, which would hold a replica at 10,000 lines a
 * second. These two let pass what is plainly right in 0.05 ms, and leave everything else, and the wording of what is
 * wrong, to the general check: what they accept it accepts too, with the same result.
 */

/** A log frame as `parse` would give it. Throws as `parse` does. */
export function readLogFrame(value: unknown): LogFrame {
  const frame = value as Partial<LogFrame> | null;
  const plain =
    isObjectOf(frame, FRAME_KEYS) &&
    isId('job', frame.job_id) &&
    isCount(frame.attempt, 1_000_000) &&
    isCount(frame.first_seq, Number.MAX_SAFE_INTEGER) &&
    typeof frame.last === 'boolean' &&
    (frame.prev === undefined || (typeof frame.prev === 'string' && frame.prev.length === 43)) &&
    Array.isArray(frame.lines) &&
    frame.lines.length <= LIMITS.logFrameLines &&
    frame.lines.every((line) => isObjectOf(line, TEXT_KEYS) && isText(line));
  return plain ? (frame as LogFrame) : parse(LogFrame, value, 'tolerant');
}

/** A page of log lines as `parse` would give it. Throws as `parse` does. */
export function readLogPage(value: unknown): LogPage {
  const page = value as Partial<LogPage> | null;
  const plain =
    isObjectOf(page, PAGE_KEYS) &&
    typeof page.more === 'boolean' &&
    (page.position === undefined || isString(page.position, 3, 40)) &&
    (page.ended_attempt === undefined || isCount(page.ended_attempt, 1_000_000)) &&
    Array.isArray(page.data) &&
    page.data.length <= 5000 &&
    page.data.every(
      (line) =>
        isObjectOf(line, LINE_KEYS) &&
        isCount(line.attempt, 1_000_000) &&
        isCount(line.seq, Number.MAX_SAFE_INTEGER) &&
        isText(line),
    );
  return plain ? (page as LogPage) : parse(LogPage, value, 'tolerant');
}

const TEXT_KEYS = new Set(['at', 'level', 'step', 'text']);
const LINE_KEYS = new Set([...TEXT_KEYS, 'attempt', 'seq']);
const FRAME_KEYS = new Set(['job_id', 'attempt', 'first_seq', 'lines', 'last', 'prev']);
const PAGE_KEYS = new Set(['data', 'position', 'more', 'ended_attempt']);
/** As our own agents write it. Days above 28 are looked at closer. */
const INSTANT = /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z$/;

/** A plain object with no other keys than these. */
function isObjectOf<T extends object>(value: T | null | undefined, keys: ReadonlySet<string>): value is T {
  if (typeof value !== 'object' || value === null) return false;
  for (const key in value) if (!keys.has(key)) return false;
  return true;
}
const isCount = (value: unknown, max: number): boolean =>
  Number.isInteger(value) && (value as number) >= 1 && (value as number) <= max;
const isString = (value: unknown, min: number, max: number): boolean =>
  typeof value === 'string' && value.length >= min && value.length <= max;
const isInstant = (at: unknown): boolean =>
  typeof at === 'string' && INSTANT.test(at) && (at.slice(8, 10) <= '28' || new Date(at).toISOString() === at);
const isText = ({ at, level, step, text }: Partial<LogText>): boolean =>
  isInstant(at) &&
  (LOG_LEVELS as readonly unknown[]).includes(level) &&
  isString(step, 0, 40) &&
  isString(text, 0, LIMITS.logLineBytes);
