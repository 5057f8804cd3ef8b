import { type Class } from './fields.js';

export const SERVICES = ['gateway', 'job-scheduler', 'telemetry', 'registry-token'] as const;
export type ServiceName = (typeof SERVICES)[number];
/** The two kinds of agent. What a message names here may be sent or received by that kind and by no other. */
export const AGENT_KINDS = ['build', 'install'] as const;
export type AgentKind = (typeof AGENT_KINDS)[number];

/** The streams that hold messages. JOBS is sharded: `JOBS_00` … by hash of the agent id. */
export type StreamName = 'JOBS' | 'EVENTS' | 'LOGS' | 'FACTS' | 'DEAD';

interface Base<B extends object> {
  /** `area.verb`; with the version it is the message's identity: header `Ims-Contract: job.result/1`. */
  readonly name: string;
  readonly version: number;
  readonly body: Class<B>;
  /** Reads a body with the result and the errors of `parse(body, value, 'tolerant')`, only faster. */
  readonly read?: (value: unknown) => B;
}

/** A message kept in a stream until each consumer has dealt with it. */
export interface StreamMessage<B extends object> extends Base<B> {
  readonly type: 'stream';
  readonly stream: StreamName;
  /** Subject with `{placeholders}`; each is filled with an id, so that one wildcard limits an agent. */
  readonly subject: string;
  readonly from: readonly (ServiceName | AgentKind)[];
  /** Each service named has exactly one handler, one durable consumer; it refuses to boot otherwise. */
  readonly consumers: readonly ServiceName[];
  /** Messages of one `{job}` may be handled at the same time and in any order: the body says what comes where. */
  readonly unordered?: boolean;
}

/** A request that is answered: between services (`svc`) or from an agent (`rpc`). */
export interface Call<B extends object, R extends object> extends Base<B> {
  readonly type: 'call';
  readonly subject: string;
  readonly reply: Class<R>;
  /** As `read`, of the reply. */
  readonly readReply?: (value: unknown) => R;
  readonly from: readonly (ServiceName | AgentKind)[];
  readonly servedBy: ServiceName;
  readonly timeoutMs: number;
}

/** A push that is lost when nobody listens: a hint, never the only carrier of a fact. */
export interface Signal<B extends object> extends Base<B> {
  readonly type: 'signal';
  readonly subject: string;
  readonly from: readonly (ServiceName | AgentKind)[];
  readonly to: readonly (ServiceName | AgentKind)[];
}

export type AnyContract = StreamMessage<object> | Call<object, object> | Signal<object>;

export const streamMessage = <B extends object>(m: Omit<StreamMessage<B>, 'type'>): StreamMessage<B> => ({
  type: 'stream',
  ...m,
});
export const call = <B extends object, R extends object>(m: Omit<Call<B, R>, 'type'>): Call<B, R> => ({
  type: 'call',
  ...m,
});
export const signal = <B extends object>(m: Omit<Signal<B>, 'type'>): Signal<B> => ({ type: 'signal', ...m });

/** Body type of a contract. */
export type BodyOf<C> = C extends { body: Class<infer B> } ? B : never;
export type ReplyOf<C> = C extends { reply: Class<infer R> } ? R : never;

/** Placeholders that a subject may have, e.g. `{agent}`. */
export type SubjectParts = Readonly<Record<string, string>>;

/** The subject with its placeholders filled. Throws when a part is missing or is not `[a-z0-9_]+`. */
export function subjectOf(contract: { subject: string; name: string }, parts: SubjectParts): string {
  return contract.subject.replace(/\{(\w+)\}/g, (_, key: string) => {
    const part = parts[key];
    if (part === undefined || !/^[a-z0-9_]+$/.test(part)) {
      throw new Error(`${contract.name}: subject part {${key}} must match [a-z0-9_]+, got ${JSON.stringify(part)}`);
    }
    return part;
  });
}

/** The subject with every placeholder but the given ones as `*`: what a consumer filters on, or a permission allows. */
export function subjectFilter(contract: { subject: string; name: string }, parts: SubjectParts = {}): string {
  const filled: Record<string, string> = {};
  const marked = contract.subject.replace(/\{(\w+)\}/g, (whole, key: string) => {
    if (!(key in parts)) return '*';
    filled[key] = parts[key] ?? '';
    return whole;
  });
  return subjectOf({ subject: marked, name: contract.name }, filled);
}

/** The ids in a subject, by placeholder; undefined when the subject is not one of this contract. */
export function subjectParts(contract: { subject: string }, subject: string): SubjectParts | undefined {
  const want = contract.subject.split('.');
  const have = subject.split('.');
  if (want.length !== have.length) return undefined;
  const parts: Record<string, string> = {};
  for (const [i, token] of want.entries()) {
    const value = have[i] ?? '';
    if (token.startsWith('{')) parts[token.slice(1, -1)] = value;
    else if (token !== value) return undefined;
  }
  return parts;
}
