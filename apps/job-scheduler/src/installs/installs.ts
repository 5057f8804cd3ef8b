import { Injectable } from '@nestjs/common';
import {
  ApprovalPolicy,
  createInstall,
  Deprovisioned,
  etagOf,
  getInstall,
  ImsError,
  Install,
  InstallComponent,
  InstallPage,
  listInstalls,
  newId,
  ObservePolicy,
  updateInstall,
  type AgentId,
  type AppId,
  type ChannelId,
  type CreateInstall,
  type InstallId,
  type InstallRef,
  type JsonObject,
  type ListInVendor,
  type ReleaseId,
  type UpdateInstall,
} from '#contracts';
import { checkSchedule, nextRun, resolveInputs } from '#domain';
import { Serves } from '#messaging';
import { Database, type Tx } from '#persistence';
import { findApp } from '../catalogue/apps.js';
import { type Stored } from '../catalogue/entities.js';
import { found, page, position, unlessTaken } from '../catalogue/lists.js';
import { caller, checkStorable, iso, json, wire } from '../wire.js';

interface InstallRow {
  readonly id: InstallId;
  readonly app_id: AppId;
  readonly name: string;
  readonly inputs: JsonObject;
  readonly labels: Record<string, string>;
  readonly channel_id: ChannelId | null;
  readonly approval: Stored<ApprovalPolicy> | null;
  readonly observe: Stored<ObservePolicy> | null;
  readonly deprovisioned: Stored<Deprovisioned> | null;
  readonly agent_id: AgentId;
  readonly release_id: ReleaseId | null;
  readonly created_at: Date;
  /** Of one install; 200 of them would not fit a message. */
  readonly customer_policy?: JsonObject | null;
  readonly components:
    | {
        readonly name: string;
        readonly kind: string;
        readonly status: InstallComponent['status'];
        readonly digest: string | null;
        readonly outputs: JsonObject | null;
        readonly sensitive_outputs: string[] | null;
        readonly updated_at: string;
      }[]
    | null;
}
const selectInstalls = (more: string): string => `
  SELECT i.*, ${more} (SELECT json_agg(to_json(c) ORDER BY c.name) FROM install_components c WHERE c.install_id = i.id)
    AS components
  FROM installs i`;
const SELECT_INSTALLS = selectInstalls('');
const SELECT_INSTALL = selectInstalls('(SELECT policy FROM agents WHERE id = i.agent_id) AS customer_policy,');

/** Installs: one customer's copy of an app, with its inputs and its one agent. */
@Injectable()
export class Installs {
  constructor(private readonly database: Database) {}

  /** The inputs are completed with the app's defaults and checked now: an install that exists can be deployed. */
  @Serves(createInstall)
  async createInstall({ vendor_id, install }: CreateInstall): Promise<Install> {
    checkStorable(install);
    if (install.observe) checkSchedule(install.observe, '/observe');
    const id = newId('install');
    const write = this.database.transaction(async (tx) => {
      const app = await findApp(tx.manager, vendor_id, install.app_id);
      const inputs = resolveInputs(app.inputs, install.inputs ?? {}, '/inputs');
      await checkChannel(tx, app.id, install.channel_id);
      const agent_id = newId('agent');
      await tx.query(`INSERT INTO agents (id, vendor_id, kind, install_id) VALUES ($1, $2, 'install', $3)`, [
        agent_id,
        vendor_id,
        id,
      ]);
      await tx.query(
        `INSERT INTO installs (id, vendor_id, app_id, name, inputs, agent_id, labels, channel_id, approval, observe,
           observe_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
        [
          id,
          vendor_id,
          app.id,
          install.name,
          json(inputs),
          agent_id,
          json(install.labels ?? {}),
          install.channel_id ?? null,
          json(install.approval),
          json(install.observe),
          firstProbe(install.observe),
        ],
      );
      await tx.record({
        chainOf: id,
        type: 'install.created',
        vendor_id,
        install_id: id,
        agent_id,
        actor: caller(),
        data: { app_id: app.id, name: install.name },
      });
    });
    await unlessTaken(`an install with the name ${install.name}`, write);
    return this.getInstall({ vendor_id, install_id: id });
  }

  /** Replaces what the vendor may set. New inputs reach the install with its next deployment. */
  @Serves(updateInstall)
  async updateInstall({ vendor_id, install_id, settings, if_match }: UpdateInstall): Promise<Install> {
    checkStorable(settings);
    if (settings.observe) checkSchedule(settings.observe, '/observe');
    await this.database.transaction(async (tx) => {
      const ref = [install_id, vendor_id];
      await tx.query('SELECT 1 FROM installs WHERE id = $1 AND vendor_id = $2 FOR UPDATE', ref);
      const [read] = await tx.query<InstallRow>(`${SELECT_INSTALL} WHERE i.id = $1 AND i.vendor_id = $2`, ref);
      const row = found(read, `install ${install_id}`);
      if (if_match !== undefined && etagOf(viewInstall(row)) !== if_match) {
        throw new ImsError('precondition_failed', `install ${row.name} has changed`);
      }
      const app = await findApp(tx.manager, vendor_id, row.app_id);
      const inputs = resolveInputs(app.inputs, settings.inputs ?? {}, '/inputs');
      await checkChannel(tx, row.app_id, settings.channel_id);
      const labels = settings.labels ?? {};
      const channel_id = settings.channel_id ?? null;
      await tx.query(
        `UPDATE installs SET inputs = $2, labels = $3, channel_id = $4, approval = $5, observe = $6, observe_at = $7
         WHERE id = $1`,
        [
          install_id,
          json(inputs),
          json(labels),
          channel_id,
          json(settings.approval),
          json(settings.observe),
          firstProbe(settings.observe),
        ],
      );
      const changed = (now: JsonObject, before: JsonObject): string[] =>
        [...new Set([...Object.keys(now), ...Object.keys(before)])].filter(
          (name) => JSON.stringify(now[name]) !== JSON.stringify(before[name]),
        );
      await tx.record({
        chainOf: install_id,
        type: 'install.updated',
        vendor_id,
        install_id,
        actor: caller(),
        data: {
          inputs: changed(inputs, row.inputs),
          labels,
          channel_id,
          approval: settings.approval?.when ?? null,
          observe: settings.observe?.cron ?? null,
        },
      });
    });
    return this.getInstall({ vendor_id, install_id });
  }

  @Serves(listInstalls)
  async listInstalls(query: ListInVendor): Promise<InstallPage> {
    const { before, take, limit } = position(query);
    const rows = await this.database.query<InstallRow>(
      `${SELECT_INSTALLS} WHERE i.vendor_id = $1 AND ($2::text IS NULL OR i.id < $2) ORDER BY i.id DESC LIMIT $3`,
      [query.vendor_id, before ?? null, take],
    );
    return page(InstallPage, rows, limit, viewInstall);
  }

  @Serves(getInstall)
  async getInstall({ vendor_id, install_id }: InstallRef): Promise<Install> {
    const [row] = await this.database.query<InstallRow>(`${SELECT_INSTALL} WHERE i.id = $1 AND i.vendor_id = $2`, [
      install_id,
      vendor_id,
    ]);
    return viewInstall(found(row, `install ${install_id}`));
  }
}

const firstProbe = (observe: ObservePolicy | undefined): Date | null =>
  (observe && nextRun(observe, new Date())) ?? null;

/** A channel of the same app, or none. */
async function checkChannel(tx: Tx, app_id: AppId, channel_id: ChannelId | undefined): Promise<void> {
  if (channel_id === undefined) return;
  const [channel] = await tx.query('SELECT 1 FROM channels WHERE id = $1 AND app_id = $2', [channel_id, app_id]);
  if (channel) return;
  const message = 'is no channel of this app';
  throw new ImsError('invalid_request', `/channel_id ${message}`, [{ pointer: '/channel_id', message }]);
}

const viewInstall = (row: InstallRow): Install =>
  wire(Install, {
    id: row.id,
    app_id: row.app_id,
    name: row.name,
    inputs: row.inputs,
    ...(Object.keys(row.labels).length > 0 ? { labels: row.labels } : {}),
    channel_id: row.channel_id,
    approval: row.approval && wire(ApprovalPolicy, row.approval),
    observe: row.observe && wire(ObservePolicy, row.observe),
    agent_id: row.agent_id,
    release_id: row.release_id,
    components: (row.components ?? []).map((component) =>
      wire(InstallComponent, {
        name: component.name,
        kind: component.kind,
        status: component.status,
        digest: component.digest,
        outputs: component.outputs,
        sensitive_outputs: component.sensitive_outputs,
        updated_at: iso(new Date(component.updated_at)),
      }),
    ),
    deprovisioned: row.deprovisioned && wire(Deprovisioned, row.deprovisioned),
    customer_policy: row.customer_policy,
    created_at: iso(row.created_at),
  });
