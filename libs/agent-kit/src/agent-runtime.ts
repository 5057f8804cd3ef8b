import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ImsError, reportPolicy } from '#contracts';
import { createLogger } from '#platform';
import { type StopTimes } from './attempt.js';
import { privateDirectory } from './files.js';
import { type JobHandler } from './handler.js';
import { type Identity } from './identity.js';
import { Journal } from './journal.js';
import { JobLoop } from './job-loop.js';
import { type LeaseTimes } from './leases.js';
import { LogShipper } from './log-shipper.js';
import { CustomerGate } from './policy-gate.js';
import { killLeftovers } from './processes.js';
import { Session, AgentClock } from './session.js';
import { StateLock } from './state-lock.js';
import { VitalsReporter } from './vitals.js';
import { Workspaces } from './workspace.js';

export interface AgentOptions {
  readonly stateDir: string;
  readonly version: string;
  readonly caFile?: string;
  /** At most so many jobs at once, even when the server allows more. */
  readonly maxSlots?: number;
  /** On SIGTERM: so long may running jobs go on before they are stopped, to be resumed. Default 5 s. */
  readonly finishMs?: number;
  readonly minFreeBytes?: number;
  readonly leaseTimes?: LeaseTimes;
  readonly stopTimes?: StopTimes;
  readonly resultResendMs?: number;
  readonly vitalsMs?: number;
  /** An agent that works for a customer: its policy and its record are here. */
  readonly customer?: { readonly policyFile?: string; readonly pollMs?: number };
}

const LOG_DRAIN_MS = 2_000;
const logger = createLogger('agent');

interface Started {
  readonly lock: StateLock;
  readonly journal: Journal;
  readonly shipper: LogShipper;
  readonly session: Session;
  readonly loop: JobLoop;
  readonly vitals: VitalsReporter;
  readonly gate: CustomerGate | undefined;
}

/** A whole agent process: what an earlier life left is cleaned up first, then it connects and works. */
export class AgentRuntime {
  private readonly stopping = new AbortController();
  private started: Started | undefined;

  constructor(
    private readonly options: AgentOptions,
    private readonly identity: Identity,
    private readonly handlers: readonly JobHandler[],
    private readonly clock: AgentClock = new AgentClock(),
  ) {}

  /** Resolves when it is connected and takes jobs; waits for a server that is not there. */
  async start(): Promise<void> {
    const { options, identity } = this;
    const at = (name: string): string => join(options.stateDir, name);
    const lock = await StateLock.take(options.stateDir);
    let journal: Journal | undefined;
    let gate: CustomerGate | undefined;
    try {
      // First of all: from here on everything that is asked of this agent is on record.
      gate = await this.openGate();
      journal = await Journal.open(at('journal'));
      const attempts = journal.entries();
      const killed = await killLeftovers(attempts.flatMap((attempt) => attempt.openGroups));
      if (killed > 0) logger.warn({ killed }, 'processes of an earlier run were still there');
      const workspaces = new Workspaces(at('work'), options.minFreeBytes);
      await workspaces.sweep(attempts);
      const shipper = await LogShipper.open({ directory: at('spool'), agentId: identity.agentId });
      shipper.endAllBut(attempts.filter(({ result }) => result === undefined));
      await rm(at('run'), { recursive: true, force: true });
      await privateDirectory(at('run'));
      const session = await this.connect();
      const loop = new JobLoop({
        ...options,
        identity,
        bus: session.bus,
        sessionId: session.id,
        slots: Math.min(session.slots, options.maxSlots ?? session.slots),
        handlers: this.handlers,
        journal,
        shipper,
        workspaces,
        runDir: at('run'),
        ...(gate === undefined ? {} : { gate }),
        onConsumerLost: async () => {
          await session.hello();
        },
      });
      const vitals = new VitalsReporter({
        bus: session.bus,
        agentId: identity.agentId,
        sessionId: session.id,
        version: options.version,
        ...(options.vitalsMs === undefined ? {} : { everyMs: options.vitalsMs }),
        skewMs: () => this.clock.skewMs,
        running: () => loop.running,
        diskFreeBytes: () => workspaces.freeBytes(),
      });
      this.started = { lock, journal, shipper, session, loop, vitals, gate };
      shipper.start(session.bus);
      loop.start();
      vitals.start();
      gate?.start((policy) =>
        session.bus.call(reportPolicy, { session_id: session.id, policy }, { agent: identity.agentId }),
      );
      logger.info({ agent_id: identity.agentId, kind: identity.enrolment.kind, attempts: attempts.length }, 'ready');
    } catch (error) {
      await journal?.close();
      await gate?.stop();
      await lock.release();
      throw error;
    }
  }

  /** Takes nothing new, lets run what ends in time, leaves the rest to the next start. Safe to call at any moment. */
  async drain(): Promise<void> {
    this.stopping.abort();
    const { started } = this;
    if (started === undefined) return;
    this.started = undefined;
    const { lock, journal, shipper, session, loop, vitals, gate } = started;
    vitals.stop();
    await loop.drain(this.options.finishMs ?? 5_000);
    await shipper.stop(LOG_DRAIN_MS);
    await journal.close();
    await gate?.stop();
    await session.close();
    await lock.release();
    logger.info('stopped');
  }

  private async openGate(): Promise<CustomerGate | undefined> {
    const { customer, stateDir, version } = this.options;
    if (customer === undefined) return undefined;
    return CustomerGate.open({ ...customer, stateDir, version, skewMs: () => this.clock.skewMs });
  }

  private async connect(): Promise<Session> {
    const { identity, clock } = this;
    const { version, caFile } = this.options;
    const session = await Session.open(
      {
        identity,
        version,
        clock,
        ...(caFile === undefined ? {} : { caFile }),
        onReconnect: () => this.started?.loop.reconnected(),
      },
      this.stopping.signal,
    );
    if (this.stopping.signal.aborted) {
      await session.close();
      throw new ImsError('unavailable', 'the agent was stopped before it was ready');
    }
    return session;
  }
}
