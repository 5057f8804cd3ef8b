import { join } from 'node:path';
import { ImsError, type ErrorCode } from '#contracts';
import { type InstallAgentConfig } from '../config.js';
import { type ClusterNeed, type ExecutorContext } from '../executor.js';
import { identityOf, placeOf, type KubeObject, type Placed } from './objects.js';

const TIMEOUT_MS = 120_000;
const OUTPUT_BYTES_MAX = 32 * 2 ** 20;
export const MANAGED_BY = 'app.kubernetes.io/managed-by';
export const INSTALL_LABEL = 'vendor-cloud.dev/install';
export const COMPONENT_LABEL = 'vendor-cloud.dev/component';
/** Whose fields are ours, in the cluster's own book-keeping. */
export const FIELD_MANAGER = 'vendor-cloud';
export const AS_US = `--field-manager=${FIELD_MANAGER}`;
/** What somebody may have put into a namespace that he would miss. */
const KEPT_KINDS =
  'deployments,statefulsets,daemonsets,jobs,cronjobs,pods,services,ingresses,configmaps,secrets,serviceaccounts,persistentvolumeclaims';
/** Kubernetes itself puts these into each namespace. */
const GIVEN = ['configmap/kube-root-ca.crt', 'serviceaccount/default'];

/** What everything takes that is put into a namespace. */
export const NAMESPACE_NEEDS: readonly ClusterNeed[] = [
  {
    resources: ['namespaces'],
    verbs: ['get', 'create', 'patch', 'delete', 'list', 'watch'],
    why: "the component's namespace is made when it is missing, and removed when this install made it and nothing is in it",
  },
  { resources: KEPT_KINDS.split(','), verbs: ['list'], why: 'whether the namespace is empty; what pods wait for' },
];
/** Objects of the component: compared, applied server-side, waited for, removed. */
export const OBJECT_NEEDS: ClusterNeed = {
  resources: ['*'],
  verbs: ['get', 'list', 'watch', 'create', 'patch', 'delete'],
  why: 'kinds that the component itself has, by name',
};

interface RunOptions {
  readonly good?: readonly number[];
  readonly timeoutMs?: number;
  readonly stdin?: string;
  readonly namespace?: string;
}

/** Runs kubectl against the customer's cluster. Every failure comes out under the code of the phase that it is in. */
export class Kubectl {
  constructor(private readonly config: InstallAgentConfig) {}

  /** The environment of kubectl and helm; `tool_missing` when no cluster is configured. */
  environment({ cacheDir }: ExecutorContext): Record<string, string> {
    const { KUBECONFIG } = this.config;
    if (KUBECONFIG === undefined)
      throw new ImsError('tool_missing', 'KUBECONFIG is not set: this agent has no cluster');
    return { KUBECONFIG, KUBECACHEDIR: join(cacheDir, 'kube') };
  }

  /** One command; its standard output, which is not logged: it may hold secrets. `good` exit codes other than 0 are the caller's to read. */
  async run(
    context: ExecutorContext,
    args: readonly string[],
    code: ErrorCode,
    { good = [0], timeoutMs = TIMEOUT_MS, stdin, namespace = context.namespace }: RunOptions = {},
  ): Promise<{ exitCode: number; stdout: string }> {
    const said: string[] = [];
    const { exitCode, stdout = '' } = await context.step.run({
      command: this.config.KUBECTL_BIN,
      args: ['--namespace', namespace, ...args],
      env: this.environment(context),
      timeoutMs,
      maxOutputBytes: OUTPUT_BYTES_MAX,
      onLine: (line) => {
        said.push(line);
        return line;
      },
      ...(stdin === undefined ? {} : { stdin }),
    });
    if (good.includes(exitCode)) return { exitCode, stdout };
    throw new ImsError(
      code,
      said.slice(-5).join('; ').slice(0, 2_000) || `kubectl ${args[0] ?? ''} ended with ${exitCode}`,
    );
  }

  /** Those of the objects that the cluster has, as it has them, by identity. One command a namespace. */
  live(context: ExecutorContext, objects: readonly KubeObject[], code: ErrorCode): Promise<Map<string, KubeObject>> {
    const args = ['get', '-f', '-', '--ignore-not-found', '--show-managed-fields', '-o', 'json'];
    return this.each(context, objects, args, code);
  }

  /** What the objects, which are there, would be after a server-side apply of `manager`: asked of the cluster, nothing is changed. */
  merged(context: ExecutorContext, objects: readonly KubeObject[], manager: string): Promise<Map<string, KubeObject>> {
    const how = ['--server-side', '--force-conflicts', `--field-manager=${manager}`, '--dry-run=server'];
    return this.each(context, objects, ['apply', ...how, '-f', '-', '-o', 'json'], 'plan_failed');
  }

  private async each(
    context: ExecutorContext,
    objects: readonly KubeObject[],
    args: readonly string[],
    code: ErrorCode,
  ): Promise<Map<string, KubeObject>> {
    const found = new Map<string, KubeObject>();
    for (const [namespace, members] of byNamespace(objects, context.namespace)) {
      const { stdout } = await this.run(context, args, code, { namespace, stdin: documents(members) });
      for (const object of itemsOf(stdout)) found.set(identityOf(placeOf(object, namespace)), object);
    }
    return found;
  }

  /** The pods of a namespace. */
  async pods(context: ExecutorContext, namespace: string, code: ErrorCode): Promise<KubeObject[]> {
    const { stdout } = await this.run(context, ['get', 'pods', '-o', 'json'], code, { namespace });
    return itemsOf(stdout);
  }

  /**
   * Removes objects and waits until they and what they own are gone, in the order given. Those that by their label now
   * belong to another component or install are passed over.
   */
  async remove(context: ExecutorContext, placed: readonly Placed[], code: ErrorCode): Promise<string[]> {
    const seconds = this.config.READY_SECONDS;
    const removed: string[] = [];
    for (const [namespace, members] of groupBy(placed, (each) => each.namespace)) {
      const names = members.map(({ reference }) => reference);
      const { stdout } = await this.run(context, ['get', ...names, '--ignore-not-found', '-o', 'json'], code, {
        namespace,
      });
      const there = new Map(itemsOf(stdout).map((object) => [identityOf(placeOf(object, namespace)), object]));
      const ours = members.filter((member) => {
        const object = there.get(identityOf(member)) ?? there.get(identityOf({ ...member, namespace }));
        return object !== undefined && !ownedByAnother(object, context);
      });
      if (ours.length === 0) continue;
      const how = ['--ignore-not-found', '--cascade=foreground', '--wait=true', `--timeout=${seconds}s`];
      await this.run(context, ['delete', ...how, ...ours.map(({ reference }) => reference)], code, {
        namespace,
        timeoutMs: (seconds + 10) * 1000,
      });
      removed.push(...ours.map(({ reference }) => reference));
    }
    return removed;
  }

  /** Makes the component's namespace when it is not there. One that was there before is not marked as made here. */
  async ensureNamespace(context: ExecutorContext): Promise<void> {
    if (await this.namespace(context, 'apply_failed')) return;
    const namespace = {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: {
        name: context.namespace,
        labels: { [MANAGED_BY]: 'vendor-cloud', [INSTALL_LABEL]: context.installId },
      },
    };
    await this.run(context, ['apply', '--server-side', AS_US, '-f', '-'], 'apply_failed', {
      stdin: JSON.stringify(namespace),
    });
  }

  /**
   * The namespace was made for the app: it goes with the last thing in it, and only when this install made it. Answers
   * what keeps it: objects of other components, or of the customer, which are not ours to remove.
   */
  async removeEmptyNamespace(context: ExecutorContext): Promise<string[]> {
    const found = await this.namespace(context, 'destroy_failed');
    if (found?.metadata.labels?.[INSTALL_LABEL] !== context.installId) return [];
    const listed = await this.run(context, ['get', KEPT_KINDS, '-o', 'json'], 'destroy_failed');
    const left = itemsOf(listed.stdout).filter(
      ({ kind, metadata }) => !GIVEN.includes(`${kind.toLowerCase()}/${metadata.name}`),
    );
    if (left.length === 0) {
      const args = ['delete', 'namespace', context.namespace, '--ignore-not-found', '--wait=true'];
      await this.run(context, args, 'destroy_failed');
    }
    // Other components of this install are on their turn; a release is one by its record.
    return left
      .filter(
        ({ metadata: { labels } }) => labels?.[INSTALL_LABEL] !== context.installId && labels?.['owner'] !== 'helm',
      )
      .map(({ kind, metadata }) => `${kind}/${metadata.name}`);
  }

  private async namespace(context: ExecutorContext, code: ErrorCode): Promise<KubeObject | undefined> {
    const args = ['get', 'namespace', context.namespace, '--ignore-not-found', '-o', 'json'];
    return itemsOf((await this.run(context, args, code)).stdout)[0];
  }
}

/** Two installs of an app in one namespace would overwrite each other, each believing that all is as it wants. */
export function assertNotOfAnotherInstall(object: KubeObject, { installId }: ExecutorContext): void {
  const owner = object.metadata.labels?.[INSTALL_LABEL];
  if (owner === undefined || owner === installId) return;
  throw new ImsError('plan_failed', `${object.kind}/${object.metadata.name} belongs to another install (${owner})`);
}

function ownedByAnother({ metadata: { labels = {} } }: KubeObject, { installId, step }: ExecutorContext): boolean {
  const { [INSTALL_LABEL]: install = installId, [COMPONENT_LABEL]: component = step.statement.component.name } = labels;
  return install !== installId || component !== step.statement.component.name;
}

/** JSON documents in a YAML stream: kubectl validates each by its own schema, which it cannot for a `List`. */
export const documents = (objects: readonly KubeObject[]): string =>
  objects.map((object) => `---\n${JSON.stringify(object)}\n`).join('');

export const byNamespace = (objects: readonly KubeObject[], namespace: string): Map<string, KubeObject[]> =>
  groupBy(objects, ({ metadata }) => metadata.namespace ?? namespace);

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}

function itemsOf(stdout: string): KubeObject[] {
  if (stdout.trim() === '') return [];
  const value = JSON.parse(stdout) as KubeObject & { readonly items?: KubeObject[] };
  return value.kind === 'List' ? (value.items ?? []) : [value];
}
