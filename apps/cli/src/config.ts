import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { CliError } from './exit.js';

export const VERSION = '0.1.0';

/** One place to talk to, and as whom. The key is in a file of its own, so that the list can be shown and shared. */
interface Context {
  readonly url: string;
}
interface ContextFile {
  readonly current?: string;
  readonly contexts: Readonly<Record<string, Context>>;
}
export interface Target {
  readonly url: string;
  readonly apiKey: string | undefined;
  /** Where it was found, as `ims doctor` shows it. */
  readonly source: string;
}

const env = (name: string): string | undefined => (process.env[name] === '' ? undefined : process.env[name]);
/** A variable of the shell, for `${NAME}` in vendor-cloud.yaml. */
export const shellVariable = env;
export const operatorKey = (): string | undefined => env('IMS_OPERATOR_KEY');
/** Off on NO_COLOR and in CI, as those say; FORCE_COLOR wins. */
export const wantsColour = (isTerminal: boolean | undefined): boolean =>
  env('FORCE_COLOR') !== undefined ||
  (isTerminal === true && env('NO_COLOR') === undefined && env('CI') === undefined && env('TERM') !== 'dumb');
export const inCi = (): boolean => env('CI') !== undefined;

/** The contexts of this user: `$XDG_CONFIG_HOME/ims`, made for the owner alone. */
export class Contexts {
  readonly dir = join(env('XDG_CONFIG_HOME') ?? join(homedir(), '.config'), 'ims');
  private readonly file = join(this.dir, 'config.json');

  read(): ContextFile {
    if (!existsSync(this.file)) return { contexts: {} };
    try {
      return JSON.parse(readFileSync(this.file, 'utf8')) as ContextFile;
    } catch (error) {
      throw new CliError('usage', `${this.file} cannot be read: ${String(error)}`, ['Mend it, or remove it.']);
    }
  }

  keyFile(name: string): string {
    return join(this.dir, 'keys', name);
  }

  /** Keeps a context with its key and makes it the current one. */
  save(name: string, url: string, apiKey: string): void {
    if (!/^[\w.-]{1,60}$/.test(name))
      throw new CliError('usage', `${name} is no name of a context: use a-z, 0-9, - and .`);
    this.writePrivate(this.keyFile(name), `${apiKey}\n`);
    const { contexts } = this.read();
    this.write({ current: name, contexts: { ...contexts, [name]: { url } } });
  }

  use(name: string): void {
    this.write({ ...this.read(), current: this.known(name) });
  }

  remove(name: string): void {
    const { [this.known(name)]: _gone, ...contexts } = this.read().contexts;
    const { current } = this.read();
    rmSync(this.keyFile(name), { force: true });
    this.write({ contexts, ...(current === undefined || current === name ? {} : { current }) });
  }

  /** Flags before environment before the current context. */
  target(flags: { readonly url?: string; readonly context?: string }): Target {
    const { current, contexts } = this.read();
    const name = flags.context ?? env('IMS_CONTEXT') ?? current;
    const context = name === undefined ? undefined : contexts[name];
    if (name !== undefined && context === undefined && (flags.context ?? env('IMS_CONTEXT')) !== undefined)
      this.known(name);
    const url = flags.url ?? env('IMS_URL') ?? context?.url;
    if (url === undefined) {
      throw new CliError('denied', 'no Vendor Cloud to talk to is known here', [
        'ims login --url https://…      (or set IMS_URL and IMS_API_KEY)',
      ]);
    }
    if (!/^https?:\/\/[^/]/.test(url))
      throw new CliError('usage', `${url} is no URL: it begins with https:// or http://`);
    const fromEnv = env('IMS_API_KEY');
    // A key belongs to the place that it was given for: it is never sent to a URL that came another way.
    const isOwn = context !== undefined && context.url === url;
    const apiKey = fromEnv ?? (isOwn && name !== undefined ? this.readKey(name) : undefined);
    return { url, apiKey, source: fromEnv !== undefined ? 'environment' : isOwn ? `context ${name}` : 'no key' };
  }

  /** What is wrong with the files: a key that others may read. */
  faults(): string[] {
    const names = Object.keys(this.read().contexts);
    return names
      .map((name) => this.keyFile(name))
      .filter((file) => existsSync(file) && (statSync(file).mode & 0o077) !== 0)
      .map((file) => `${file} can be read by others: chmod 600 ${file}`);
  }

  private known(name: string): string {
    const names = Object.keys(this.read().contexts);
    if (names.includes(name)) return name;
    throw new CliError('notFound', `there is no context ${name}`, [
      names.length === 0 ? 'ims login --url https://…' : `There are: ${names.join(', ')}`,
    ]);
  }

  private readKey(name: string): string | undefined {
    const file = this.keyFile(name);
    return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
  }

  private write(contents: ContextFile): void {
    this.writePrivate(this.file, `${JSON.stringify(contents, null, 2)}\n`);
  }

  private writePrivate(file: string, text: string): void {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, text, { mode: 0o600 });
    // An older file keeps its mode when it is written anew.
    chmodSync(file, 0o600);
  }
}
