import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { ServiceHealth } from './health.js';
import { createLogger } from './logger.js';
import { withTimeout } from './time.js';

/**
 * The order in which a service ends. `stop-intake`: take no new work. `finish-work`: wait for what runs (its database
 * and broker are still there). `flush`: send what that work left behind. `close`: end connections.
 */
const DRAIN_PHASES = ['stop-intake', 'finish-work', 'flush', 'close'] as const;
export type DrainPhase = (typeof DRAIN_PHASES)[number];

/** Kubernetes kills 30 s after SIGTERM; all four phases together stay below that. */
const PHASE_TIMEOUT_MS: Record<DrainPhase, number> = {
  'stop-intake': 3_000,
  'finish-work': 15_000,
  flush: 4_000,
  close: 3_000,
};

/** Ordered end of a process. A step that fails or hangs is named in the log and does not keep the others from running. */
@Injectable()
export class Lifecycle implements OnModuleDestroy {
  private readonly logger = createLogger('lifecycle');
  private readonly steps: { phase: DrainPhase; name: string; step: () => Promise<void> }[] = [];
  private drained: Promise<void> | undefined;

  constructor(private readonly health: ServiceHealth) {}

  /** Steps of one phase run at the same time; a phase begins when the one before has ended. */
  onDrain(phase: DrainPhase, name: string, step: () => Promise<void>): void {
    this.steps.push({ phase, name, step });
  }

  /** Runs the drain once; later callers wait for the same one. */
  drain(): Promise<void> {
    this.drained ??= this.runPhases();
    return this.drained;
  }

  /** Also when a test or an embedding process closes the Nest application without a signal. */
  async onModuleDestroy(): Promise<void> {
    await this.drain();
  }

  private async runPhases(): Promise<void> {
    this.health.beginDrain();
    for (const phase of DRAIN_PHASES) {
      const due = this.steps.filter((step) => step.phase === phase);
      await Promise.all(
        due.map(async ({ name, step }) => {
          try {
            await withTimeout(`${phase} ${name}`, PHASE_TIMEOUT_MS[phase], step());
          } catch (error) {
            this.logger.error({ err: error, phase, step: name }, 'a drain step did not end well');
          }
        }),
      );
    }
  }
}
