import { jetstream, type Consumer, type ConsumerInfo, type ConsumerMessages, type JsMsg } from '@nats-io/jetstream';
import { type NatsConnection } from '@nats-io/transport-node';
import { JobOffer, jobOffer, offersOf, parse, subjectParts, type JobId } from '#contracts';
import { createLogger } from '#platform';

/** A pull request waits at the server for so long; then the next one follows. */
const PULL_MS = 30_000;

/** Something is ready for this agent. Settled exactly once: `done` removes it, `later` brings it back. */
export interface Offer {
  readonly jobId: JobId;
  done(): void;
  later(ms: number): void;
}

const logger = createLogger('offers');

/**
 * This agent's offers, one at a time, from its own durable pull consumer. The agent may ask for the next message and
 * acknowledge it, nothing else: so the consumer is not looked up (`CONSUMER.INFO` is denied) but taken from its name.
 */
export class Offers {
  private readonly consumer: Consumer;

  constructor(
    connection: NatsConnection,
    private readonly agentId: string,
  ) {
    const { stream, consumer } = offersOf(agentId);
    const info = { name: consumer, stream_name: stream, config: { durable_name: consumer } } as ConsumerInfo;
    this.consumer = jetstream(connection).consumers.getConsumerFromInfo(info);
  }

  /**
   * The next offer; undefined when none came in time, or when the signal was aborted. Throws when the consumer is not
   * there (stream or server wiped): the scheduler makes it again at a hello.
   */
  async next(signal: AbortSignal): Promise<Offer | undefined> {
    signal.throwIfAborted();
    // `bind`: after a reconnect the library asks again without looking the consumer up.
    const pulled = await this.consumer.fetch({ max_messages: 1, expires: PULL_MS, bind: true });
    const stop = (): void => void pulled.close();
    signal.addEventListener('abort', stop, { once: true });
    // Aborted while the request went out: nobody would end the wait, and a drain would take 30 s.
    if (signal.aborted) stop();
    try {
      return await this.first(pulled);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  private async first(pulled: ConsumerMessages): Promise<Offer | undefined> {
    for await (const message of pulled) {
      const offer = this.read(message);
      if (offer !== undefined) return offer;
    }
    return undefined;
  }

  private read(message: JsMsg): Offer | undefined {
    try {
      const body = parse(JobOffer, message.json(), 'tolerant');
      const parts = subjectParts(jobOffer, message.subject);
      if (parts?.['agent'] !== this.agentId || parts['job'] !== body.job_id) throw new Error('not for this agent');
      return { jobId: body.job_id, done: () => message.ack(), later: (ms) => message.nak(ms) };
    } catch (error) {
      logger.error({ subject: message.subject, err: error }, 'an offer cannot be read');
      message.term();
      return undefined;
    }
  }
}
