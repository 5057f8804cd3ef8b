import {
  Flag,
  IdOf,
  Int,
  Json,
  LIMITS,
  ListOf,
  OneOf,
  Optional,
  Page,
  PageQuery,
  Text,
  TextList,
  Time,
  type DeliveryId,
  type EventId,
  type JsonObject,
  type WebhookId,
} from '#contracts';

// Webhooks belong to this service alone, so their shapes are declared here.

/** What may be changed about a webhook. */
export class WebhookSettings {
  /** `https://…`, on the public internet. */
  @Text(1, 500) url: string;
  /** Facts to send: `job.failed`, all of a noun as `deployment.*`, or `*`. Default: all. */
  @Optional() @TextList(50, 60) events?: string[];
  @Optional() @Text(1, 200) description?: string;
  /** false: nothing is sent until it is true again; what happens meanwhile is not sent later. */
  @Optional() @Flag() enabled?: boolean;
}
export class Webhook {
  @IdOf('webhook') id: WebhookId;
  @Text(1, 500) url: string;
  @TextList(50, 60) events: string[];
  @Optional() @Text(1, 200) description?: string;
  @Flag() enabled: boolean;
  /** Why it is off, where nobody has turned it off by hand. */
  @Optional() @Text(1, 200) disabled_reason?: string;
  /** Since when nothing has arrived. */
  @Optional() @Time() failing_since?: string;
  @Time() created_at: string;
}
export class WebhookWithSecret extends Webhook {
  /** `whsec_…`, with which a receiver checks the signature. Shown once. */
  @Text(20, 100) secret: string;
}
export class WebhookPage extends Page {
  @ListOf(() => Webhook, LIMITS.pageMax) data: Webhook[];
}

export const DELIVERY_STATUSES = ['pending', 'delivered', 'failed'] as const;
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

/** One fact on its way to one webhook. Its id is the `webhook-id` of every try. */
export class WebhookDelivery {
  @IdOf('delivery') id: DeliveryId;
  @IdOf('webhook') webhook_id: WebhookId;
  /** Absent for a test. */
  @Optional() @IdOf('event') event_id?: EventId;
  @Text(1, 60) event_type: string;
  @OneOf(DELIVERY_STATUSES) status: DeliveryStatus;
  @Int(0, 1000) attempts: number;
  /** What the endpoint answered last. */
  @Optional() @Int(100, 999) last_status?: number;
  @Optional() @Text(1, 300) last_error?: string;
  @Optional() @Time() next_attempt_at?: string;
  @Optional() @Time() finished_at?: string;
  @Time() created_at: string;
  /** What is sent: `type`, `timestamp`, `data`. */
  @Json() payload: JsonObject;
}
export class WebhookDeliveryPage extends Page {
  @ListOf(() => WebhookDelivery, LIMITS.pageMax) data: WebhookDelivery[];
}
export class DeliveriesQuery extends PageQuery {
  @Optional() @OneOf(DELIVERY_STATUSES) status?: DeliveryStatus;
}
