import { Matches, ValidateBy, type ValidationOptions } from 'class-validator';
import {
  COMPONENT_KINDS,
  Hold,
  ImsError,
  Int,
  JOB_KINDS,
  ListOf,
  Nested,
  OneOf,
  Optional,
  Text,
  TextList,
  Time,
  parse,
  type ComponentKind,
  type FieldError,
  type JobKind,
  type JsonObject,
} from '#contracts';
import { type RolloutObstacle } from './rollout.js';
import { WEEKDAYS, isTimeZone, windowAt, type Weekday, type WeeklyWindow } from './windows.js';

/**
 * The customer's policy: what its agent may do, when, and after whose yes. It is a file on the agent's host; there is no
 * message that changes it.
 */

const eachOf = (values: readonly string[]): PropertyDecorator => {
  const options: ValidationOptions = { message: `must be a list of ${values.join(', ')}` };
  const validate = (value: unknown): boolean =>
    Array.isArray(value) && value.every((each) => typeof each === 'string' && values.includes(each));
  return ValidateBy({ name: 'eachOf', validator: { validate } }, options);
};
const clock = (last: string): PropertyDecorator =>
  Matches(last === '24:00' ? /^(([01]\d|2[0-3]):[0-5]\d|24:00)$/ : /^([01]\d|2[0-3]):[0-5]\d$/, {
    message: `must be a time of day in quotes, "00:00" to "${last}"`,
  });
const zone = (): PropertyDecorator =>
  ValidateBy(
    { name: 'timeZone', validator: { validate: (value) => typeof value === 'string' && isTimeZone(value) } },
    { message: 'must be an IANA time zone, as Europe/Berlin or UTC' },
  );
const publicKeys = (): PropertyDecorator =>
  ValidateBy(
    {
      name: 'publicKeys',
      validator: {
        validate: (value) =>
          Array.isArray(value) && value.every((key) => typeof key === 'string' && /^U[A-Z2-7]{55}$/.test(key)),
      },
    },
    { message: 'must be a list of Ed25519 public keys (U and 55 letters and digits, made by approver-key)' },
  );

export class PolicyAllow {
  @Optional() @eachOf(COMPONENT_KINDS) kinds?: ComponentKind[];
  /** Names of components; `*` stands for any characters. */
  @Optional() @TextList(200, 80) components?: string[];
  @Optional() @eachOf(JOB_KINDS) jobs?: JobKind[];
}
export class PolicyWindow implements WeeklyWindow {
  @Optional() @eachOf(WEEKDAYS) days?: Weekday[];
  @clock('23:59') from: string;
  @clock('24:00') to: string;
  @zone() time_zone: string;
}
export class PolicyPause {
  /** Shown to the vendor. */
  @Text(1, 300) note: string;
  @Optional() @Time() until?: string;
}
export class PolicyLimits {
  @Optional() @Int(1, 1000) slots?: number;
  @Optional() @Int(1, 10_080) attempt_minutes?: number;
  /** The most that the log of one attempt sends out. */
  @Optional() @Int(1_024, 2 ** 40) log_bytes?: number;
  /** A yes that is older than this does not count. Default 24. */
  @Optional() @Int(1, 720) approval_hours?: number;
}

export const POLICY_MODES = ['normal', 'read_only'] as const;
export const POLICY_APPROVE = ['never', 'on_change', 'on_delete', 'always'] as const;

/** Everything is optional: an absent part restricts nothing. */
export class CustomerPolicy {
  @Optional() @Nested(() => PolicyAllow) allow?: PolicyAllow;
  /** `read_only`: artifacts are fetched and plans are made, and a plan that would change something is refused. */
  @Optional() @OneOf(POLICY_MODES) mode?: (typeof POLICY_MODES)[number];
  /** Which plans need a yes before they are applied. */
  @Optional() @OneOf(POLICY_APPROVE) approve?: (typeof POLICY_APPROVE)[number];
  /** With keys here only a yes that is signed with one of them counts. */
  @Optional() @publicKeys() approvers?: string[];
  /** When apply and destroy may start. */
  @Optional() @ListOf(() => PolicyWindow, 50) windows?: PolicyWindow[];
  @Optional() @Nested(() => PolicyPause) pause?: PolicyPause;
  @Optional() @Nested(() => PolicyLimits) limits?: PolicyLimits;
}

/** A policy from a plain value; throws `invalid_request` with every fault and where it is. */
export function readPolicy(value: unknown): CustomerPolicy {
  const policy = parse(CustomerPolicy, value ?? {}, 'strict');
  const errors: FieldError[] = (policy.windows ?? []).flatMap(({ days, from, to }, at) => [
    ...(from === to ? [{ pointer: `/windows/${at}/to`, message: 'is its start: a whole day is 00:00 to 24:00' }] : []),
    ...(days?.length === 0 ? [{ pointer: `/windows/${at}/days`, message: 'names no day' }] : []),
  ]);
  if (errors.length === 0) return policy;
  const detail = errors.map(({ pointer, message }) => `${pointer} ${message}`).join('; ');
  throw new ImsError('invalid_request', detail, errors);
}

/** What of a signed job statement the policy looks at. */
export interface JobFacts {
  readonly kind: JobKind;
  readonly component: string;
  readonly componentKind: ComponentKind;
}
/** What an attempt would do, known before it does it. */
export interface PlanFacts {
  /** The same for the same change: what a yes is bound to. */
  readonly digest: string;
  /** Also true for a change that none of the counts shows (an output, a release whose last upgrade failed). */
  readonly changed: boolean;
  readonly created: number;
  readonly updated: number;
  readonly deleted: number;
}
/** What the customer has said to a plan. */
export interface PlanAnswer {
  readonly decision: 'approved' | 'rejected';
  readonly by: string;
  readonly note?: string;
}
export type PolicyDecision =
  | { readonly decision: 'allow' }
  | { readonly decision: 'refuse'; readonly code: 'policy_refused'; readonly detail: string }
  | { readonly decision: 'defer'; readonly hold: Hold };

const ALLOW: PolicyDecision = { decision: 'allow' };
const refuse = (detail: string): PolicyDecision => ({ decision: 'refuse', code: 'policy_refused', detail });
const defer = (hold: Hold): PolicyDecision => ({
  decision: 'defer',
  hold: Object.assign(new Hold(), { ...hold, detail: hold.detail.slice(0, 500) }),
});

/**
 * Whether a job may begin now. What is never allowed is refused, whatever the time; what is not allowed now is put off.
 * Windows are for what changes the product (apply, destroy); a pause is for everything.
 */
export function decidePolicy(policy: CustomerPolicy, job: JobFacts, now: Date): PolicyDecision {
  const { allow = {}, pause, windows = [] } = policy;
  if (allow.jobs && !allow.jobs.includes(job.kind)) {
    return refuse(`the customer's policy does not allow ${job.kind} jobs (allow.jobs: ${list(allow.jobs)})`);
  }
  if (allow.kinds && !allow.kinds.includes(job.componentKind)) {
    return refuse(`the customer's policy does not allow ${job.componentKind} (allow.kinds: ${list(allow.kinds)})`);
  }
  if (allow.components && !allow.components.some((glob) => matches(glob, job.component))) {
    const names = list(allow.components);
    return refuse(`the customer's policy does not allow component ${job.component} (allow.components: ${names})`);
  }
  if (pause && isPaused(pause, now)) {
    const { note, until } = pause;
    return defer({ code: 'customer_paused', detail: `paused: ${note}`, ...(until === undefined ? {} : { until }) });
  }
  if (job.kind !== 'apply' && job.kind !== 'destroy') return ALLOW;
  const state = windowAt(windows, now.getTime());
  if (state.open) return ALLOW;
  const until = new Date(state.opensAt).toISOString();
  return defer({
    code: 'customer_window',
    detail: `outside of the customer's windows; the next opens at ${until}`,
    until,
  });
}

/** Whether a plan may be carried out, after `decidePolicy` has let the job through. */
export function decidePlan(policy: CustomerPolicy, plan: PlanFacts, answer?: PlanAnswer): PolicyDecision {
  const { approve = 'never', mode = 'normal' } = policy;
  const would = `${plan.created} to create, ${plan.updated} to change, ${plan.deleted} to delete`;
  if (mode === 'read_only' && plan.changed) return refuse(`this install is read-only, and the plan has ${would}`);
  const asks =
    approve === 'always' || (approve === 'on_change' && plan.changed) || (approve === 'on_delete' && plan.deleted > 0);
  // A no counts whatever the policy asks: somebody has looked at this very plan.
  if (answer?.decision === 'rejected') {
    const { by, note } = answer;
    return refuse(`${by} has rejected plan ${plan.digest}${note === undefined ? '' : `: ${note}`}`);
  }
  if (!asks || answer?.decision === 'approved') return ALLOW;
  return defer({
    code: 'awaiting_customer_approval',
    detail: `plan ${plan.digest} (${would}) waits for the customer's yes`,
    plan_digest: plan.digest,
  });
}

/**
 * Why an install should not be changed now, as far as its agent's last report of the customer's policy says: a pause or
 * a closed window. The agent decides; this only saves work that it would give back. What cannot be read is no obstacle.
 */
export function customerObstacle(report: JsonObject, now: number): RolloutObstacle | undefined {
  const { pause, windows } = report;
  let policy: CustomerPolicy;
  try {
    policy = readPolicy({ ...(pause ? { pause } : {}), ...(windows ? { windows } : {}) });
  } catch {
    return undefined;
  }
  const decision = decidePolicy(policy, { kind: 'apply', component: '', componentKind: 'job' }, new Date(now));
  if (decision.decision !== 'defer') return undefined;
  const { code, detail, until } = decision.hold;
  if (code !== 'customer_paused' && code !== 'customer_window') return undefined;
  return { code, detail, ...(until === undefined ? {} : { until: Date.parse(until) }) };
}

/** A pause without an end lasts until it is taken back. */
export function isPaused(pause: PolicyPause, now: Date): boolean {
  return pause.until === undefined || Date.parse(pause.until) > now.getTime();
}

function matches(glob: string, name: string): boolean {
  const parts = glob.split('*').map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(name);
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, 10).join(', ');
  return names.length > 10 ? `${shown} and ${names.length - 10} more` : shown;
}
