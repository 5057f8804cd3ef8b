import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/**
 * Below the ephemeral range of Linux (32768 up) and macOS (49152 up): an outgoing connection can then never sit on the
 * port of a server that is being restarted, nor can a client that dials a dead loopback port connect to itself.
 */
const FIRST = 20_000;
const LAST = 32_000;

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });

/**
 * A TCP port of 127.0.0.1 that nobody listens on at this moment. Another process may take it before the caller does, so
 * servers that get one here are started again on another when they cannot bind. Throws when 100 tries found none.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = randomInt(FIRST, LAST);
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port found between ${FIRST} and ${LAST}`);
}
