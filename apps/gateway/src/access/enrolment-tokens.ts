import { Injectable } from '@nestjs/common';
import {
  createEnrolmentToken,
  enrolAgent,
  ImsError,
  mintEnrolmentToken,
  newId,
  readEnrolmentToken,
  type AgentId,
  type Enrolment,
  type EnrolmentTicket,
  type EnrolmentToken,
  type EnrolmentVerifier,
  type EnrolRequest,
  type VendorId,
} from '#contracts';
import { Bus } from '#messaging';
import { GatewayConfig } from '../config.js';

/**
 * Enrolment tokens are made and read here and nowhere else in the IMS: what goes on to the scheduler is their hash, so
 * that whoever reads the broker's messages or the database has nothing to enrol with.
 */
@Injectable()
export class EnrolmentTokens {
  constructor(
    private readonly bus: Bus,
    private readonly config: GatewayConfig,
  ) {}

  /** A new token, shown once. `store` has the scheduler keep its verifier. */
  async make(store: (enrolment: EnrolmentVerifier) => Promise<EnrolmentTicket>): Promise<EnrolmentToken> {
    // Not a reserved id: a try whose answer was lost has stored a token under it that nobody knows.
    const token_id = newId('token');
    const { text: token, verifier } = mintEnrolmentToken(token_id);
    const { agent_id, kind, expires_at } = await store({ token_id, verifier });
    const main = `node dist/apps/${kind}-agent/src/main.js`;
    const command = `printf '%s' '${token}' | ${main} enrol --server ${this.config.PUBLIC_URL} --state ./${kind}-agent`;
    return { agent_id, token, expires_at, command };
  }

  forAgent(vendor_id: VendorId, agent_id: AgentId): Promise<EnrolmentToken> {
    return this.make((enrolment) => this.bus.call(createEnrolmentToken, { vendor_id, agent_id, enrolment }));
  }

  /** Exchanges a token; `enrolment_refused` for every kind of wrong one. */
  use({ token, ...keys }: EnrolRequest): Promise<Enrolment> {
    const read = readEnrolmentToken(token);
    if (!read) throw new ImsError('enrolment_refused');
    return this.bus.call(enrolAgent, { ...keys, token_id: read.id, proof: read.proof });
  }
}
