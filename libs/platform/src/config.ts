import 'reflect-metadata';
import { readFileSync } from 'node:fs';
import {
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsString,
  Matches,
  Max,
  MaxLength,
  Min,
  MinLength,
  ValidateBy,
  validateSync,
} from 'class-validator';
import { proxySettings, type ProxySettings } from './proxy.js';
import { registerSecret } from './redaction.js';

/** All faults of a configuration at once, one a line. Never shows the value of a secret. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  constructor(readonly faults: readonly string[]) {
    super(`the configuration has ${faults.length} fault(s):\n${faults.map((fault) => `  - ${fault}`).join('\n')}`);
    // Where it was thrown helps nobody who reads it: the environment is to be corrected, not the code.
    this.stack = `${this.name}: ${this.message}`;
  }
}

interface Field {
  readonly name: string;
  readonly kind: 'text' | 'integer' | 'flag' | 'list';
  readonly secret: boolean;
  readonly optional: boolean;
  readonly fallback: unknown;
}
interface FieldOptions<T> {
  /** Used when the variable is not set. Without it the variable must be set, unless `optional`. */
  readonly default?: T;
  readonly optional?: boolean;
}

const FIELDS = Symbol('config fields');

function field<T>(
  kind: Field['kind'],
  options: FieldOptions<T>,
  rules: PropertyDecorator[],
  secret = false,
): PropertyDecorator {
  return (target, key) => {
    const own = (Reflect.getOwnMetadata(FIELDS, target) as Field[] | undefined) ?? [];
    const entry: Field = {
      name: String(key),
      kind,
      secret,
      optional: options.optional ?? false,
      fallback: options.default,
    };
    Reflect.defineMetadata(FIELDS, [...own, entry], target);
    rules.forEach((rule) => {
      rule(target, key);
    });
  };
}

const isUrlOf = (protocols: readonly string[], each: boolean): PropertyDecorator =>
  ValidateBy(
    {
      name: 'urlOf',
      validator: {
        validate: (value) => typeof value === 'string' && hasProtocol(value, protocols),
        defaultMessage: () => `must be a URL that starts with ${protocols.map((name) => `${name}://`).join(' or ')}`,
      },
    },
    { each },
  );
function hasProtocol(text: string, protocols: readonly string[]): boolean {
  return URL.canParse(text) && protocols.some((name) => new URL(text).protocol === `${name}:`);
}

/** Text of 1 (or `min`) to 4096 (or `max`) characters. */
export const EnvText = (
  options: FieldOptions<string> & { min?: number; max?: number; pattern?: RegExp } = {},
): PropertyDecorator =>
  field('text', options, [
    IsString(),
    MinLength(options.min ?? 1),
    MaxLength(options.max ?? 4096),
    ...(options.pattern ? [Matches(options.pattern)] : []),
  ]);
/** Like EnvText, and never shown: not in faults, and cut from every log line of the process. */
export const EnvSecret = (options: FieldOptions<string> & { min?: number } = {}): PropertyDecorator =>
  field('text', options, [IsString(), MinLength(options.min ?? 1), MaxLength(64 * 1024)], true);
export const EnvInt = (options: FieldOptions<number> & { min: number; max: number }): PropertyDecorator =>
  field('integer', options, [IsInt(), Min(options.min), Max(options.max)]);
/** `true`, `1`, `yes`, `on` or `false`, `0`, `no`, `off`. */
export const EnvFlag = (options: FieldOptions<boolean> = {}): PropertyDecorator =>
  field('flag', options, [IsBoolean()]);
export const EnvOneOf = (values: readonly string[], options: FieldOptions<string> = {}): PropertyDecorator =>
  field('text', options, [IsIn([...values], { message: `must be one of ${values.join(', ')}` })]);
/** A URL of one of the protocols. A password in it is treated as a secret. */
export const EnvUrl = (options: FieldOptions<string> & { protocols?: readonly string[] } = {}): PropertyDecorator =>
  field('text', options, [isUrlOf(options.protocols ?? ['http', 'https'], false)], true);
/** Comma-separated URLs, as `string[]`. */
export const EnvUrls = (
  options: FieldOptions<readonly string[]> & { protocols?: readonly string[] } = {},
): PropertyDecorator =>
  field('list', options, [IsArray(), isUrlOf(options.protocols ?? ['http', 'https'], true)], true);
/** Comma-separated texts, as `string[]`. */
export const EnvList = (options: FieldOptions<readonly string[]> = {}): PropertyDecorator =>
  field('list', options, [IsArray(), MinLength(1, { each: true })]);

function convert(kind: Field['kind'], text: string): unknown {
  if (kind === 'integer') return /^-?\d+$/.test(text) ? Number(text) : text;
  if (kind === 'list')
    return text
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '');
  if (kind === 'flag') {
    if (/^(true|1|yes|on)$/i.test(text)) return true;
    if (/^(false|0|no|off)$/i.test(text)) return false;
  }
  return text;
}

/** The variable, or the content of the file that `<NAME>_FILE` names (a mounted secret; its last line break is cut). */
function read(name: string, env: NodeJS.ProcessEnv, faults: string[]): string | undefined {
  const text = env[name];
  const path = env[`${name}_FILE`];
  if (path === undefined || path === '') return text === '' ? undefined : text;
  if (text !== undefined && text !== '') {
    faults.push(`${name} and ${name}_FILE are both set: give one of them`);
    return text;
  }
  try {
    return readFileSync(path, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    faults.push(`${name}_FILE: cannot read ${path} (${(error as NodeJS.ErrnoException).code ?? 'error'})`);
    return undefined;
  }
}

function hide(field: Field, value: unknown): void {
  if (!field.secret) return;
  for (const text of Array.isArray(value) ? (value as unknown[]) : [value]) {
    if (typeof text !== 'string') continue;
    if (!URL.canParse(text)) registerSecret(text);
    else if (new URL(text).password !== '') {
      registerSecret(new URL(text).password);
      registerSecret(decodeURIComponent(new URL(text).password));
    }
  }
}

/**
 * The configuration of a process from environment variables: the class's properties are the variables' names, their
 * `Env…` decorators say form, bounds and default. Secrets are known to the log redaction from here on. Throws
 * ConfigError with every fault.
 */
export function loadConfig<T extends object>(type: new () => T, env: NodeJS.ProcessEnv): T {
  const config = new type();
  const faults: string[] = [];
  const fields = (Reflect.getMetadata(FIELDS, type.prototype as object) as Field[] | undefined) ?? [];
  const missing = new Set<string>();
  for (const field of fields) {
    const before = faults.length;
    const text = read(field.name, env, faults);
    const value = text === undefined ? field.fallback : convert(field.kind, text);
    if (value === undefined) {
      missing.add(field.name);
      if (!field.optional && faults.length === before) faults.push(`${field.name} is not set`);
      continue;
    }
    hide(field, value);
    Object.assign(config, { [field.name]: value });
  }
  for (const error of validateSync(config, { forbidUnknownValues: false, stopAtFirstError: true })) {
    if (missing.has(error.property)) continue;
    const field = fields.find((candidate) => candidate.name === error.property);
    const rule = Object.values(error.constraints ?? {})[0] ?? 'is not valid';
    const message = rule.startsWith(error.property) ? rule : `${error.property} ${rule}`;
    faults.push(field?.secret === true ? message : `${message} (it is ${JSON.stringify(env[error.property] ?? '')})`);
  }
  if (faults.length > 0) throw new ConfigError(faults);
  return config;
}

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'];

/** The level of all loggers, from LOG_LEVEL; an unknown one counts as `info`: logging must work before the configuration does. */
export function logLevel(env: NodeJS.ProcessEnv = process.env): string {
  const level = env['LOG_LEVEL'] ?? 'info';
  return LOG_LEVELS.includes(level) ? level : 'info';
}

/** HTTPS_PROXY and NO_PROXY of this process. They have no `_FILE` form: every program on a host reads them as they are. */
export const proxyOfProcess = (): ProxySettings => proxySettings(process.env);
