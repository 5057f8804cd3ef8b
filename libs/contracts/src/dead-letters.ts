import { ListInVendor, Page, toScheduler, VendorScope } from './catalogue.js';
import { IdOf, Int, Json, ListOf, Nested, OneOf, Optional, Text, Time, type JsonObject } from './fields.js';
import { type AgentId, type DeadLetterId, type JobId } from './ids.js';
import { LIMITS } from './limits.js';
import { ReasonRequest } from './work.js';

export const DEAD_STATUSES = ['open', 'redriven', 'discarded'] as const;
/** A message that a service could not take, and why. Nothing of it happened. */
export class DeadLetter {
  @IdOf('dead') id: DeadLetterId;
  @OneOf(DEAD_STATUSES) status: (typeof DEAD_STATUSES)[number];
  /** Which service refused it. */
  @Text(1, 60) service: string;
  /** `job.result/1` */
  @Text(1, 80) contract: string;
  @Text(1, 500) subject: string;
  @Text(1, 60) code: string;
  @Text(0, 1000) cause: string;
  @Optional() @IdOf('agent') agent_id?: AgentId;
  @Optional() @IdOf('job') job_id?: JobId;
  @Time() at: string;
  @Optional() @Time() settled_at?: string;
  /** Who sent it again or discarded it, and why. */
  @Optional() @Text(1, 80) settled_by?: string;
  @Optional() @Text(0, 500) note?: string;
  @Int(0, 100_000_000) size_bytes: number;
  /** Not in lists. */
  @Optional() @Json(LIMITS.messageBytes) body?: JsonObject;
}
export class ListDeadLetters extends ListInVendor {
  @Optional() @OneOf(DEAD_STATUSES) status?: (typeof DEAD_STATUSES)[number];
}
export class DeadLetterPage extends Page {
  @ListOf(() => DeadLetter, LIMITS.pageMax) data: DeadLetter[];
}
export class DeadLetterRef extends VendorScope {
  @IdOf('dead') dead_id: DeadLetterId;
}
export class SettleDeadLetter extends DeadLetterRef {
  @OneOf(['redrive', 'discard']) how: 'redrive' | 'discard';
  @Nested(() => ReasonRequest) request: ReasonRequest;
}
export const listDeadLetters = toScheduler('list_dead_letters', ListDeadLetters, DeadLetterPage);
export const getDeadLetter = toScheduler('get_dead_letter', DeadLetterRef, DeadLetter);
/** Sends it again to where it came from, or puts it away. Once: `conflict` after that. */
export const settleDeadLetter = toScheduler('settle_dead_letter', SettleDeadLetter, DeadLetter);
