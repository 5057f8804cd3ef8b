import { Controller } from '@nestjs/common';
import { etagOf, PageQuery } from '#contracts';
import { type Ask } from '../edge/ask.js';
import { listsEtag } from '../edge/read-request.js';
import { Route } from '../edge/route.js';
import { Deliveries } from './deliveries.js';
import {
  DeliveriesQuery,
  Webhook,
  WebhookDelivery,
  WebhookDeliveryPage,
  WebhookPage,
  WebhookSettings,
  WebhookWithSecret,
} from './shapes.js';
import { Webhooks } from './webhooks.js';

/** Webhooks by Standard Webhooks: where a vendor wants to be told, and what became of each telling. */
@Controller()
export class WebhooksController {
  constructor(
    private readonly webhooks: Webhooks,
    private readonly deliveries: Deliveries,
  ) {}

  @Route({
    method: 'POST',
    path: '/v1/webhooks',
    summary: 'Be told of facts at a URL, signed by Standard Webhooks. The secret is shown once.',
    access: 'vendor',
    body: WebhookSettings,
    reply: WebhookWithSecret,
    status: 201,
    secret: true,
    location: ({ id }) => `/v1/webhooks/${id}`,
  })
  createWebhook(ask: Ask<WebhookSettings>): Promise<WebhookWithSecret> {
    return this.webhooks.create(ask.vendorId, ask.reserve('webhook'), ask.body);
  }

  @Route({
    method: 'GET',
    path: '/v1/webhooks',
    summary: 'Webhooks of the vendor, newest first.',
    access: 'vendor',
    query: PageQuery,
    reply: WebhookPage,
    status: 200,
  })
  listWebhooks(ask: Ask<object, PageQuery>): Promise<WebhookPage> {
    return this.webhooks.list(ask.vendorId, ask.query);
  }

  @Route({
    method: 'GET',
    path: '/v1/webhooks/{webhook_id}',
    summary: 'A webhook: whether it is on, since when nothing arrives.',
    access: 'vendor',
    reply: Webhook,
    status: 200,
    etag: true,
  })
  getWebhook(ask: Ask): Promise<Webhook> {
    return this.webhooks.get(ask.vendorId, ask.id('webhook'));
  }

  @Route({
    method: 'PUT',
    path: '/v1/webhooks/{webhook_id}',
    summary: 'Replace URL, filter and description, turn it off or on again.',
    access: 'vendor',
    body: WebhookSettings,
    reply: Webhook,
    status: 200,
    etag: true,
    ifMatch: true,
  })
  updateWebhook(ask: Ask<WebhookSettings>): Promise<Webhook> {
    return this.webhooks.update(ask.vendorId, ask.id('webhook'), ask.body, (now) => {
      ask.before = now;
      return listsEtag(ask.ifMatch, etagOf(now));
    });
  }

  @Route({
    method: 'DELETE',
    path: '/v1/webhooks/{webhook_id}',
    summary: 'Delete a webhook and the list of its deliveries.',
    access: 'vendor',
    reply: Webhook,
    status: 200,
  })
  deleteWebhook(ask: Ask): Promise<Webhook> {
    return this.webhooks.remove(ask.vendorId, ask.id('webhook'));
  }

  @Route({
    method: 'POST',
    path: '/v1/webhooks/{webhook_id}/rotate-secret',
    summary: 'A new secret, shown once. The old one signs nothing any more.',
    access: 'vendor',
    reply: WebhookWithSecret,
    status: 200,
    secret: true,
  })
  rotateWebhookSecret(ask: Ask): Promise<WebhookWithSecret> {
    return this.webhooks.rotate(ask.vendorId, ask.id('webhook'));
  }

  @Route({
    method: 'POST',
    path: '/v1/webhooks/{webhook_id}/test',
    summary: 'Send a `webhook.test`, whatever the filter says.',
    access: 'vendor',
    reply: WebhookDelivery,
    status: 202,
    location: ({ id }) => `/v1/webhook-deliveries/${id}`,
  })
  testWebhook(ask: Ask): Promise<WebhookDelivery> {
    return this.deliveries.test(ask.vendorId, ask.id('webhook'));
  }

  @Route({
    method: 'GET',
    path: '/v1/webhooks/{webhook_id}/deliveries',
    summary: 'What was sent or is to be sent, newest first. Kept for 30 days.',
    access: 'vendor',
    query: DeliveriesQuery,
    reply: WebhookDeliveryPage,
    status: 200,
  })
  listWebhookDeliveries(ask: Ask<object, DeliveriesQuery>): Promise<WebhookDeliveryPage> {
    return this.deliveries.list(ask.vendorId, ask.id('webhook'), ask.query);
  }

  @Route({
    method: 'GET',
    path: '/v1/webhook-deliveries/{delivery_id}',
    summary: 'A delivery: what it holds, how often it was tried, what the endpoint answered.',
    access: 'vendor',
    reply: WebhookDelivery,
    status: 200,
    etag: true,
  })
  getWebhookDelivery(ask: Ask): Promise<WebhookDelivery> {
    return this.deliveries.get(ask.vendorId, ask.id('delivery'));
  }

  @Route({
    method: 'POST',
    path: '/v1/webhook-deliveries/{delivery_id}/redeliver',
    summary: 'Send it again, under the same `webhook-id`.',
    access: 'vendor',
    reply: WebhookDelivery,
    status: 202,
    location: ({ id }) => `/v1/webhook-deliveries/${id}`,
  })
  redeliverWebhook(ask: Ask): Promise<WebhookDelivery> {
    return this.deliveries.redeliver(ask.vendorId, ask.id('delivery'));
  }
}
