import { Injectable } from '@nestjs/common';
import { describeError } from './logger.js';
import { redactText } from './redaction.js';
import { withTimeout } from './time.js';

export interface CheckResult {
  readonly name: string;
  readonly ok: boolean;
  readonly ms: number;
  /** Why not, without secrets. */
  readonly reason?: string;
}

/** A check that hangs counts as failed: an orchestrator's own probe usually gives up after a second or two. */
const CHECK_TIMEOUT_MS = 2_000;

/** Whether this process may get work: what it depends on, and whether it is about to end. */
@Injectable()
export class ServiceHealth {
  private readonly checks = new Map<string, () => Promise<void>>();
  private isDraining = false;

  /** Registers a dependency; the check rejects when it is not usable. One name, one check. */
  addCheck(name: string, check: () => Promise<void>): void {
    if (this.checks.has(name)) throw new Error(`there is already a readiness check called ${name}`);
    this.checks.set(name, check);
  }

  get draining(): boolean {
    return this.isDraining;
  }

  /** From now on not ready, for ever: the process ends. Called by Lifecycle. */
  beginDrain(): void {
    this.isDraining = true;
  }

  /** Runs all checks at the same time. */
  async run(): Promise<CheckResult[]> {
    return Promise.all([...this.checks].map(([name, check]) => runCheck(name, check)));
  }
}

async function runCheck(name: string, check: () => Promise<void>): Promise<CheckResult> {
  const start = performance.now();
  const taken = (): number => Math.round(performance.now() - start);
  try {
    await withTimeout(name, CHECK_TIMEOUT_MS, check());
    return { name, ok: true, ms: taken() };
  } catch (error) {
    const described = describeError(error);
    return {
      name,
      ok: false,
      ms: taken(),
      reason: redactText(typeof described === 'string' ? described : described.message),
    };
  }
}
