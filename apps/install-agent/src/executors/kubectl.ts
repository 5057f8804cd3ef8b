import { ImsError, type ErrorCode } from '#contracts';
import { type InstallAgentConfig } from '../config.js';
import { type ExecutorContext } from '../executor.js';

const TIMEOUT_MS = 120_000;

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly [key: string]: unknown;
}

/** Runs kubectl against the customer's cluster. Every failure comes out under the code of the phase that it is in. */
export class Kubectl {
  constructor(private readonly config: InstallAgentConfig) {}

  /** The environment of kubectl and helm; `tool_missing` when no cluster is configured. */
  environment({ workDir }: ExecutorContext): Record<string, string> {
    const { KUBECONFIG } = this.config;
    if (KUBECONFIG === undefined)
      throw new ImsError('tool_missing', 'KUBECONFIG is not set: this agent has no cluster');
    return { KUBECONFIG, KUBECACHEDIR: `${workDir}/kube-cache` };
  }

  /** One command; its standard output. `good` exit codes other than 0 are the caller's to read. */
  async run(
    context: ExecutorContext,
    args: readonly string[],
    code: ErrorCode,
    options: {
      readonly good?: readonly number[];
      readonly timeoutMs?: number;
      readonly quiet?: boolean;
      readonly stdin?: string;
    } = {},
  ): Promise<{ exitCode: number; stdout: string }> {
    const said: string[] = [];
    const { exitCode, stdout = '' } = await context.step.run({
      command: this.config.KUBECTL_BIN,
      args: ['--namespace', context.namespace, ...args],
      env: this.environment(context),
      timeoutMs: options.timeoutMs ?? TIMEOUT_MS,
      maxOutputBytes: 32 * 2 ** 20,
      onLine: (line) => {
        said.push(line);
        return options.quiet === true ? undefined : line;
      },
      ...(options.stdin === undefined ? {} : { stdin: options.stdin }),
    });
    if (exitCode === 0 || options.good?.includes(exitCode) === true) return { exitCode, stdout };
    throw new ImsError(
      code,
      said.slice(-5).join('; ').slice(0, 2_000) || `kubectl ${args[0] ?? ''} ended with ${exitCode}`,
    );
  }

  /** The object as the cluster has it, or undefined. */
  async get(context: ExecutorContext, kind: string, name: string, code: ErrorCode): Promise<KubeObject | undefined> {
    const { stdout } = await this.run(context, ['get', kind, name, '--ignore-not-found', '-o', 'json'], code, {
      quiet: true,
    });
    return stdout.trim() === '' ? undefined : (JSON.parse(stdout) as KubeObject);
  }
}
