import { ImsError, type LogLine, type LogText } from '#contracts';

/** A stored frame, in the order (attempt, first_seq, last_seq). */
export interface LogChunk {
  readonly attempt: number;
  readonly first_seq: number;
  readonly last_seq: number;
  readonly lines: readonly LogText[];
  /** Of its bytes; `prev` is what the agent said of the frame before it. */
  readonly hash: string;
  readonly prev: string | null;
  /** Milliseconds since it was stored. */
  readonly age_ms: number;
}

/** A place in a job's log: after that line. `0.0` is before the first. */
export interface Position {
  readonly attempt: number;
  readonly seq: number;
}

export const START: Position = { attempt: 0, seq: 0 };
/** A frame may overtake the one before it (another replica, a redelivery). After this time the lines count as lost. */
export const GAP_WAIT_MS = 30_000;

/** Reads `<attempt>.<seq>`. Anything else: `invalid_request`. */
export function parsePosition(text: string): Position {
  const match = /^(\d{1,7})\.(\d{1,16})$/.exec(text);
  if (!match) {
    const message = 'must be <attempt>.<seq>, as the log gives it';
    throw new ImsError('invalid_request', `/after ${message}`, [{ pointer: '/after', message }]);
  }
  return { attempt: Number(match[1]), seq: Number(match[2]) };
}

export const formatPosition = ({ attempt, seq }: Position): string => `${attempt}.${seq}`;

export interface Assembly {
  readonly lines: readonly LogLine[];
  readonly position: Position;
  /** There was more in the chunks than the limits allowed. */
  readonly cut: boolean;
  /** Lines are there behind a fresh gap, whose frame is still on its way: the log is not whole yet. */
  readonly held: boolean;
  /** Frames that name another predecessor than the one that is stored: somebody changed or replaced one. */
  readonly broken: number;
}

/**
 * The lines after a position, each once and in order, from frames that may overlap, repeat or be missing. Lines behind
 * a fresh gap are held back; behind one older than GAP_WAIT_MS they come after a line that says how many are missing.
 * `maxLines` and `maxBytes` bound the result; at least one line is given when there is one.
 */
export function assemble(
  chunks: readonly LogChunk[],
  after: Position,
  bounds: { readonly maxLines: number; readonly maxBytes: number },
): Assembly {
  const lines: LogLine[] = [];
  let { attempt, seq } = after;
  let bytes = 0;
  let broken = 0;
  let held = false;
  let before: LogChunk | undefined;
  const full = (): boolean => lines.length >= bounds.maxLines || bytes >= bounds.maxBytes;
  const add = (line: LogLine): void => {
    lines.push(line);
    ({ attempt, seq } = line);
    bytes += line.text.length + 150;
  };
  for (const chunk of chunks) {
    if (chunk.attempt < attempt) continue;
    const expected = chunk.attempt === attempt ? seq + 1 : 1;
    if (chunk.last_seq < expected) continue;
    if (full()) return { lines, position: { attempt, seq }, cut: true, held: false, broken };
    if (follows(before, chunk) && chunk.prev !== before?.hash) broken += 1;
    before = chunk;
    const missing = chunk.first_seq - expected;
    if (missing > 0) {
      if (chunk.age_ms < GAP_WAIT_MS) {
        held = true;
        break;
      }
      const text = `${missing} ${missing === 1 ? 'line is' : 'lines are'} missing here`;
      const at = chunk.lines[0]?.at ?? new Date(0).toISOString();
      add({ attempt: chunk.attempt, seq: chunk.first_seq - 1, at, level: 'warn', step: '', text });
    }
    for (const [index, line] of chunk.lines.entries()) {
      const own = chunk.first_seq + index;
      if (chunk.attempt === attempt && own <= seq) continue;
      if (full()) return { lines, position: { attempt, seq }, cut: true, held: false, broken };
      add({ ...line, attempt: chunk.attempt, seq: own });
    }
  }
  return { lines, position: { attempt, seq }, cut: false, held, broken };
}

/** The frame begins where the other ended, and says what it comes after. */
const follows = (before: LogChunk | undefined, { attempt, first_seq, prev }: LogChunk): boolean =>
  before?.attempt === attempt && before.last_seq + 1 === first_seq && before.hash !== '' && prev !== null;
