import { Controller } from '@nestjs/common';
import {
  changeRollout,
  Channel,
  ChannelPage,
  ChannelSettings,
  createChannel,
  createRollout,
  etagOf,
  getChannel,
  getRollout,
  ImsError,
  listChannels,
  listRolloutInstalls,
  listRollouts,
  NewChannel,
  NewRollout,
  PageQuery,
  promoteRelease,
  Promotion,
  Rollout,
  RolloutChange,
  RolloutInstallPage,
  RolloutPage,
  OneOf,
  Optional,
  IdOf,
  ROLLOUT_INSTALL_STATUSES,
  ROLLOUT_STATUSES,
  updateChannel,
  type AppId,
  type RolloutInstallStatus,
  type RolloutStatus,
  type ROLLOUT_VERBS,
} from '#contracts';
import { Bus } from '#messaging';
import { type Ask } from './edge/ask.js';
import { listsEtag } from './edge/read-request.js';
import { Route } from './edge/route.js';

class RolloutQuery extends PageQuery {
  @Optional() @IdOf('app') app_id?: AppId;
  @Optional() @OneOf(ROLLOUT_STATUSES) status?: RolloutStatus;
}
class RolloutInstallQuery extends PageQuery {
  @Optional() @OneOf(ROLLOUT_INSTALL_STATUSES) status?: RolloutInstallStatus;
}

/** Channels, and rollouts of a release to many installs. */
@Controller()
export class RolloutsController {
  constructor(private readonly bus: Bus) {}

  @Route({
    method: 'POST',
    path: '/v1/apps/{app_id}/channels',
    summary: 'Create a channel: which release its installs are meant to have.',
    access: 'vendor',
    body: NewChannel,
    reply: Channel,
    status: 201,
    location: ({ id }) => `/v1/channels/${id}`,
  })
  createChannel(ask: Ask<NewChannel>): Promise<Channel> {
    return this.bus.call(createChannel, { vendor_id: ask.vendorId, app_id: ask.id('app'), channel: ask.body });
  }

  @Route({
    method: 'GET',
    path: '/v1/apps/{app_id}/channels',
    summary: 'Channels of an app, newest first.',
    access: 'vendor',
    query: PageQuery,
    reply: ChannelPage,
    status: 200,
  })
  listChannels(ask: Ask<object, PageQuery>): Promise<ChannelPage> {
    return this.bus.call(listChannels, { vendor_id: ask.vendorId, app_id: ask.id('app'), ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/channels/{channel_id}',
    summary: 'A channel.',
    access: 'vendor',
    reply: Channel,
    status: 200,
    etag: true,
  })
  getChannel(ask: Ask): Promise<Channel> {
    return this.bus.call(getChannel, { vendor_id: ask.vendorId, channel_id: ask.id('channel') });
  }

  @Route({
    method: 'PUT',
    path: '/v1/channels/{channel_id}',
    summary: 'Replace the settings of a channel: whether it deploys by itself, and how.',
    access: 'vendor',
    body: ChannelSettings,
    reply: Channel,
    status: 200,
    etag: true,
    ifMatch: true,
  })
  async updateChannel(ask: Ask<ChannelSettings>): Promise<Channel> {
    const ref = { vendor_id: ask.vendorId, channel_id: ask.id('channel') };
    const now = await this.bus.call(getChannel, ref);
    if (!listsEtag(ask.ifMatch, etagOf(now))) throw new ImsError('precondition_failed');
    return this.bus.call(updateChannel, { ...ref, settings: ask.body, if_match: etagOf(now) });
  }

  @Route({
    method: 'POST',
    path: '/v1/channels/{channel_id}/promote',
    summary: 'Make a release the channel’s.',
    access: 'vendor',
    body: Promotion,
    reply: Channel,
    status: 200,
  })
  promoteRelease(ask: Ask<Promotion>): Promise<Channel> {
    const ref = { vendor_id: ask.vendorId, channel_id: ask.id('channel') };
    return this.bus.call(promoteRelease, { ...ref, promotion: ask.body });
  }

  @Route({
    method: 'POST',
    path: '/v1/rollouts',
    summary: 'Take many installs to a release: group after group, a few at a time, watched, stopped at failures.',
    access: 'vendor',
    body: NewRollout,
    reply: Rollout,
    status: 202,
    location: ({ id }) => `/v1/rollouts/${id}`,
  })
  createRollout(ask: Ask<NewRollout>): Promise<Rollout> {
    return this.bus.call(createRollout, { vendor_id: ask.vendorId, rollout: ask.body });
  }

  @Route({
    method: 'GET',
    path: '/v1/rollouts',
    summary: 'Rollouts, newest first.',
    access: 'vendor',
    query: RolloutQuery,
    reply: RolloutPage,
    status: 200,
  })
  listRollouts(ask: Ask<object, RolloutQuery>): Promise<RolloutPage> {
    return this.bus.call(listRollouts, { vendor_id: ask.vendorId, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/rollouts/{rollout_id}',
    summary: 'A rollout: where it stands and why it waits.',
    access: 'vendor',
    reply: Rollout,
    status: 200,
    etag: true,
  })
  getRollout(ask: Ask): Promise<Rollout> {
    return this.bus.call(getRollout, { vendor_id: ask.vendorId, rollout_id: ask.id('rollout') });
  }

  @Route({
    method: 'GET',
    path: '/v1/rollouts/{rollout_id}/installs',
    summary: 'Installs of a rollout, newest first, each with what keeps it back.',
    access: 'vendor',
    query: RolloutInstallQuery,
    reply: RolloutInstallPage,
    status: 200,
  })
  listRolloutInstalls(ask: Ask<object, RolloutInstallQuery>): Promise<RolloutInstallPage> {
    const ref = { vendor_id: ask.vendorId, rollout_id: ask.id('rollout') };
    return this.bus.call(listRolloutInstalls, { ...ref, ...ask.query });
  }

  @Route({
    method: 'POST',
    path: '/v1/rollouts/{rollout_id}/pause',
    summary: 'Begin no further install; those under way go on.',
    access: 'vendor',
    body: RolloutChange,
    reply: Rollout,
    status: 200,
  })
  pauseRollout(ask: Ask<RolloutChange>): Promise<Rollout> {
    return this.change(ask, 'pause');
  }

  @Route({
    method: 'POST',
    path: '/v1/rollouts/{rollout_id}/resume',
    summary: 'Go on with a rollout that was paused, or has stopped.',
    access: 'vendor',
    body: RolloutChange,
    reply: Rollout,
    status: 200,
  })
  resumeRollout(ask: Ask<RolloutChange>): Promise<Rollout> {
    return this.change(ask, 'resume');
  }

  @Route({
    method: 'POST',
    path: '/v1/rollouts/{rollout_id}/cancel',
    summary: 'End a rollout; installs under way finish.',
    access: 'vendor',
    body: RolloutChange,
    reply: Rollout,
    status: 200,
  })
  cancelRollout(ask: Ask<RolloutChange>): Promise<Rollout> {
    return this.change(ask, 'cancel');
  }

  private change(ask: Ask<RolloutChange>, verb: (typeof ROLLOUT_VERBS)[number]): Promise<Rollout> {
    const ref = { vendor_id: ask.vendorId, rollout_id: ask.id('rollout') };
    return this.bus.call(changeRollout, { ...ref, verb, change: ask.body });
  }
}
