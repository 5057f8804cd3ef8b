import { Injectable } from '@nestjs/common';
import {
  AgentRequest,
  ImsError,
  JobStatement,
  LIMITS,
  openEnvelope,
  parse,
  PAYLOAD_TYPES,
  type Envelope,
  type JobKind,
} from '#contracts';
import { verifyNkey } from '#messaging';
import { RegistryTokenConfig } from './config.js';

/** A request of an agent whose signature and age are in order. `key` is proven; nothing else in it is. */
export interface ProvenRequest {
  readonly key: string;
  readonly request: AgentRequest;
}

const refused = (why: string): ImsError => new ImsError('statement_refused', why);

/**
 * Who may ask for what. No service vouches for an agent: the scheduler's signed job statement names the agent's key,
 * and the request is signed with that key. So a broker that is taken over cannot ask, nor can another agent.
 */
@Injectable()
export class Authorisation {
  constructor(private readonly config: RegistryTokenConfig) {}

  /** The request in an envelope, when the key that it names has signed it within the last minute. */
  open(envelope: Envelope, now: Date): ProvenRequest {
    const signed = openEnvelope(envelope, PAYLOAD_TYPES.agentRequest, [envelope.key_id], verifyNkey);
    const request = parse(AgentRequest, signed, 'tolerant');
    const skewMs = Math.abs(now.getTime() - Date.parse(request.at));
    if (skewMs > LIMITS.requestSkewMs) {
      throw refused(
        `the request is of ${request.at}, ${Math.round(skewMs / 1000)} s away from the time of this server`,
      );
    }
    return { key: envelope.key_id, request };
  }

  /** The job that a request is about, when the scheduler has stated it for this very key, of this kind, and until now. */
  jobOf({ key, request }: ProvenRequest, kind: JobKind, now: Date): JobStatement {
    if (!request.statement)
      throw new ImsError('invalid_request', '/statement is missing', [
        { pointer: '/statement', message: 'is missing' },
      ]);
    const stated = openEnvelope(request.statement, PAYLOAD_TYPES.job, this.config.JOB_KEYS, verifyNkey);
    const job = parse(JobStatement, stated, 'tolerant');
    if (job.agent_key !== key) throw refused('the job is stated for another agent');
    if (job.kind !== kind) throw refused(`a ${job.kind} job gives no right to this`);
    if (Date.parse(job.expires_at) <= now.getTime()) throw refused(`the job statement expired at ${job.expires_at}`);
    return job;
  }
}
