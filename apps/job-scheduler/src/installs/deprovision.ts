import { Injectable } from '@nestjs/common';
import {
  deprovisionInstall,
  ImsError,
  type AgentId,
  type DeploymentId,
  type DeprovisionInstall,
  type Install,
} from '#contracts';
import { Serves } from '#messaging';
import { Database } from '#persistence';
import { Agents } from '../agents/agents.js';
import { found } from '../catalogue/lists.js';
import { Cancel } from '../engine/cancel.js';
import { caller, checkStorable, json } from '../wire.js';
import { Installs } from './installs.js';

/** The end of an install whose agent is gone: nobody can remove what is there, so it is written down. */
@Injectable()
export class Deprovision {
  constructor(
    private readonly database: Database,
    private readonly installs: Installs,
    private readonly cancel: Cancel,
    private readonly agents: Agents,
  ) {}

  /**
   * Marks the install, with what was there as leftovers; what is under way is cancelled, the agent's identity revoked,
   * and nothing but a teardown may be asked of it any more. Throws `conflict` while the agent is online, unless forced:
   * then a teardown removes things instead of listing them. A second time changes nothing.
   */
  @Serves(deprovisionInstall)
  async deprovisionInstall({ vendor_id, install_id, deprovision }: DeprovisionInstall): Promise<Install> {
    checkStorable(deprovision);
    const { reason, force = false } = deprovision;
    const { agent_id, open } = await this.database.transaction(async (tx) => {
      const [row] = await tx.query<{ agent_id: AgentId; presence: string; done: boolean; open: DeploymentId[] }>(
        `SELECT i.agent_id, a.presence, i.deprovisioned IS NOT NULL AS done,
           ARRAY(SELECT id FROM deployments WHERE install_id = i.id AND status IN ('running', 'cancelling')) AS open
         FROM installs i JOIN agents a ON a.id = i.agent_id WHERE i.id = $1 AND i.vendor_id = $2 FOR UPDATE OF i`,
        [install_id, vendor_id],
      );
      const install = found(row, `install ${install_id}`);
      if (install.done) return install;
      if (install.presence === 'online' && !force) {
        throw new ImsError('conflict', `${install.agent_id} is online: tear the install down instead`);
      }
      const left = await tx.query<{ name: string }>(
        `SELECT name FROM install_components WHERE install_id = $1 AND status IN ('deployed', 'failed') ORDER BY name`,
        [install_id],
      );
      const leftovers = left.map(({ name }) => name);
      const mark = { at: new Date().toISOString(), by: caller(), reason, leftovers };
      await tx.query('UPDATE installs SET deprovisioned = $2, observe_at = NULL WHERE id = $1', [
        install_id,
        json(mark),
      ]);
      await tx.record({
        chainOf: install_id,
        type: 'install.deprovisioned',
        vendor_id,
        install_id,
        agent_id: install.agent_id,
        actor: caller(),
        data: { reason, leftovers, presence: install.presence },
      });
      return install;
    });
    // Each is safe to repeat: a call that was cut off here is made whole by the next.
    for (const id of open) {
      await this.cancel.deployment(vendor_id, id, { reason: `the install was deprovisioned: ${reason}` });
    }
    await this.agents.revokeAgent({ vendor_id, agent_id });
    return this.installs.getInstall({ vendor_id, install_id });
  }
}
