import { Injectable } from '@nestjs/common';
import {
  createInstall,
  getInstall,
  Install,
  InstallComponent,
  InstallPage,
  listInstalls,
  newId,
  type AgentId,
  type AppId,
  type CreateInstall,
  type InstallId,
  type InstallRef,
  type JsonObject,
  type ListInVendor,
  type ReleaseId,
} from '#contracts';
import { resolveInputs } from '#domain';
import { Serves } from '#messaging';
import { Database } from '#persistence';
import { findApp } from '../catalogue/apps.js';
import { found, page, position, unlessTaken } from '../catalogue/lists.js';
import { caller, checkStorable, iso, wire } from '../wire.js';

interface InstallRow {
  readonly id: InstallId;
  readonly app_id: AppId;
  readonly name: string;
  readonly inputs: JsonObject;
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
    const id = newId('install');
    const write = this.database.transaction(async (tx) => {
      const app = await findApp(tx.manager, vendor_id, install.app_id);
      const inputs = resolveInputs(app.inputs, install.inputs ?? {}, '/inputs');
      const agent_id = newId('agent');
      await tx.query(`INSERT INTO agents (id, vendor_id, kind, install_id) VALUES ($1, $2, 'install', $3)`, [
        agent_id,
        vendor_id,
        id,
      ]);
      await tx.query(
        'INSERT INTO installs (id, vendor_id, app_id, name, inputs, agent_id) VALUES ($1, $2, $3, $4, $5, $6)',
        [id, vendor_id, app.id, install.name, JSON.stringify(inputs), agent_id],
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

const viewInstall = (row: InstallRow): Install =>
  wire(Install, {
    id: row.id,
    app_id: row.app_id,
    name: row.name,
    inputs: row.inputs,
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
    customer_policy: row.customer_policy,
    created_at: iso(row.created_at),
  });
