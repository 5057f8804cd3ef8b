import { join } from 'node:path';
import {
  AgentRuntime,
  Identity,
  untilStopped,
  type AgentOptions,
  type JobHandler,
  type StepDefinition,
} from '#agent-kit';
import { ImsError, type JobKind, type JobStatement, type JsonObject } from '#contracts';
import { Random, seedOf } from '../random.js';

/** What a host is told: `node agent-host.js '<HostPlan as JSON>'`. */
export interface HostPlan {
  readonly seed: number;
  readonly states: readonly string[];
  /** Directory of the files in which the effects of jobs appear. */
  readonly effects: string;
  readonly options: Omit<AgentOptions, 'stateDir'>;
  /** `stubborn`: instead of drawn steps one that ends by SIGKILL alone, with a child that does so too. */
  readonly work: 'drawn' | 'stubborn';
}

/**
 * The world that a step changes is one file an agent. `done` is in it once, whatever happens: a step that was cut by
 * the end of its agent looks there first, as every step has to.
 */
const SCRIPT = `
[ -z "$STUBBORN" ] || trap '' INT TERM
say() { printf '%s %s %s %s %s\\n' "$JOB" "$ATTEMPT" "$STEP" "$1" "$EPOCHREALTIME" >>"$WORLD"; }
[ -z "$CRASHED" ] || ! grep -qF "$JOB $ATTEMPT $STEP done" "$WORLD" 2>/dev/null || exit 0
say began
sleep "$PAUSE"
[ -z "$FAIL" ] || exit 3
say done
`;

/** Says when it is told to stop, and goes on; `pids:` names all that has to be gone in the end. */
const STUBBORN = `
say() { printf '%s %s %s %s %s\\n' "$JOB" "$ATTEMPT" "$STEP" "$1" "$EPOCHREALTIME" >>"$WORLD"; }
trap 'say int' INT
trap '' TERM
( trap '' INT TERM; while :; do sleep 300; done ) &
say "pids:$$:$!"
while :; do sleep 300; done
`;

/** Steps with effects that can be seen from outside, drawn from the seed and the job alone. */
class StormHandler implements JobHandler {
  constructor(
    readonly kind: JobKind,
    private readonly plan: HostPlan,
    private readonly agentId: string,
  ) {}

  steps(job: JobStatement): readonly StepDefinition[] {
    const drawn = new Random(seedOf(this.plan.seed, job.job_id));
    const tries = new Random(seedOf(this.plan.seed, `${job.job_id}.${job.attempt}`));
    const stubborn = this.plan.work === 'stubborn';
    const count = this.kind === 'build' ? 0 : stubborn ? 1 : drawn.int(1, 3);
    const failing = count > 0 && tries.chance(0.06) ? tries.int(1, count) : 0;
    const code = tries.chance(0.8) ? 'registry_unavailable' : 'apply_failed';
    const work = Array.from({ length: count }, (_, i): StepDefinition => {
      const name = `step-${i + 1}`;
      const pauseMs = drawn.weighted([
        [8, drawn.int(5, 150)],
        [2, drawn.int(150, 1_200)],
        [0.3, drawn.int(2_000, 6_000)],
      ]);
      const env = {
        WORLD: join(this.plan.effects, `${this.agentId}.log`),
        JOB: job.job_id,
        ATTEMPT: String(job.attempt),
        STEP: name,
        PAUSE: String(pauseMs / 1000),
        STUBBORN: drawn.chance(0.1) ? '1' : '',
        FAIL: failing === i + 1 ? '1' : '',
      };
      return {
        name,
        run: async (context) => {
          const again = { CRASHED: context.crashed ? '1' : '' };
          const args = ['-c', stubborn ? STUBBORN : SCRIPT];
          const { exitCode } = await context.run({
            command: 'bash',
            args,
            env: { ...env, ...again },
            timeoutMs: 600_000,
          });
          context.log('info', `${name} ended with ${exitCode}`);
          if (exitCode !== 0) throw new ImsError(code, `${name} ended with ${exitCode}`);
          return { step: name };
        },
      };
    });
    // Does nothing; what it answers is the result of the job.
    return [...work, { name: REPORT, run: ({ statement }) => Promise.resolve(resultOf(statement)) }];
  }

  result(outputs: Readonly<Record<string, JsonObject>>): { result: JsonObject } {
    return { result: outputs[REPORT] ?? {} };
  }
}
const REPORT = 'report';

/** What the scheduler takes for the result of such a job. */
function resultOf({ kind, repository, component, artifact }: JobStatement): JsonObject {
  const digest = `sha256:${Buffer.from(component.name).toString('hex').padEnd(64, '0').slice(0, 64)}`;
  switch (kind) {
    case 'build':
      return { artifact: { repository, digest, media_type: 'application/x', size_bytes: 3 }, source_commit: 'c0ffee' };
    case 'sync':
      return { digest: artifact?.digest ?? '', bytes_copied: 3, blobs_copied: 1, blobs_skipped: 0 };
    case 'apply':
    case 'destroy':
    case 'observe':
    case 'noop':
      return {
        changed: true,
        created: 1,
        updated: 0,
        deleted: 0,
        outputs: { url: component.name },
        sensitive_outputs: [],
      };
  }
}

const plan = JSON.parse(process.argv[2] ?? '{}') as HostPlan;
const stopped = untilStopped();
const runtimes = await Promise.all(
  plan.states.map(async (stateDir) => {
    const identity = await Identity.load(stateDir);
    if (identity === undefined) throw new Error(`${stateDir} is not enrolled`);
    const kinds: readonly JobKind[] = identity.enrolment.kind === 'build' ? ['build'] : ['sync', 'apply', 'destroy'];
    const handlers = kinds.map((kind) => new StormHandler(kind, plan, identity.agentId));
    const customer = identity.enrolment.kind === 'install' ? { customer: { pollMs: 5_000 } } : {};
    const runtime = new AgentRuntime({ ...plan.options, stateDir, ...customer }, identity, handlers);
    // In the background: a host is up when its process is, with or without a server to connect to.
    void runtime.start().catch((error: unknown) => {
      process.stderr.write(
        `${identity.agentId} did not start: ${error instanceof Error ? error.stack : String(error)}\n`,
      );
      process.exit(7);
    });
    return runtime;
  }),
);
process.stderr.write('host ready\n');
await stopped;
await Promise.all(runtimes.map((runtime) => runtime.drain()));
process.exit(0);
