import { type ChildProcess } from 'node:child_process';
import { type Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { ImsError } from '#contracts';
import { LineSplitter } from './lines.js';

/** Something outside the group may hold the output open; its lines are not waited for longer than this. */
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
  const streams = [child.stdout, child.stderr].filter((stream) => stream !== null);
  const kept: Buffer[] = [];
  let keptBytes = 0;
  const lines = (stream: OutputStream, from: Readable): void => {
    const splitter = new LineSplitter((line, cut) => onLine(stream, line, cut));
    from.on('data', (chunk: Buffer) => splitter.write(chunk));
    from.on('close', () => splitter.end());
  };
  if (child.stderr !== null) lines('stderr', child.stderr);
  if (child.stdout !== null && captureBytes === undefined) lines('stdout', child.stdout);
  else {
    child.stdout?.on('data', (chunk: Buffer) => {
      keptBytes += chunk.length;
      if (keptBytes <= (captureBytes ?? 0)) kept.push(chunk);
    });
  }
  // The other end may go at any time; what that means is told by the exit code.
  for (const stream of child.stdio) stream?.on('error', () => undefined);
  // The keeper's pipe: nothing comes from there but its end.
  const pipe = child.stdio[3];
  if (pipe !== null && pipe !== undefined && 'resume' in pipe) pipe.resume();
  const closed = streams.map(
    (stream) =>
      new Promise<void>((done) => {
        if (stream.closed) done();
        else stream.once('close', done);
      }),
  );
  return {
    closed: async () => {
      const limit = new AbortController();
      await Promise.race([
        Promise.all(closed),
        delay(OUTPUT_CLOSE_MS, undefined, { signal: limit.signal }).catch(() => undefined),
      ]);
      limit.abort();
      streams.forEach((stream) => stream.destroy());
      await Promise.all(closed);
    },
    text: (program) => {
      if (keptBytes > (captureBytes ?? 0)) {
        throw new ImsError('agent_error', `${program} wrote more than ${captureBytes ?? 0} bytes`);
      }
      return Buffer.concat(kept).toString('utf8');
    },
  };
}
