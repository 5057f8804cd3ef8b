import { type ChildProcess } from 'node:child_process';
import { type Readable } from 'node:stream';
import { setImmediate as immediate, setTimeout as delay } from 'node:timers/promises';
import { ImsError } from '#contracts';
import { LineSplitter } from './lines.js';

/**
 * Handled at a time. A line costs 10 µs (redaction, JSON), so that a program that floods its output with lines of one
 * character takes 40 ms of the event loop, and renewals, cancels and timers have their turn in between.
 */
const SLICE_BYTES = 8 * 1024;
/** Something outside the group may hold the output open: silent for so long, it is not waited for. */
const OUTPUT_CLOSE_MS = 1_000;

export type OutputStream = 'stdout' | 'stderr';

export interface Output {
  /** Resolves when both streams have ended. */
  closed(): Promise<void>;
  /** What was written to stdout. Throws `agent_error` when it was more than was asked for. */
  text(program: string): string;
}

/** The output of a child as lines; or, when `captureBytes` is given, its stdout as a whole. */
export function collect(
  child: ChildProcess,
  onLine: (stream: OutputStream, line: string, cut: boolean) => void,
  captureBytes: number | undefined,
): Output {
  const kept: Buffer[] = [];
  let keptBytes = 0;
  let moved = performance.now();
  const pump = async (from: Readable, take: (bytes: Buffer) => void): Promise<void> => {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        for (let at = 0; at < chunk.length; at += SLICE_BYTES) {
          take(chunk.subarray(at, at + SLICE_BYTES));
          moved = performance.now();
          await immediate();
        }
      }
    } catch {
      // Destroyed, or reset by the other end: what that means is told by the exit code.
    }
  };
  const lines = async (stream: OutputStream, from: Readable): Promise<void> => {
    const splitter = new LineSplitter((line, cut) => onLine(stream, line, cut));
    await pump(from, (bytes) => splitter.write(bytes));
    splitter.end();
  };
  const capture = (bytes: Buffer): void => {
    keptBytes += bytes.length;
    if (keptBytes <= (captureBytes ?? 0)) kept.push(bytes);
  };
  const { stdout, stderr } = child;
  const pumps: Promise<void>[] = [];
  if (stderr !== null) pumps.push(lines('stderr', stderr));
  if (stdout !== null) pumps.push(captureBytes === undefined ? lines('stdout', stdout) : pump(stdout, capture));
  for (const stream of child.stdio) stream?.on('error', () => undefined);
  // The keeper's pipe: nothing comes from there but its end.
  const pipe = child.stdio[3];
  if (pipe !== null && pipe !== undefined && 'resume' in pipe) pipe.resume();
  const all = Promise.all(pumps);
  return {
    closed: async () => {
      moved = performance.now();
      const ended = all.then(() => true);
      while (!(await Promise.race([ended, delay(50, false)]))) {
        if (performance.now() - moved < OUTPUT_CLOSE_MS) continue;
        stdout?.destroy();
        stderr?.destroy();
      }
    },
    text: (program) => {
      if (keptBytes > (captureBytes ?? 0)) {
        throw new ImsError('agent_error', `${program} wrote more than ${captureBytes ?? 0} bytes`);
      }
      return Buffer.concat(kept).toString('utf8');
    },
  };
}
