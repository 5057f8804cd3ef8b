import { type NatsConnection } from '@nats-io/transport-node';
import { readNatsJwt, withRevocations, type NatsJwt } from './nats-auth.js';
import { type NkeySigner } from './nkeys.js';

/** A server of the account's cluster answers in about 2 ms; one that has not within this time is counted as not there. */
const ANSWER_MS = 2_000;
/** After the last answer so long for the next server of a cluster. */
const STALL_MS = 150;

interface UpdateAnswer {
  readonly server?: { readonly name?: string };
  readonly data?: { readonly code?: number };
  readonly error?: { readonly description?: string };
}

/**
 * One account's statement on the servers, read and restated as a user of the system account. Uses the subjects that
 * name the account, so that its user needs no right to state any other account: the server compares the subject with
 * what is stated.
 */
export class AccountClaims {
  constructor(
    private readonly connection: NatsConnection,
    private readonly account: string,
    /** A signing key of the operator. */
    private readonly signer: NkeySigner,
  ) {}

  /** What the servers hold now. Throws when none answers, or none knows the account. */
  async read(): Promise<NatsJwt & { readonly text: string }> {
    const subject = `$SYS.REQ.ACCOUNT.${this.account}.CLAIMS.LOOKUP`;
    const text = (await this.connection.request(subject, '', { timeout: ANSWER_MS })).string();
    if (text === '') throw new Error(`no NATS server knows the account ${this.account}`);
    return { ...readNatsJwt(text), text };
  }

  /**
   * Makes every JWT of these users void that was issued up to `at`; live connections are cut in milliseconds. Answers
   * how many servers have it: those that are away take it from the others when they are back. Two at the same time
   * could undo each other, so the caller lets one at a time. Throws when no server takes it.
   */
  async revoke(users: readonly string[], options: { readonly at: Date; readonly forgetBefore: Date }): Promise<number> {
    const { text } = await this.read();
    return this.state(withRevocations(text, { users, signer: this.signer, ...options }));
  }

  /** Puts a statement of the account, which a key of the operator has signed, in the place of the present one. */
  async state(statement: string): Promise<number> {
    const answers = await this.connection.requestMany(`$SYS.REQ.ACCOUNT.${this.account}.CLAIMS.UPDATE`, statement, {
      strategy: 'stall',
      stall: STALL_MS,
      maxWait: ANSWER_MS,
    });
    let servers = 0;
    for await (const message of answers) {
      const { data, error } = message.json<UpdateAnswer>();
      if (data?.code !== 200)
        throw new Error(`the account cannot be stated: ${error?.description ?? 'no reason given'}`);
      servers++;
    }
    if (servers === 0) throw new Error('no NATS server answered to the statement of the account');
    return servers;
  }
}
