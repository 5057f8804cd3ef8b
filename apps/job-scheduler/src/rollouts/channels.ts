import { Injectable } from '@nestjs/common';
import {
  Channel,
  ChannelPage,
  createChannel,
  etagOf,
  getChannel,
  ImsError,
  listChannels,
  newId,
  promoteRelease,
  RolloutStrategy,
  updateChannel,
  type AppId,
  type ChannelId,
  type ChannelRef,
  type CreateChannel,
  type JsonObject,
  type ListInApp,
  type PromoteRelease,
  type ReleaseId,
  type UpdateChannel,
  type VendorId,
} from '#contracts';
import { compareReleases } from '#domain';
import { Serves } from '#messaging';
import { Database, type Tx } from '#persistence';
import { findApp } from '../catalogue/apps.js';
import { type Stored } from '../catalogue/entities.js';
import { found, page, position, unlessTaken } from '../catalogue/lists.js';
import { caller, checkStorable, iso, json, wire } from '../wire.js';
import { Advance } from './advance.js';

interface ChannelRow {
  readonly id: ChannelId;
  readonly vendor_id: VendorId;
  readonly app_id: AppId;
  readonly name: string;
  readonly auto_deploy: boolean;
  readonly strategy: Stored<RolloutStrategy> | null;
  readonly release_id: ReleaseId | null;
  readonly version: string | null;
  readonly released_at: Date | null;
  readonly created_at: Date;
}
const SELECT_CHANNELS = `
  SELECT c.*, r.version, r.created_at AS released_at FROM channels c LEFT JOIN releases r ON r.id = c.release_id`;

/** Channels: which release the installs of a channel are meant to have. */
@Injectable()
export class Channels {
  constructor(
    private readonly database: Database,
    private readonly advance: Advance,
  ) {}

  @Serves(createChannel)
  async createChannel({ vendor_id, app_id, channel }: CreateChannel): Promise<Channel> {
    checkStorable(channel);
    const id = newId('channel');
    const write = this.database.transaction(async (tx) => {
      await findApp(tx.manager, vendor_id, app_id);
      const { name, auto_deploy = false, strategy } = channel;
      await tx.query(
        'INSERT INTO channels (id, vendor_id, app_id, name, auto_deploy, strategy) VALUES ($1, $2, $3, $4, $5, $6)',
        [id, vendor_id, app_id, name, auto_deploy, json(strategy)],
      );
      await recordChannel(tx, 'channel.created', { id, vendor_id, app_id }, { name, auto_deploy });
    });
    await unlessTaken(`a channel with the name ${channel.name}`, write);
    return this.getChannel({ vendor_id, channel_id: id });
  }

  @Serves(listChannels)
  async listChannels(query: ListInApp): Promise<ChannelPage> {
    const { vendor_id, app_id } = query;
    const { before, take, limit } = position(query);
    await this.database.transaction(({ manager }) => findApp(manager, vendor_id, app_id));
    const rows = await this.database.query<ChannelRow>(
      `${SELECT_CHANNELS} WHERE c.app_id = $1 AND ($2::text IS NULL OR c.id < $2) ORDER BY c.id DESC LIMIT $3`,
      [app_id, before ?? null, take],
    );
    return page(ChannelPage, rows, limit, viewChannel);
  }

  @Serves(getChannel)
  async getChannel({ vendor_id, channel_id }: ChannelRef): Promise<Channel> {
    const [row] = await this.database.query<ChannelRow>(`${SELECT_CHANNELS} WHERE c.id = $1 AND c.vendor_id = $2`, [
      channel_id,
      vendor_id,
    ]);
    return viewChannel(found(row, `channel ${channel_id}`));
  }

  /** Replaces the settings. A rollout that has begun keeps the strategy that it began with. */
  @Serves(updateChannel)
  async updateChannel({ vendor_id, channel_id, settings, if_match }: UpdateChannel): Promise<Channel> {
    checkStorable(settings);
    await this.database.transaction(async (tx) => {
      const row = await lockChannel(tx, vendor_id, channel_id);
      if (if_match !== undefined && etagOf(viewChannel(row)) !== if_match) {
        throw new ImsError('precondition_failed', `channel ${row.name} has changed`);
      }
      const { auto_deploy = false, strategy } = settings;
      await tx.query('UPDATE channels SET auto_deploy = $2, strategy = $3 WHERE id = $1', [
        channel_id,
        auto_deploy,
        json(strategy),
      ]);
      await recordChannel(tx, 'channel.updated', row, { name: row.name, auto_deploy });
    });
    void this.advance.deployChannels();
    return this.getChannel({ vendor_id, channel_id });
  }

  /**
   * Makes a release the channel's. Its installs get it by themselves only with `auto_deploy`. Throws `release_bad`, and
   * `release_downgraded` for one that is older than the channel's unless `rollback` is said.
   */
  @Serves(promoteRelease)
  async promoteRelease({ vendor_id, channel_id, promotion }: PromoteRelease): Promise<Channel> {
    await this.database.transaction(async (tx) => {
      const channel = await lockChannel(tx, vendor_id, channel_id);
      const [row] = await tx.query<{ app_id: AppId; version: string; created_at: Date; bad: JsonObject | null }>(
        'SELECT app_id, version, created_at, bad FROM releases WHERE id = $1 AND vendor_id = $2 FOR SHARE',
        [promotion.release_id, vendor_id],
      );
      const release = found(row, `release ${promotion.release_id}`);
      if (release.app_id !== channel.app_id) {
        const message = 'is a release of another app';
        throw new ImsError('invalid_request', `/release_id ${message}`, [{ pointer: '/release_id', message }]);
      }
      if (release.bad) throw new ImsError('release_bad', `${release.version} (${promotion.release_id})`);
      if (channel.version !== null && channel.released_at !== null && promotion.rollback !== true) {
        const now = { version: channel.version, created_at: iso(channel.released_at) };
        if (compareReleases({ ...release, created_at: iso(release.created_at) }, now) < 0) {
          throw new ImsError('release_downgraded', `channel ${channel.name} has ${now.version}`);
        }
      }
      if (channel.release_id === promotion.release_id) return;
      await tx.query('UPDATE channels SET release_id = $2 WHERE id = $1', [channel_id, promotion.release_id]);
      await tx.query('INSERT INTO promotions (channel_id, release_id) VALUES ($1, $2)', [
        channel_id,
        promotion.release_id,
      ]);
      await recordChannel(tx, 'channel.promoted', channel, {
        name: channel.name,
        release_id: promotion.release_id,
        version: release.version,
        before: channel.release_id,
        rollback: promotion.rollback === true,
      });
    });
    void this.advance.deployChannels();
    return this.getChannel({ vendor_id, channel_id });
  }
}

async function lockChannel(tx: Tx, vendor_id: VendorId, id: ChannelId): Promise<ChannelRow> {
  const [row] = await tx.query<ChannelRow>(`${SELECT_CHANNELS} WHERE c.id = $1 AND c.vendor_id = $2 FOR UPDATE OF c`, [
    id,
    vendor_id,
  ]);
  return found(row, `channel ${id}`);
}

async function recordChannel(
  tx: Tx,
  type: string,
  { id, vendor_id, app_id }: Pick<ChannelRow, 'id' | 'vendor_id' | 'app_id'>,
  data: JsonObject,
): Promise<void> {
  await tx.record({
    chainOf: vendor_id,
    type,
    vendor_id,
    actor: caller(),
    data: { app_id, channel_id: id, ...data },
  });
}

const viewChannel = (row: ChannelRow): Channel =>
  wire(Channel, {
    id: row.id,
    app_id: row.app_id,
    name: row.name,
    ...(row.auto_deploy ? { auto_deploy: true } : {}),
    strategy: row.strategy && wire(RolloutStrategy, row.strategy),
    release_id: row.release_id,
    version: row.version,
    created_at: iso(row.created_at),
  });
