import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { assertPrivate } from '#agent-kit';
import { ImsError, type InputDeclaration, type JsonObject, type JsonValue } from '#contracts';
import { resolveCustomerInputs } from '#domain';

/** Longest file that a value is read from. */
const MAX_BYTES = 8192;

/**
 * What the customer gives for the vendor's templates, secrets above all: `inputs.json` in the state directory, mode 0600,
 * a JSON object of names and values. A value `{"file": "/run/secrets/db"}` is read from there at each use, so that a
 * secret store that mounts files is enough. Nothing of it leaves this host.
 */
export class CustomerInputs {
  private readonly file: string;

  constructor(stateDir: string) {
    this.file = join(stateDir, 'inputs.json');
  }

  /** The declared inputs with their values, and the texts that no log may show. Throws `missing_input`, `invalid_request`. */
  async resolve(declared: readonly InputDeclaration[]): Promise<{ values: JsonObject; secrets: string[] }> {
    if (declared.length === 0) return { values: {}, secrets: [] };
    const given = await this.read();
    const wanted = declared.filter(({ name }) => Object.hasOwn(given, name));
    const entries = await Promise.all(
      wanted.map(async ({ name }) => [name, await valueOf(name, given[name])] as const),
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
}

async function valueOf(name: string, value: JsonValue | undefined): Promise<JsonValue> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value ?? null;
  const { file } = value;
  if (typeof file !== 'string')
    throw new ImsError('invalid_request', `input ${name} is neither a value nor {"file": …}`);
  try {
    const text = await readFile(file, 'utf8');
    if (Buffer.byteLength(text) > MAX_BYTES) throw new Error(`has more than ${MAX_BYTES} bytes`);
    return text.replace(/\r?\n$/, '');
  } catch (error) {
    throw new ImsError('missing_input', `input ${name} cannot be read from ${file}`, [], { cause: error });
  }
}
