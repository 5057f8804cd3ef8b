import { Injectable } from '@nestjs/common';
import {
  factRecorded,
  hashEvent,
  listHistory,
  type AgentId,
  type Event,
  type EventPage,
  type JobTrace,
  type ListHistory,
} from '#contracts';
import { Consumes, reject, Serves, type MessageContext, type Outcome } from '#messaging';
import { Database, decodeCursor, limitOf, pageOf } from '#persistence';
import { createLogger, Metrics } from '#platform';
import { isEndOfJob, traceOfFacts } from './fact-trace.js';
import { OtlpForward } from './otlp.js';

/** The history of vendors, installs, deployments and jobs: every fact that a service has recorded, kept for queries. */
@Injectable()
export class History {
  private readonly logger = createLogger('history');
  private readonly known = new Set<AgentId>();

  constructor(
    private readonly database: Database,
    private readonly otlp: OtlpForward,
    metrics: Metrics,
  ) {
    // Facts of one chain may overtake one another for a moment; a number that stays is a fact that never came.
    metrics.gauge({
      name: 'ims_history_facts_missing',
      help: 'Facts that a chain must have, by its numbers, and that are not here.',
      collect: async (gauge) => gauge.set(await this.missing()),
    });
  }

  @Consumes(factRecorded)
  async store(event: Event, { traceparent }: MessageContext): Promise<Outcome> {
    if (hashEvent(event.prev_hash, event) !== event.hash) {
      this.logger.error({ event_id: event.id, chain: event.chain, seq: event.seq }, 'a fact does not match its hash');
      return reject('digest_mismatch', 'the fact does not match its hash');
    }
    await this.database.query(
      `WITH stored AS (
         INSERT INTO facts (id, chain, seq, vendor_id, install_id, deployment_id, job_id, event, trace_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING chain, seq)
       INSERT INTO fact_chains AS c (chain, last_seq, facts) SELECT chain, seq, 1 FROM stored
       ON CONFLICT (chain) DO UPDATE SET last_seq = greatest(c.last_seq, excluded.last_seq), facts = c.facts + 1`,
      [
        event.id,
        event.chain,
        event.seq,
        event.vendor_id,
        event.install_id ?? null,
        event.deployment_id ?? null,
        event.job_id ?? null,
        JSON.stringify(event),
        traceparent.split('-')[1],
      ],
    );
    if (event.agent_id !== undefined) await this.learn(event.agent_id, event);
    if (event.job_id !== undefined && this.otlp.on && isEndOfJob(event))
      this.otlp.trace(await this.traceOf(event.job_id));
  }

  private async traceOf(jobId: string): Promise<JobTrace | undefined> {
    const rows = await this.database.query<{ event: Event; trace_id: string | null }>(
      'SELECT event, trace_id FROM facts WHERE job_id = $1 ORDER BY id LIMIT 1000',
      [jobId],
    );
    return traceOfFacts(
      rows.map(({ event }) => event),
      rows.find(({ event }) => event.type === 'job.created')?.trace_id ?? undefined,
    );
  }

  /** Whose an agent is; asked for when its first log line has to find its place. */
  private async learn(agentId: AgentId, { vendor_id, install_id }: Event): Promise<void> {
    if (this.known.has(agentId)) return;
    await this.database.query(
      'INSERT INTO agents (agent_id, vendor_id, install_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
      [agentId, vendor_id, install_id ?? null],
    );
    if (this.known.size > 100_000) this.known.clear();
    this.known.add(agentId);
  }

  /** Newest first for a vendor or an install, oldest first for a deployment or a job: the order in which people read. */
  @Serves(listHistory)
  async list(query: ListHistory): Promise<EventPage> {
    const { vendor_id, install_id, deployment_id, job_id } = query;
    const oldestFirst = deployment_id !== undefined || job_id !== undefined;
    const [compare, order] = oldestFirst ? ['>', 'ASC'] : ['<', 'DESC'];
    const [after] = decodeCursor(query.cursor, 1) ?? [];
    const limit = limitOf(query);
    const conditions = ['vendor_id = $1'];
    const params: unknown[] = [vendor_id];
    const where = (condition: string, value: unknown): void => {
      if (value === undefined) return;
      params.push(value);
      conditions.push(`${condition} $${params.length}`);
    };
    where('install_id =', install_id);
    where('deployment_id =', deployment_id);
    where('job_id =', job_id);
    where(`id ${compare}`, after);
    const rows = await this.database.query<{ event: Event }>(
      `SELECT event FROM facts WHERE ${conditions.join(' AND ')} ORDER BY id ${order} LIMIT ${limit + 1}`,
      params,
    );
    return pageOf(
      rows.map(({ event }) => event),
      limit,
      ({ id }) => [id],
    );
  }

  private async missing(): Promise<number> {
    const [row] = await this.database.query<{ missing: number }>(
      'SELECT coalesce(sum(last_seq - facts), 0)::float8 AS missing FROM fact_chains WHERE last_seq > facts',
    );
    return row?.missing ?? 0;
  }
}
