import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { assertPrivate } from '#agent-kit';
import { ImsError, type InputDeclaration, type JsonObject, type JsonValue } from '#contracts';
import { resolveCustomerInputs } from '#domain';
import { type SecretStore, type SecretStores } from './secret-stores.js';

/** Longest value. */
const MAX_BYTES = 8192;

/**
 * What the customer gives for the vendor's templates, secrets above all: `inputs.json` in the state directory, mode 0600,
 * a JSON object of names and values. A value `{"file": "/run/secrets/db"}` is read from there at each use, so that a
 * secret store that mounts files is enough; `{"env": …}` and `{"aws_secret": …}` are read by the stores of those names.
 * Nothing of it leaves this host.
 */
export class CustomerInputs {
  private readonly file: string;

  constructor(
    stateDir: string,
    private readonly stores: SecretStores,
  ) {
    this.file = join(stateDir, 'inputs.json');
  }

  /** The declared inputs with their values, and the texts that no log may show. Throws `missing_input`, `invalid_request`. */
  async resolve(declared: readonly InputDeclaration[]): Promise<{ values: JsonObject; secrets: string[] }> {
    if (declared.length === 0) return { values: {}, secrets: [] };
    const given = await this.read();
    const wanted = declared.filter(({ name }) => Object.hasOwn(given, name));
    const entries = await Promise.all(
      wanted.map(async ({ name }) => [name, await this.valueOf(name, given[name])] as const),
    );
    const values = resolveCustomerInputs(declared, Object.fromEntries(entries));
    const secrets = declared.flatMap(({ name, type }) => {
      const value = type === 'secret' ? values[name] : undefined;
      return typeof value === 'string' && value !== '' ? [value] : [];
    });
    return { values, secrets };
  }

  private async read(): Promise<JsonObject> {
    if (!existsSync(this.file)) return {};
    await assertPrivate(this.file);
    try {
      return JSON.parse(await readFile(this.file, 'utf8')) as JsonObject;
    } catch {
      // The parser's message may quote the file.
      throw new ImsError('invalid_request', 'inputs.json in the state directory is not valid JSON');
    }
  }

  private async valueOf(name: string, value: JsonValue | undefined): Promise<JsonValue> {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value ?? null;
    const kinds = Object.keys(this.stores).filter((kind) => Object.hasOwn(value, kind));
    const [kind = 'file'] = kinds;
    const store = kind === 'file' ? FILES : this.stores[kind];
    if (!store || kinds.length > 1 || (kinds.length === 0 && typeof value['file'] !== 'string')) {
      const known = ['file', ...Object.keys(this.stores)].map((each) => `{"${each}": …}`);
      throw new ImsError('invalid_request', `input ${name} is neither a value nor one of ${known.join(', ')}`);
    }
    try {
      const text = await store.read(value);
      if (Buffer.byteLength(text) > MAX_BYTES) throw new ImsError('missing_input', `more than ${MAX_BYTES} bytes`);
      return text;
    } catch (error) {
      const { code, detail } = ImsError.of(error);
      throw new ImsError(code, `input ${name}: ${detail}`, [], { cause: error });
    }
  }
}

const FILES: SecretStore = {
  async read(reference) {
    const file = reference['file'] as string;
    try {
      return (await readFile(file, 'utf8')).replace(/\r?\n$/, '');
    } catch (error) {
      throw new ImsError('missing_input', `it cannot be read from ${file}`, [], { cause: error });
    }
  },
};
