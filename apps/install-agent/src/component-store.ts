import { createHmac, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { assertPrivate, privateDirectory, writePrivate } from '#agent-kit';
import { type InputDeclaration, type JsonObject, type JsonValue } from '#contracts';
import { type ReferenceScope } from '#domain';
import { CustomerInputs } from './customer-inputs.js';
import { HighWater } from './high-water.js';
import { type SecretStores } from './secret-stores.js';

/** What this agent knows of a component that it provisioned. It stays in the customer's account, sensitive outputs too. */
export interface ComponentState {
  readonly digest: string;
  readonly kind: string;
  readonly outputs: JsonObject;
  /** Names of the outputs whose values are secret. */
  readonly sensitive: readonly string[];
}

/** Shorter texts are in everything (`1`, `eu`, `on`): that an output contains one says nothing. The redactor's bound. */
const SECRET_CHARS_MIN = 4;

/** The components of the install, one directory each (mode 0700), for state and for what executors keep. */
export class ComponentStore {
  readonly highWater: HighWater;
  private readonly customerInputs: CustomerInputs;
  /** Secrets of the customer that templates were given: an output that holds one is sensitive. */
  private readonly given = new Set<string>();
  private key: Promise<Buffer> | undefined;

  constructor(
    private readonly stateDir: string,
    secretStores: SecretStores = {},
  ) {
    this.highWater = new HighWater(stateDir);
    this.customerInputs = new CustomerInputs(stateDir, secretStores);
  }

  /** The component's own directory, made when it is not there. */
  directoryOf(name: string): Promise<string> {
    return privateDirectory(join(this.stateDir, 'components', name));
  }

  /** Where that directory is, or would be. */
  placeOf(name: string): string {
    return join(this.stateDir, 'components', name);
  }

  cacheDirectory(): Promise<string> {
    return privateDirectory(join(this.stateDir, 'cache'));
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
    await rm(this.placeOf(name), { recursive: true, force: true });
  }

  /** Outputs of every component, for templates. */
  async outputs(): Promise<ReferenceScope['components']> {
    const all = await this.all();
    return Object.fromEntries(all.map(([name, { outputs }]) => [name, outputs]));
  }

  /** The values that must be in no log, whichever component prints them. */
  async secrets(): Promise<string[]> {
    const all = await this.all();
    const own = all.flatMap(([, { outputs, sensitive }]) => sensitive.flatMap((key) => textsOf(outputs[key])));
    return [...own, ...this.given];
  }

  /** What the customer gives for these inputs; its secrets count from now on. Throws `missing_input`. */
  async customerValues(declared: readonly InputDeclaration[]): Promise<JsonObject> {
    const { values, secrets } = await this.customerInputs.resolve(declared);
    for (const secret of secrets) this.given.add(secret);
    return values;
  }

  /** Answers digests under a key that this store makes once and keeps (`digest-key`, mode 0600). */
  async fingerprinter(): Promise<(text: string) => string> {
    this.key ??= this.digestKey();
    const key = await this.key;
    return (text) => `sha256:${createHmac('sha256', key).update(text).digest('hex')}`;
  }

  private async digestKey(): Promise<Buffer> {
    const file = join(this.stateDir, 'digest-key');
    if (!existsSync(file)) {
      await privateDirectory(this.stateDir);
      await writePrivate(file, randomBytes(32).toString('base64url'));
    }
    await assertPrivate(file);
    return Buffer.from(await readFile(file, 'utf8'), 'base64url');
  }

  private async all(): Promise<[string, ComponentState][]> {
    const root = await privateDirectory(join(this.stateDir, 'components'));
    const states = await Promise.all((await readdir(root)).map(async (name) => [name, await this.read(name)] as const));
    return states.flatMap(([name, state]) => (state ? [[name, state] as [string, ComponentState]] : []));
  }

  private fileOf(name: string): string {
    return join(this.placeOf(name), 'state.json');
  }
}

/** Every text in a value: the parts of a secret list or object are secrets too. */
export function textsOf(value: unknown): string[] {
  if (typeof value === 'string') return value === '' ? [] : [value];
  if (typeof value === 'number') return [String(value)];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsOf) : [];
}

/** True when a value has a secret in one of its texts, as a URL has its password. */
export function contains(value: JsonValue, secrets: readonly string[]): boolean {
  const long = secrets.filter((secret) => secret.length >= SECRET_CHARS_MIN);
  const forms = long.flatMap((secret) => [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64')]);
  return textsOf(value).some((text) => forms.some((form) => text.includes(form)));
}
