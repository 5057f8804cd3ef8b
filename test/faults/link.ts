import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/**
 * What a network does to its users. `cut`: connections end and none is taken. `hang`: they stay, and nothing arrives,
 * either way. `deaf`: what is sent arrives, the answers do not (and are lost, once the connection is cut). `slow`: each
 * piece comes late.
 */
export type Weather = 'fair' | 'cut' | 'hang' | 'deaf' | 'slow';

/** A TCP way to one server that faults can be made on. */
export class Link {
  private weather: Weather = 'fair';
  private readonly pairs = new Set<{ readonly near: Socket; readonly far: Socket }>();

  private constructor(
    readonly name: string,
    private readonly server: Server,
    private readonly delayMs: number,
  ) {}

  static async open(name: string, port: number, delayMs: number): Promise<Link> {
    const server = createServer({ allowHalfOpen: false });
    const link = new Link(name, server, delayMs);
    server.on('connection', (near) => link.take(near, port));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return link;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** What was held back by `hang` goes on in fair weather; after `deaf` and `cut` every connection is a new one. */
  become(weather: Weather): void {
    const before = this.weather;
    this.weather = weather;
    if (weather === 'cut' || before === 'deaf') this.reset();
    if (weather === 'fair' || weather === 'slow') {
      for (const { near, far } of this.pairs) {
        near.resume();
        far.resume();
      }
    } else {
      for (const { near, far } of this.pairs) this.hold(near, far);
    }
  }

  async close(): Promise<void> {
    this.reset();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private reset(): void {
    for (const { near, far } of this.pairs) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  }

  private hold(near: Socket, far: Socket): void {
    if (this.weather === 'hang') near.pause();
    if (this.weather === 'hang' || this.weather === 'deaf') far.pause();
  }

  private take(near: Socket, port: number): void {
    if (this.weather === 'cut') {
      near.resetAndDestroy();
      return;
    }
    const far = connect({ port, host: '127.0.0.1', noDelay: true });
    near.setNoDelay(true);
    const pair = { near, far };
    this.pairs.add(pair);
    const end = (): void => {
      this.pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('data', (bytes: Buffer) => {
        if (this.weather !== 'slow') to.write(bytes);
        // In order all the same: equal delays, and a timer queue keeps the order of equal ones.
        else setTimeout(() => to.write(bytes), this.delayMs);
      });
      from.on('error', end);
      from.on('close', end);
    }
    this.hold(near, far);
  }
}
