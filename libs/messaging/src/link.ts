import { type NatsConnection } from '@nats-io/transport-node';

/** The request may or may not have reached the server. */
class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
}

/**
 * Whether a connection is up at this moment. The client drops what is sent while it reconnects (each dial empties its
 * buffer) and lets such a request wait for its whole time-out; here it waits for the connection instead, and ends when
 * the connection does.
 */
export class Link {
  #up = true;
  readonly #onLost = new Set<() => void>();
  readonly #onChange = new Set<() => void>();

  constructor(private readonly connection: NatsConnection) {
    void this.#watch();
  }

  get up(): boolean {
    return this.#up;
  }

  async #watch(): Promise<void> {
    for await (const { type } of this.connection.status()) {
      if (type === 'disconnect') this.#set(false);
      if (type === 'reconnect') this.#set(true);
    }
    this.#set(false);
  }

  #set(up: boolean): void {
    this.#up = up;
    if (!up) for (const lost of this.#onLost) lost();
    for (const check of this.#onChange) check();
  }

  /**
   * The result of a request, sent when the connection is up, with the part of `limitMs` that is left for it. Throws
   * when the connection does not come up in time, or is lost before the answer (then the request may have got through).
   */
  async request<T>(limitMs: number, send: (leftMs: number) => Promise<T>): Promise<T> {
    const endMs = performance.now() + limitMs;
    if (!this.#up) await this.#comesUp(limitMs);
    return await new Promise<T>((resolve, reject) => {
      const lost = (): void => reject(new ConnectionLost('the connection to NATS was lost'));
      this.#onLost.add(lost);
      send(Math.max(1, endMs - performance.now()))
        .then(resolve, reject)
        .finally(() => this.#onLost.delete(lost));
    });
  }

  /** As `request`, but sent again after a lost connection: for what may arrive twice. */
  async persist<T>(limitMs: number, send: (leftMs: number) => Promise<T>): Promise<T> {
    const endMs = performance.now() + limitMs;
    for (;;) {
      try {
        return await this.request(endMs - performance.now(), send);
      } catch (thrown) {
        if (!(thrown instanceof ConnectionLost) || performance.now() >= endMs || this.connection.isClosed())
          throw thrown;
      }
    }
  }

  /** Rejects at once when the connection is closed, for then it never comes up. */
  #comesUp(limitMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const check = (): void => {
        if (!this.#up && !this.connection.isClosed()) return;
        clearTimeout(timer);
        this.#onChange.delete(check);
        if (this.#up) resolve();
        else reject(new Error('the connection to NATS is closed'));
      };
      const timer = setTimeout(() => {
        this.#onChange.delete(check);
        reject(new Error('not connected to NATS'));
      }, limitMs);
      this.#onChange.add(check);
      check();
    });
  }
}

const links = new WeakMap<NatsConnection, Link>();

/** The one Link of a connection. */
export function linkOf(connection: NatsConnection): Link {
  const link = links.get(connection) ?? new Link(connection);
  links.set(connection, link);
  return link;
}
