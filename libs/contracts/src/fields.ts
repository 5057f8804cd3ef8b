import { createHash } from 'node:crypto';
import 'reflect-metadata';
import { plainToInstance, Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsISO8601,
  IsObject,
  IsOptional,
  IsString,
  Matches,
  Max,
  MaxLength,
  Min,
  MinLength,
  ValidateBy,
  ValidateNested,
  validateSync,
  type ValidationError,
} from 'class-validator';
import { ImsError, type FieldError } from './errors.js';
import { idPattern, type IdKind } from './ids.js';

/** One decorator a field: each is the class-validator rules of one kind of value, so a shape reads like a table. */
const all =
  (...decorators: PropertyDecorator[]): PropertyDecorator =>
  (target, key) =>
    decorators.forEach((decorate) => decorate(target, key));

export type JsonValue = string | number | boolean | null | JsonValue[] | { [key: string]: JsonValue };
export type JsonObject = { [key: string]: JsonValue };
export type Class<T> = new () => T;

/** An id of one kind. */
export const IdOf = (kind: IdKind) =>
  all(
    IsString(),
    Matches(idPattern(kind), {
      message: `must be an id like ${kind === 'job' ? 'job' : kind}: ${idPattern(kind).source.slice(1, 5)}…`,
    }),
  );
/** Text of bounded length. */
export const Text = (min: number, max: number) => all(IsString(), MinLength(min), MaxLength(max));
/** A name that people choose: lower-case, safe in paths, subjects and registry repositories. */
export const Name = () =>
  all(
    IsString(),
    Matches(/^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/, {
      message: 'must be 1 to 40 of a-z, 0-9 and -, starting and ending with a letter or digit',
    }),
  );
/** `sha256:` and 64 hex digits. */
export const Digest = () =>
  all(IsString(), Matches(/^sha256:[0-9a-f]{64}$/, { message: 'must be sha256:<64 hex digits>' }));
export const Int = (min: number, max: number) => all(IsInt(), Min(min), Max(max));
export const Flag = () => all(IsBoolean());
/** RFC 3339 time in UTC. */
export const Time = () => all(IsISO8601({ strict: true }));
export const OneOf = (values: readonly string[]) =>
  all(IsIn([...values], { message: `must be one of ${values.join(', ')}` }));
export const Optional = () => all(IsOptional());
export const Nested = (type: () => Class<object>) => all(IsObject(), ValidateNested(), Type(type));
export const ListOf = (type: () => Class<object>, max: number) =>
  all(IsArray(), ArrayMaxSize(max), ValidateNested({ each: true }), Type(type));
export const TextList = (max: number, maxLength = 500) =>
  all(IsArray(), ArrayMaxSize(max), IsString({ each: true }), MaxLength(maxLength, { each: true }));
/** Any JSON object, bounded by its size as text. */
export const Json = (maxBytes = 64 * 1024) =>
  all(
    IsObject(),
    ValidateBy({
      name: 'jsonSize',
      validator: {
        validate: (value: unknown) => Buffer.byteLength(JSON.stringify(value ?? null)) <= maxBytes,
        defaultMessage: () => `must be at most ${maxBytes} bytes of JSON`,
      },
    }),
  );

/** Labels by which things are chosen: up to 32 names with a text of at most 63 characters each. */
export const Labels = () =>
  all(
    IsObject(),
    ValidateBy({
      name: 'labels',
      validator: {
        validate: (value: unknown) => {
          const entries = Object.entries(value ?? {});
          return (
            entries.length <= 32 &&
            entries.every(([name, text]) => LABEL.test(name) && typeof text === 'string' && text.length <= 63)
          );
        },
        defaultMessage: () =>
          'must be at most 32 names of a-z, 0-9, -, _, . and /, each with a text of at most 63 characters',
      },
    }),
  );
const LABEL = /^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$/;

function flatten(errors: ValidationError[], at: string): FieldError[] {
  return errors.flatMap((error) => {
    const pointer = `${at}/${error.property.replaceAll('~', '~0').replaceAll('/', '~1')}`;
    const own = Object.entries(error.constraints ?? {}).map(([rule, message]) => ({
      pointer,
      message: rule === 'whitelistValidation' ? 'unknown field' : message,
    }));
    return [...own, ...flatten(error.children ?? [], pointer)];
  });
}

/**
 * A plain value as an instance of a shape, or `invalid_request` naming every bad field.
 * `strict` (bodies of the REST API) refuses unknown fields; else (messages) they are dropped, so that an old reader
 * survives a newer writer during a rolling deploy.
 */
export function parse<T extends object>(type: Class<T>, value: unknown, mode: 'strict' | 'tolerant'): T {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ImsError('invalid_request', 'must be a JSON object', [{ pointer: '', message: 'must be a JSON object' }]);
  }
  const instance = plainToInstance(type, value);
  const errors = flatten(
    validateSync(instance, {
      whitelist: true,
      forbidNonWhitelisted: mode === 'strict',
      forbidUnknownValues: true,
      stopAtFirstError: true,
    }),
    '',
  );
  if (errors.length > 0) {
    const detail = errors.map((error) => `${error.pointer || '/'} ${error.message}`).join('; ');
    throw new ImsError('invalid_request', detail, errors);
  }
  return instance;
}

/** Keys in order, so that two texts of one value are equal (JSONB does not keep the order of keys). */
export function sortedJson(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(sortedJson);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sortedJson(value[key] ?? null)]),
  );
}

/** The entity tag of a resource (without quotes): 132 bits of SHA-256 over its JSON, whatever the order of its keys. */
export function etagOf(resource: object): string {
  const plain = JSON.parse(JSON.stringify(resource)) as JsonValue;
  return createHash('sha256')
    .update(JSON.stringify(sortedJson(plain)))
    .digest('base64url')
    .slice(0, 22);
}
