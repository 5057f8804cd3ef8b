import pg from 'pg';

/**
 * A connection whose loss never ends the process. Pool and TypeORM each listen for its errors while it is theirs, and
 * neither does at the moment when it is handed over: a FATAL that came in the same packet as the last answer was an
 * error without a listener (seen when connections were killed 80 times a second). Whoever uses the connection next is
 * told by the statement that fails.
 */
export class HeededClient extends pg.Client {
  constructor(config?: string | pg.ClientConfig) {
    super(config);
    this.on('error', () => undefined);
  }
}
