import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { privateDirectory, writePrivate } from '#agent-kit';
import { type JsonObject } from '#contracts';
import { type ReferenceScope } from '#domain';

/** What this agent knows of a component that it provisioned. It stays in the customer's account, sensitive outputs too. */
export interface ComponentState {
  readonly digest: string;
  readonly kind: string;
  readonly outputs: JsonObject;
  /** Names of the outputs whose values are secret. */
  readonly sensitive: readonly string[];
}

/** The components of the install, one directory each (mode 0700), for state and for what executors keep. */
export class ComponentStore {
  constructor(private readonly stateDir: string) {}

  /** The component's own directory, made when it is not there. */
  directoryOf(name: string): Promise<string> {
    return privateDirectory(join(this.stateDir, 'components', name));
  }

  async read(name: string): Promise<ComponentState | undefined> {
    const file = this.fileOf(name);
    return existsSync(file) ? (JSON.parse(await readFile(file, 'utf8')) as ComponentState) : undefined;
  }

  async write(name: string, state: ComponentState): Promise<void> {
    await this.directoryOf(name);
    await writePrivate(this.fileOf(name), JSON.stringify(state));
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.stateDir, 'components', name), { recursive: true, force: true });
  }

  /** Outputs of every component, for templates. */
  async outputs(): Promise<ReferenceScope['components']> {
    const all = await this.all();
    return Object.fromEntries(all.map(([name, { outputs }]) => [name, outputs]));
  }

  /** The values that must be in no log, whichever component prints them. */
  async secrets(): Promise<string[]> {
    const all = await this.all();
    return all.flatMap(([, { outputs, sensitive }]) => sensitive.flatMap((key) => textsOf(outputs[key])));
  }

  private async all(): Promise<[string, ComponentState][]> {
    const root = await privateDirectory(join(this.stateDir, 'components'));
    const states = await Promise.all((await readdir(root)).map(async (name) => [name, await this.read(name)] as const));
    return states.flatMap(([name, state]) => (state ? [[name, state] as [string, ComponentState]] : []));
  }

  private fileOf(name: string): string {
    return join(this.stateDir, 'components', name, 'state.json');
  }
}

/** Every text in a value: the parts of a secret list or object are secrets too. */
export function textsOf(value: unknown): string[] {
  if (typeof value === 'string') return value === '' ? [] : [value];
  if (typeof value === 'number') return [String(value)];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsOf) : [];
}
