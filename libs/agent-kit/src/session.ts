import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ImsError, agentHello, inboxPrefix, LIMITS, parse, PAYLOAD_TYPES, signEnvelope, Welcome } from '#contracts';
import { Bus, connectNats } from '#messaging';
import { backoffMs, createLogger, sleep } from '#platform';
import { postJson, secureUrl } from './http.js';
import { type Identity } from './identity.js';

export interface SessionOptions {
  readonly identity: Identity;
  readonly version: string;
  /** PEM file of the private CA of the NATS server. */
  readonly caFile?: string;
  readonly clock?: AgentClock;
  readonly onReconnect?: () => void;
}

/** Time as the services have it, as far as known: a host whose clock is off can still make requests that are in time. */
export class AgentClock {
  /** Server time minus this host's time. */
  skewMs = 0;
  now(): Date {
    return new Date(Date.now() + this.skewMs);
  }
}

/** Renewed when this part of the JWT's life is left. */
const RENEW_AT = 0.5;
const TIMER_MAX_MS = 2 ** 31 - 1;
const logger = createLogger('session');

/**
 * One life of the agent process on the wire: the connection, the hello at its start and the ones that renew the JWT.
 */
export class Session {
  /** Made anew at each start. */
  readonly id = randomUUID();
  private readonly closing = new AbortController();
  private timer: NodeJS.Timeout | undefined;
  private last: Welcome | undefined;
  private readonly clock: AgentClock;

  private constructor(
    private readonly options: SessionOptions,
    readonly bus: Bus,
  ) {
    this.clock = options.clock ?? new AgentClock();
  }

  /**
   * Connects and says hello, for as long as it takes. Where the credential has ended meanwhile, another is asked for
   * first, over HTTPS. Throws `agent_revoked`, `agent_too_old`.
   */
  static async open(options: SessionOptions, signal?: AbortSignal): Promise<Session> {
    const { identity } = options;
    const clock = options.clock ?? new AgentClock();
    if (ended(identity, clock)) await comeBack({ ...options, clock }, signal);
    const caFile = options.caFile ?? identity.caFile;
    const giveUp = new AbortController();
    signal?.addEventListener('abort', () => giveUp.abort(), { once: true });
    const connecting = connectNats({
      servers: identity.natsUrls,
      name: identity.agentId,
      inboxPrefix: inboxPrefix(identity.agentId),
      credentials: identity.credentials,
      ...(caFile === undefined ? {} : { caFile }),
      signal: giveUp.signal,
      onConnected: (url) => {
        void identity.remember(url).catch(() => undefined);
      },
      onStatus: (status) => {
        logger.info({ status }, 'nats');
        if (status.startsWith('reconnect ')) options.onReconnect?.();
      },
    });
    const given = new Promise<undefined>((resolve) => {
      signal?.addEventListener('abort', () => resolve(undefined), { once: true });
    });
    const connection = await Promise.race([connecting, given]);
    if (connection === undefined) {
      // Should it come up after all, it is closed again.
      void connecting.then(
        (late) => late.close(),
        () => undefined,
      );
      throw new ImsError('unavailable', 'the agent was stopped before it was connected');
    }
    const session = new Session({ ...options, clock }, new Bus(connection));
    const stop = (): void => session.closing.abort();
    signal?.addEventListener('abort', stop, { once: true });
    try {
      await session.greet();
    } catch (error) {
      await session.close();
      throw error;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
    return session;
  }

  get slots(): number {
    return this.last?.slots ?? 1;
  }

  /** A hello: fresh JWT, fresh settings; the scheduler makes this agent's consumer again if it is gone. */
  async hello(): Promise<Welcome> {
    const { identity, version } = this.options;
    const sentAt = Date.now();
    const body = { session_id: this.id, version, protocol: LIMITS.agentProtocol };
    const welcome = await this.bus.call(agentHello, body, { agent: identity.agentId });
    const now = Date.now();
    this.clock.skewMs = Date.parse(welcome.server_time) - Math.round((sentAt + now) / 2);
    this.last = welcome;
    const { otherKeysOffered } = await identity.renew(welcome);
    if (otherKeysOffered) logger.warn('other vendor keys are offered than the ones that are pinned here: not trusted');
    this.schedule(now);
    return welcome;
  }

  async close(): Promise<void> {
    this.closing.abort();
    clearTimeout(this.timer);
    await this.bus.connection.drain().catch(() => this.bus.connection.close());
  }

  private async greet(): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await this.hello();
        return;
      } catch (thrown) {
        const error = ImsError.of(thrown);
        if (error.entry.retry !== 'retry' || this.closing.signal.aborted) throw error;
        logger.warn({ tries, code: error.code, detail: error.detail }, 'no hello yet');
        // Cut off for so long that NATS lets it in no more: nothing but a new credential helps.
        if (ended(this.options.identity, this.clock)) {
          await comeBack({ ...this.options, clock: this.clock }, this.closing.signal);
        }
        await sleep(backoffMs(tries, { baseMs: 200, maxMs: 5_000 }), this.closing.signal);
      }
    }
  }

  private schedule(now: number): void {
    const left = Date.parse(this.options.identity.enrolment.nats_jwt_expires_at) - now - this.clock.skewMs;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.renew(), Math.min(Math.max(left * RENEW_AT, 1_000), TIMER_MAX_MS)).unref();
  }

  /** A connection lives on the JWT that it was made with and is cut at its end, so it is made again with the new one. */
  private async renew(): Promise<void> {
    try {
      await this.greet();
      await this.bus.connection.reconnect();
    } catch (thrown) {
      if (this.closing.signal.aborted) return;
      logger.error({ err: thrown }, 'the credential cannot be renewed');
    }
  }
}

const ended = (identity: Identity, clock: AgentClock): boolean =>
  Date.parse(identity.enrolment.nats_jwt_expires_at) <= clock.now().getTime();

/** Asks for a new credential until there is one. Throws what waiting does not change: `agent_revoked`, say. */
async function comeBack(options: SessionOptions & { clock: AgentClock }, signal?: AbortSignal): Promise<void> {
  const { identity, clock, version } = options;
  const caFile = options.caFile ?? identity.caFile;
  const http = {
    allowPlainHttp: identity.allowPlainHttp,
    ...(caFile === undefined ? {} : { ca: readFileSync(caFile, 'utf8') }),
  };
  const url = secureUrl(`${identity.server.replace(/\/+$/, '')}/v1/agents/renew`, http);
  logger.warn(
    { ended: identity.enrolment.nats_jwt_expires_at },
    'the credential has ended: asking for another over HTTPS',
  );
  for (let tries = 1; ; tries++) {
    try {
      const at = clock.now().toISOString();
      const renewal = { agent_id: identity.agentId, at, version, protocol: LIMITS.agentProtocol };
      const envelope = signEnvelope(PAYLOAD_TYPES.agentRenewal, renewal, identity);
      const welcome = parse(Welcome, await postJson(url, envelope, http), 'tolerant');
      clock.skewMs = Date.parse(welcome.server_time) - Date.now();
      await identity.renew(welcome);
      logger.info({ until: welcome.nats_jwt_expires_at }, 'a new credential was given');
      return;
    } catch (thrown) {
      const error = ImsError.of(thrown);
      // A clock that is off: the refusal names the server's time.
      const theirs = /the time of this server is (\S+)$/.exec(error.detail)?.[1];
      const skewed = error.code === 'statement_refused' && theirs !== undefined && tries === 1;
      if (skewed) clock.skewMs = Date.parse(theirs) - Date.now();
      else if (error.entry.retry !== 'retry') throw error;
      signal?.throwIfAborted();
      logger.warn({ tries, code: error.code, detail: error.detail }, 'no new credential yet');
      if (!skewed) await sleep(backoffMs(tries, { baseMs: 500, maxMs: 30_000 }), signal);
      signal?.throwIfAborted();
    }
  }
}
