import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { getJob, ImsError, jobChanged, logsAppended, readLogs, type Job, type LogLine } from '#contracts';
import { freshDatabase, startNats } from '#stack';
import { Gateway, until } from './harness.js';
import * as sample from './samples.js';
import { startWorld, type World } from './world.js';

const before = (a: LogLine, position: string): boolean => {
  const [attempt = 0, seq = 0] = position.split('.').map(Number);
  return a.attempt < attempt || (a.attempt === attempt && a.seq <= seq);
};

interface Sse {
  readonly id?: string;
  readonly event?: string;
  readonly data?: string;
  readonly comment?: string;
}

/** Server-sent events of a response, as they come. */
async function* events(response: Response): AsyncGenerator<Sse> {
  let text = '';
  for await (const chunk of response.body ?? []) {
    text += Buffer.from(chunk as Uint8Array).toString('utf8');
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const event: Record<string, string> = {};
      for (const line of text.slice(0, end).split('\n')) {
        const colon = line.indexOf(':');
        event[colon === 0 ? 'comment' : line.slice(0, colon)] = line.slice(colon + 1).trim();
      }
      text = text.slice(end + 2);
      yield event;
    }
  }
}

describe('the log of a job', () => {
  let world: World;
  let job: Job;
  let lines: LogLine[];
  let ended: number | undefined;
  beforeAll(async () => {
    world = await startWorld({ startNats, freshDatabase });
  });
  afterAll(() => world.stop());
  afterEach(() => {
    world.scheduler.forget();
    world.telemetry.forget();
  });

  /** A telemetry with these lines, in pages of at most `pageLines`. */
  function play(of: Job, first: LogLine[], pageLines = 10): void {
    job = of;
    lines = first;
    ended = undefined;
    world.scheduler.on(getJob, () => job);
    world.telemetry.on(readLogs, ({ job_id, agent_id, after, limit = 5000 }) => {
      expect([job_id, agent_id]).toEqual([job.id, job.agent_id]);
      const rest = lines.filter((line) => after === undefined || !before(line, after));
      const data = rest.slice(0, Math.min(limit, pageLines));
      const last = data.at(-1);
      const position = last === undefined ? after : `${last.attempt}.${last.seq}`;
      return {
        data,
        more: rest.length > data.length,
        ...(position === undefined ? {} : { position }),
        ...(ended === undefined ? {} : { ended_attempt: ended }),
      };
    });
  }
  function append(...more: LogLine[]): void {
    lines.push(...more);
    const last = more.at(-1);
    const position = `${last?.attempt ?? 1}.${last?.seq ?? 1}`;
    world.telemetry.bus.signal(logsAppended, { job: job.id }, { job_id: job.id, position });
  }
  function end(status: Job['status']): void {
    job = { ...job, status };
    world.scheduler.bus.signal(jobChanged, { job: job.id }, { job_id: job.id, status });
  }
  const open = (query = '', headers: Record<string, string> = {}, signal?: AbortSignal) =>
    fetch(`${world.gateway.url}/v1/jobs/${job.id}/logs${query}`, {
      headers: { authorization: `Bearer ${world.key}`, ...headers },
      ...(signal === undefined ? {} : { signal }),
    });
  const range = (from: number, to: number, attempt = 1) =>
    Array.from({ length: to - from + 1 }, (_, i) => sample.line(from + i, attempt));
  const SSE = { accept: 'text/event-stream' };

  it('is NDJSON by default: all pages, in order, and then ends', async () => {
    play(sample.job(), [...range(1, 25), ...range(1, 8, 2)]);
    const response = await open();
    expect(response.headers.get('content-type')).toBe('application/x-ndjson; charset=utf-8');
    const got = (await response.text())
      .trimEnd()
      .split('\n')
      .map((text) => JSON.parse(text) as LogLine);
    expect(got).toEqual(lines);
    expect(await (await open('?after=1.25')).text()).toBe(
      range(1, 8, 2)
        .map((line) => `${JSON.stringify(line)}\n`)
        .join(''),
    );
  });

  it('is text for people who ask for it', async () => {
    play(sample.job(), range(1, 2));
    const response = await open('', { accept: 'text/*;q=0.9' });
    expect(response.headers.get('content-type')).toBe('text/plain; charset=utf-8');
    expect(await response.text()).toBe(
      range(1, 2)
        .map(({ at, text }) => `${at} apply ${text}\n`)
        .join(''),
    );
  });

  it('answers an error, not an empty log, when the log cannot be read', async () => {
    play(sample.job(), []);
    world.telemetry.on(readLogs, () => {
      throw new ImsError('unavailable', 'telemetry sleeps');
    });
    for (const headers of [{}, SSE]) {
      const response = await open('', headers);
      expect([response.status, response.headers.get('content-type')]).toEqual([
        503,
        expect.stringContaining('problem+json'),
      ]);
    }
    const bad = (await (await open('?after=last')).json()) as { errors: object[] };
    expect(bad.errors).toMatchObject([{ pointer: '/after' }]);
  });

  it('cuts the connection when reading fails half-way, so that nobody takes half for whole', async () => {
    play(sample.job(), range(1, 25));
    let reads = 0;
    world.telemetry.on(readLogs, () => {
      if (++reads === 2) throw new ImsError('internal');
      return { data: range(1, 10), more: true, position: '1.10' };
    });
    const response = await open();
    expect(response.status).toBe(200);
    await expect(response.text()).rejects.toThrow();
  });

  it('holds no more than a page or two of a long log for a slow reader', async () => {
    const big = 'x'.repeat(10_000);
    let given = 0;
    play(sample.job(), []);
    world.telemetry.on(readLogs, ({ after }) => {
      given += 50;
      const from = Number(after?.split('.')[1] ?? 0) + 1;
      const data = range(from, from + 49).map((line) => ({ ...line, text: big }));
      return { data, more: given < 10_000, position: `1.${from + 49}` };
    });
    const response = await open();
    const reader = response.body!.getReader();
    await reader.read();
    // Each of these takes longer than reading a page: an unbounded reader would be 100 pages further.
    for (let i = 0; i < 100; i += 1) await world.gateway.send('GET', `/v1/jobs/${job.id}`, { key: world.key });
    // A page is 0.5 MB; what has been read beyond the first sits in the buffers of two sockets.
    expect(given / 50).toBeLessThan(40);
    await reader.cancel();
  });

  it('pushes lines as they are stored, and ends with the job: every line, then `end` with its status', async () => {
    play(sample.job(), range(1, 3));
    const response = await open('', SSE);
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    const got: Sse[] = [];
    for await (const event of events(response)) {
      if (event.id !== undefined || event.event !== undefined) got.push(event);
      if (event.id === '1.3') append(...range(4, 6));
      if (event.id === '1.6') {
        // The job's end overtakes its last lines.
        end('succeeded');
        const reads = world.telemetry.calls.length;
        await until('the end was heard, and nothing more was found', () => world.telemetry.calls.length > reads);
        ended = 1;
        append(...range(7, 8));
      }
    }
    expect(got.map(({ id, event }) => event ?? id)).toEqual([...range(1, 8).map(({ seq }) => `1.${seq}`), 'end']);
    expect(JSON.parse(got.at(-1)?.data ?? '')).toEqual({ status: 'succeeded' });
    expect(got.slice(0, -1).map(({ data }) => JSON.parse(data ?? '') as LogLine)).toEqual(lines);
  });

  it('misses no line that is stored between a read and the wait for the next', async () => {
    play(sample.job(), range(1, 1));
    let reads = 0;
    world.telemetry.on(readLogs, ({ after }) => {
      const data = lines.filter((line) => after === undefined || !before(line, after));
      // The signal overtakes the answer, which does not have the line yet.
      if (++reads === 2) append(...range(2, 2));
      return { data, more: false, position: data.at(-1) ? `1.${data.at(-1)!.seq}` : after, ended_attempt: ended };
    });
    const start = performance.now();
    for await (const event of events(await open('', SSE))) {
      if (event.id === '1.1') append();
      if (event.id === '1.2') break;
    }
    expect(performance.now() - start).toBeLessThan(5_000);
  });

  it('resumes after any cut with no gap and no repetition, while lines keep coming', async () => {
    play(sample.job(), range(1, 5), 4);
    const got: string[] = [];
    let at: string | undefined;
    let next = 6;
    let over = false;
    for (let cut = 1; !over; cut += 1) {
      const abort = new AbortController();
      // `after` is what an EventSource repeats on each reconnect; the header must win over it.
      const headers = at === undefined ? SSE : { ...SSE, 'last-event-id': at };
      let seen = 0;
      try {
        for await (const event of events(await open('?after=1.1', headers, abort.signal))) {
          if (event.event === 'end') over = true;
          if (event.id === undefined) continue;
          got.push(event.id);
          at = event.id;
          if (next <= 60) append(...range(next, (next += 3) - 1));
          else if (job.status === 'running') {
            ended = 1;
            end('failed');
          }
          if (++seen === cut % 7) abort.abort();
        }
      } catch (error) {
        if (!abort.signal.aborted) throw error;
      }
    }
    expect(got).toEqual(range(2, next - 1).map(({ seq }) => `1.${seq}`));
  });

  it('goes on into the next attempt', async () => {
    play(sample.job(), range(1, 2));
    const got: (string | undefined)[] = [];
    for await (const event of events(await open('', SSE))) {
      if (event.id !== undefined || event.event !== undefined) got.push(event.event ?? event.id);
      if (event.id === '1.2') {
        job = { ...job, attempt: 2 };
        append(...range(1, 2, 2));
      }
      if (event.id === '2.2') {
        ended = 2;
        end('succeeded');
      }
    }
    expect(got).toEqual(['1.1', '1.2', '2.1', '2.2', 'end']);
  });

  it('ends at once for a job that has ended, and when an agent that died never marked its last line', async () => {
    play(sample.job({ status: 'cancelled', attempt: 0 }), []);
    const kinds = async () => {
      const all: (string | undefined)[] = [];
      for await (const { event, id } of events(await open('', SSE))) if (event ?? id) all.push(event ?? id);
      return all;
    };
    expect(await kinds()).toEqual(['end']);
    const error = { code: 'lease_expired', detail: 'the agent did not renew its lease in time' };
    play(sample.job({ status: 'cancelled', attempt: 3, error }), range(1, 2, 3));
    const start = performance.now();
    expect(await kinds()).toEqual(['3.1', '3.2', 'end']);
    expect(performance.now() - start).toBeLessThan(6_000);
  });

  it('follows as NDJSON too, and ends when the job ends', async () => {
    play(sample.job(), range(1, 2));
    const response = await open('?follow=true');
    append(...range(3, 3));
    ended = 1;
    end('succeeded');
    const got = (await response.text())
      .split('\n')
      .filter((text) => text !== '')
      .map((text) => JSON.parse(text) as LogLine);
    expect(got).toEqual(range(1, 3));
  });

  it('outlives a telemetry that is away for a while', async () => {
    play(sample.job(), range(1, 1));
    const script = () => play(job, lines);
    const got: (string | undefined)[] = [];
    for await (const event of events(await open('', SSE))) {
      if (event.id !== undefined || event.event !== undefined) got.push(event.event ?? event.id);
      if (event.id === '1.1') {
        let refusals = 0;
        world.telemetry.on(readLogs, () => {
          if (++refusals === 2) script();
          throw new ImsError('unavailable', 'telemetry restarts');
        });
        append(...range(2, 2));
      }
      if (event.id === '1.2') {
        ended = 1;
        end('succeeded');
      }
    }
    expect(got).toEqual(['1.1', '1.2', 'end']);
  });

  it('asks a follower to move on when this replica stops, without an end', async () => {
    play(sample.job(), range(1, 2));
    const second = await Gateway.start(world.infrastructure);
    const response = await fetch(`${second.url}/v1/jobs/${job.id}/logs`, {
      headers: { authorization: `Bearer ${world.key}`, ...SSE },
    });
    expect(response.headers.get('x-accel-buffering')).toBe('no');
    const got: Sse[] = [];
    let stopping: Promise<void> | undefined;
    for await (const event of events(response)) {
      got.push(event);
      if (event.id === '1.2') stopping = second.stop();
    }
    await stopping;
    expect(got.at(-1)).toEqual({ retry: '250' });
    expect(got.some(({ event }) => event === 'end')).toBe(false);
    play(job, [...lines, sample.line(3)]);
    ended = 1;
    end('succeeded');
    const rest: (string | undefined)[] = [];
    for await (const { id, event } of events(await open('', { ...SSE, 'last-event-id': '1.2' })))
      rest.push(event ?? id);
    expect(rest.filter((name) => name !== undefined)).toEqual(['1.3', 'end']);
  });

  it('leaves nobody listening after a HEAD request', async () => {
    play(sample.job(), range(1, 2));
    const head = await fetch(`${world.gateway.url}/v1/jobs/${job.id}/logs`, {
      method: 'HEAD',
      headers: { authorization: `Bearer ${world.key}`, ...SSE },
    });
    expect(head.status).toBe(200);
    await until('no reader is left', () => world.gateway.listeners() === 0);
  });

  it('asks nothing on behalf of a client that has gone', async () => {
    play(sample.job(), range(1, 1));
    const abort = new AbortController();
    const response = await open('', SSE, abort.signal);
    for await (const event of events(response)) if (event.id === '1.1') break;
    abort.abort();
    const calls = () => world.telemetry.calls.length + world.scheduler.calls.length;
    // The server hears of the closed connection in its own time: until then a signal still makes it read.
    await until('no reader is left', () => world.gateway.listeners() === 0);
    const settled = calls();
    append(...range(2, 2));
    end('succeeded');
    await world.telemetry.bus.connection.flush();
    await world.gateway.send('GET', '/livez');
    expect(calls()).toBe(settled);
  });
});
