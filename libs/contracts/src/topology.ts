import { createHash } from 'node:crypto';
import { type StreamName } from './message.js';

/** How each stream is kept. Durable truth is PostgreSQL; these carry (design, section 3). */
export interface StreamDeclaration {
  readonly subjects: readonly string[];
  /** `workqueue`: gone when acknowledged. `interest`: gone when every declared consumer has acknowledged. */
  readonly retention: 'workqueue' | 'interest' | 'limits';
  readonly maxBytes: number;
  /** Full: refuse the new message, so that its sender keeps it; never drop an old one silently. */
  readonly discard: 'new';
  readonly maxConsumers?: number;
  /** The broker drops a message whose id it has seen within this time. */
  readonly duplicateWindowMs: number;
}

/** From our outboxes: a message published by the fast path and by the sweep. */
const OUTBOX_WINDOW_MS = 120_000;
/**
 * From agents: as short as the server allows. An id is not bound to a publisher, so one agent could use the id of
 * another's coming message and have that dropped; the consumers tell doubles by their content and need no help.
 */
const AGENT_WINDOW_MS = 100;

/**
 * Shards of the JOBS stream. An acknowledgement in a work-queue stream costs time linear in the stream's consumers
 * (0.44 ms at 100, 7.6 ms at 5,000), and newer servers allow 1,000 consumers a stream unless told otherwise.
 */
export const JOB_SHARDS = 16;

const GIB = 1024 ** 3;

export const STREAMS: Readonly<Record<Exclude<StreamName, 'JOBS'>, StreamDeclaration>> = {
  EVENTS: {
    subjects: ['ims.v1.events.>'],
    retention: 'interest',
    maxBytes: GIB,
    discard: 'new',
    duplicateWindowMs: AGENT_WINDOW_MS,
  },
  LOGS: {
    subjects: ['ims.v1.logs.>'],
    retention: 'interest',
    maxBytes: 4 * GIB,
    discard: 'new',
    duplicateWindowMs: AGENT_WINDOW_MS,
  },
  FACTS: {
    subjects: ['ims.v1.facts.>'],
    retention: 'interest',
    maxBytes: GIB,
    discard: 'new',
    duplicateWindowMs: OUTBOX_WINDOW_MS,
  },
  DEAD: {
    subjects: ['ims.v1.dead.>'],
    retention: 'limits',
    maxBytes: GIB,
    discard: 'new',
    duplicateWindowMs: OUTBOX_WINDOW_MS,
  },
};

/** The declaration of one JOBS shard. */
export function jobStream(shard: string): StreamDeclaration {
  return {
    subjects: [`ims.v1.jobs.${shard}.>`],
    retention: 'workqueue',
    maxBytes: 64 * 1024 ** 2,
    discard: 'new',
    maxConsumers: 10_000,
    duplicateWindowMs: OUTBOX_WINDOW_MS,
  };
}

export const JOB_SHARD_NAMES: readonly string[] = Array.from({ length: JOB_SHARDS }, (_, i) =>
  String(i).padStart(2, '0'),
);

/** The shard that carries an agent's offers: `00` … `15`, by hash of its id, for ever the same. */
export function shardOf(agentId: string): string {
  return String(createHash('sha256').update(agentId).digest().readUInt16BE(0) % JOB_SHARDS).padStart(2, '0');
}

export const jobStreamName = (shard: string): string => `JOBS_${shard}`;

/** Where an agent's offers wait: its own durable pull consumer, made by the scheduler, named like the agent. */
export function offersOf(agentId: string): { stream: string; consumer: string; filter: string } {
  const shard = shardOf(agentId);
  return { stream: jobStreamName(shard), consumer: agentId, filter: `ims.v1.jobs.${shard}.${agentId}.>` };
}

/** The only prefix to which a service answers an agent: NATS does not check reply subjects, so an agent could name another's. */
export const inboxPrefix = (owner: string): string => `_INBOX.${owner}`;

export const HEADERS = {
  contract: 'Ims-Contract',
  requestId: 'Ims-Request-Id',
  traceparent: 'traceparent',
  /** A call between services: who calls, and the proof that a broker cannot make. */
  caller: 'Ims-Caller',
  /** Who caused a call between services: `key:<id>`, `operator`. Agents cannot send such calls. */
  actor: 'Ims-Actor',
  deadCode: 'Ims-Dead-Code',
  deadCause: 'Ims-Dead-Cause',
  deadSubject: 'Ims-Dead-Subject',
} as const;
