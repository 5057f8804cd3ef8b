import { Injectable } from '@nestjs/common';
import {
  FleetInstall,
  FleetPage,
  listFleet,
  type AgentId,
  type AppId,
  type FleetHealth,
  type InstallId,
  type ListFleet,
  type ReleaseId,
} from '#contracts';
import { Serves } from '#messaging';
import { Database } from '#persistence';
import { Presence } from '../agents/presence.js';
import { page, position } from '../catalogue/lists.js';
import { isoOrNull, wire } from '../wire.js';

interface FleetRow {
  readonly id: InstallId;
  readonly name: string;
  readonly app_id: AppId;
  readonly app_name: string;
  readonly agent_id: AgentId;
  readonly release_id: ReleaseId | null;
  readonly version: string | null;
  readonly behind: number;
  readonly health: FleetHealth;
  readonly presence: FleetInstall['presence'];
  readonly last_seen_at: Date | null;
}

/** The words of FLEET_HEALTHS, in their order. `work` beside a deployment changes nothing, so it does not count. */
const HEALTH = `
  CASE WHEN EXISTS (SELECT 1 FROM deployments d WHERE d.install_id = i.id
                    AND d.status IN ('running', 'cancelling') AND d.kind IN ('deploy', 'teardown')) THEN 'deploying'
       WHEN EXISTS (SELECT 1 FROM install_components c WHERE c.install_id = i.id AND c.status = 'failed') THEN 'failed'
       WHEN NOT EXISTS (SELECT 1 FROM install_components c WHERE c.install_id = i.id AND c.status = 'deployed') THEN 'absent'
       WHEN g.presence <> 'online' THEN 'unknown'
       ELSE 'healthy' END`;

/** All installs of a vendor at a glance. */
@Injectable()
export class Fleet {
  constructor(
    private readonly database: Database,
    private readonly presence: Presence,
  ) {}

  /**
   * A page, newest install first. The filters look at rows until the page is full: 10,000 installs of which none fits
   * take one pass over the vendor's installs.
   */
  @Serves(listFleet)
  async listFleet(query: ListFleet): Promise<FleetPage> {
    const { before, take, limit } = position(query);
    const rows = await this.database.query<FleetRow>(
      `SELECT f.id, f.name, f.app_id, f.app_name, f.agent_id, f.release_id, f.version, f.health, f.presence,
              f.last_seen_at, (SELECT count(*)::int FROM releases n
                    WHERE n.app_id = f.app_id AND n.created_at > f.released_at) AS behind
       FROM (
         SELECT i.id, i.name, i.app_id, a.name AS app_name, i.agent_id, i.release_id, r.version,
                r.created_at AS released_at, ${HEALTH} AS health, g.presence, g.last_seen_at
         FROM installs i
         JOIN apps a ON a.id = i.app_id
         JOIN agents g ON g.id = i.agent_id
         LEFT JOIN releases r ON r.id = i.release_id
         WHERE i.vendor_id = $1 AND ($2::text IS NULL OR i.id < $2) AND ($4::text IS NULL OR i.app_id = $4)
           AND ($5::text IS NULL OR i.name ILIKE $5 OR a.name ILIKE $5 OR r.version ILIKE $5 OR i.id = $6)
       ) f
       WHERE $7::text IS NULL OR f.health = $7
       ORDER BY f.id DESC LIMIT $3`,
      [
        query.vendor_id,
        before ?? null,
        take,
        query.app_id ?? null,
        query.q === undefined ? null : `%${query.q.replace(/[\\%_]/g, '\\$&')}%`,
        query.q ?? null,
        query.health ?? null,
      ],
    );
    return page(FleetPage, rows, limit, (row) =>
      wire(FleetInstall, { ...row, last_seen_at: isoOrNull(this.presence.lastSeen(row.agent_id, row.last_seen_at)) }),
    );
  }
}
