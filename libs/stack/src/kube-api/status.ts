import type { Fields } from './objects.js';

export interface Cause {
  reason: string;
  message: string;
  field: string;
}

export interface Named {
  group?: string;
  kind?: string;
  name?: string;
}

/** A refusal, sent as a Kubernetes `Status`; clients decide by `code` and `reason`, people read `message`. */
export class KubeError extends Error {
  constructor(
    readonly code: number,
    readonly reason: string,
    message: string,
    readonly details: Named & { causes?: Cause[] } = {},
  ) {
    super(message);
  }

  toStatus(): Fields {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: this.message,
      reason: this.reason,
      details: this.details,
      code: this.code,
    };
  }
}

const label = (named: Named): string => `${named.kind ?? ''}${named.group ? `.${named.group}` : ''}`;

export const badRequest = (message: string): KubeError => new KubeError(400, 'BadRequest', message);

export const notFound = (named: Named): KubeError =>
  new KubeError(404, 'NotFound', `${label(named)} "${named.name ?? ''}" not found`, named);

export const alreadyExists = (named: Named): KubeError =>
  new KubeError(409, 'AlreadyExists', `${label(named)} "${named.name ?? ''}" already exists`, named);

export const forbidden = (named: Named, why: string): KubeError =>
  new KubeError(403, 'Forbidden', `${label(named)} "${named.name ?? ''}" is forbidden: ${why}`, named);

export const conflict = (named: Named, why: string): KubeError =>
  new KubeError(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${label(named)} "${named.name ?? ''}": ${why}`,
    named,
  );

export const invalid = (named: Named, causes: Cause[]): KubeError => {
  const list = causes.map((cause) => `${cause.field}: ${cause.message}`);
  const text = list.length === 1 ? list[0] : `[${list.join(', ')}]`;
  return new KubeError(422, 'Invalid', `${label(named)} "${named.name ?? ''}" is invalid: ${text ?? ''}`, {
    ...named,
    causes,
  });
};

export const expired = (message: string): KubeError => new KubeError(410, 'Expired', message);
