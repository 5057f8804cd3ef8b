import { setTimeout as delay } from 'node:timers/promises';
import { type LogLine } from '#contracts';

/** A reader that comes back at once would be another load; a browser waits two seconds. */
const AGAIN_MS = 200;

/**
 * Tails a job's log as a browser does: server-sent events, and when the connection ends, again from the id of the last
 * one. Keeps every line in the order in which it came.
 */
export class LogFollower {
  readonly lines: LogLine[] = [];
  readonly ids: string[] = [];
  connections = 0;
  private ended = false;

  /** `linesPerConnection`: hangs up by itself after so many. */
  constructor(
    private readonly url: string,
    private readonly apiKey: string,
    private readonly linesPerConnection = Infinity,
  ) {}

  /** Resolves after the event `end`. Goes on through any failure until the signal. */
  async follow(signal: AbortSignal): Promise<void> {
    while (!this.ended && !signal.aborted) {
      try {
        await this.connect(signal);
      } catch {
        // The gateway, or what is behind it, was killed: what was read so far stands.
      }
      if (!this.ended) await delay(AGAIN_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  private async connect(signal: AbortSignal): Promise<void> {
    this.connections += 1;
    const hangUp = new AbortController();
    const last = this.ids.at(-1);
    const response = await fetch(this.url, {
      headers: {
        authorization: `Bearer ${this.apiKey}`,
        accept: 'text/event-stream',
        ...(last === undefined ? {} : { 'last-event-id': last }),
      },
      signal: AbortSignal.any([signal, hangUp.signal]),
    });
    if (!response.ok || response.body === null) throw new Error(`answered ${response.status}`);
    let held = '';
    let taken = 0;
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      held += text;
      const events = held.split('\n\n');
      held = events.pop() ?? '';
      for (const event of events) {
        if (event.startsWith('event: end')) this.ended = true;
        const [, id, data] = /^id: (\S+)\ndata: (.*)$/.exec(event) ?? [];
        if (id === undefined || data === undefined) continue;
        this.ids.push(id);
        this.lines.push(JSON.parse(data) as LogLine);
        // What came with it in the same piece is thrown away: it has to come again.
        if (++taken < this.linesPerConnection) continue;
        hangUp.abort();
        return;
      }
    }
  }
}
