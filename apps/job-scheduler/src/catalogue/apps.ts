import { Injectable } from '@nestjs/common';
import { type EntityManager } from 'typeorm';
import {
  App,
  ApprovalPolicy,
  AppPage,
  Component,
  ComponentPage,
  ComponentSpec,
  createApp,
  createComponent,
  etagOf,
  getApp,
  getComponent,
  ImsError,
  LIMITS,
  listApps,
  listComponents,
  newId,
  updateApp,
  updateComponent,
  type AppId,
  type AppRef,
  type ComponentRef,
  type CreateApp,
  type CreateComponent,
  type ListInApp,
  type ListInVendor,
  type UpdateApp,
  type UpdateComponent,
  type VendorId,
} from '#contracts';
import { checkComponentSpec, checkDeclarations, checkNoCycle, graphComponent } from '#domain';
import { Serves } from '#messaging';
import { Database, type Tx } from '#persistence';
import { caller, checkStorable, iso, json, wire } from '../wire.js';
import { AppRow, ComponentRow, VendorRow, type StoredSpec } from './entities.js';
import { found, insert, newest, page, position, unlessTaken } from './lists.js';

/** Apps and their components: what a vendor says its product is. A change is seen by later builds and releases only. */
@Injectable()
export class Apps {
  constructor(private readonly database: Database) {}

  @Serves(createApp)
  async createApp({ vendor_id, app }: CreateApp): Promise<App> {
    checkStorable(app);
    checkDeclarations(app.inputs ?? [], '/inputs');
    const { name, inputs = [], approval = null } = app;
    const row = { id: newId('app'), vendor_id, name, inputs, approval } as AppRow;
    const write = this.database.transaction(async ({ manager, record }) => {
      found(await manager.findOneBy(VendorRow, { id: vendor_id }), `vendor ${vendor_id}`);
      await insert(manager, AppRow, row);
      await record({
        chainOf: vendor_id,
        type: 'app.created',
        vendor_id,
        actor: caller(),
        data: { app_id: row.id, name: row.name },
      });
    });
    await unlessTaken(`an app with the name ${app.name}`, write);
    return viewApp(row);
  }

  /** Replaces what may be changed. Installs take a changed declaration with their next deployment. */
  @Serves(updateApp)
  async updateApp({ vendor_id, app_id, settings, if_match }: UpdateApp): Promise<App> {
    checkStorable(settings);
    const { inputs = [], approval = null } = settings;
    checkDeclarations(inputs, '/inputs');
    return this.database.transaction(async (tx) => {
      await this.lockComponents(tx, vendor_id, app_id);
      const row = await findApp(tx.manager, vendor_id, app_id);
      if (if_match !== undefined && etagOf(viewApp(row)) !== if_match) {
        throw new ImsError('precondition_failed', `app ${row.name} has changed`);
      }
      await tx.query('UPDATE apps SET inputs = $2, approval = $3 WHERE id = $1', [
        app_id,
        json(inputs),
        json(approval),
      ]);
      await tx.record({
        chainOf: vendor_id,
        type: 'app.updated',
        vendor_id,
        actor: caller(),
        data: { app_id, inputs: inputs.map(({ name }) => name), approval: approval?.when ?? null },
      });
      return viewApp({ ...row, inputs, approval });
    });
  }

  @Serves(listApps)
  async listApps(query: ListInVendor): Promise<AppPage> {
    const at = position(query);
    const rows = await this.read((manager) => newest(manager, AppRow, { vendor_id: query.vendor_id }, at));
    return page(AppPage, rows, at.limit, viewApp);
  }

  @Serves(getApp)
  async getApp({ vendor_id, app_id }: AppRef): Promise<App> {
    return viewApp(await this.read((manager) => findApp(manager, vendor_id, app_id)));
  }

  @Serves(createComponent)
  async createComponent({ vendor_id, app_id, component }: CreateComponent): Promise<Component> {
    const { name, ...fields } = component;
    const spec: StoredSpec = fields;
    checkStorable(component);
    checkComponentSpec(component);
    const row = { id: newId('component'), vendor_id, app_id, name, spec } as ComponentRow;
    const write = this.database.transaction(async (tx) => {
      const others = await this.lockComponents(tx, vendor_id, app_id);
      if (others.length >= LIMITS.componentsPerApp) {
        throw new ImsError('conflict', `an app has at most ${LIMITS.componentsPerApp} components`);
      }
      checkTogether([...others.filter((other) => other.name !== name), row]);
      await insert(tx.manager, ComponentRow, row);
      await this.recordComponent(tx, 'component.created', row);
    });
    await unlessTaken(`a component with the name ${name}`, write);
    return viewComponent(row);
  }

  /** Replaces the spec. With `if_match`, only if the component is still the one that the caller has seen. */
  @Serves(updateComponent)
  async updateComponent({ vendor_id, component_id, spec, if_match }: UpdateComponent): Promise<Component> {
    checkStorable(spec);
    checkComponentSpec(spec);
    const fields = JSON.parse(JSON.stringify(spec)) as StoredSpec;
    return this.database.transaction(async (tx) => {
      const { app_id } = await findComponent(tx.manager, vendor_id, component_id);
      const all = await this.lockComponents(tx, vendor_id, app_id);
      const row = found(
        all.find((component) => component.id === component_id),
        `component ${component_id}`,
      );
      if (if_match !== undefined && etagOf(viewComponent(row)) !== if_match) {
        throw new ImsError('precondition_failed', `component ${row.name} has changed`);
      }
      if (row.spec.kind !== spec.kind) {
        const message = `is ${row.spec.kind} for ever; make a new component instead`;
        throw new ImsError('invalid_request', `/kind ${message}`, [{ pointer: '/kind', message }]);
      }
      const changed = { ...row, spec: fields };
      checkTogether(all.map((component) => (component.id === component_id ? changed : component)));
      await tx.query('UPDATE components SET spec = $2 WHERE id = $1', [component_id, JSON.stringify(fields)]);
      await this.recordComponent(tx, 'component.updated', changed);
      return viewComponent(changed);
    });
  }

  @Serves(listComponents)
  async listComponents(query: ListInApp): Promise<ComponentPage> {
    const { vendor_id, app_id } = query;
    const at = position(query);
    const rows = await this.read(async (manager) => {
      await findApp(manager, vendor_id, app_id);
      return newest(manager, ComponentRow, { vendor_id, app_id }, at);
    });
    return page(ComponentPage, rows, at.limit, viewComponent);
  }

  @Serves(getComponent)
  async getComponent({ vendor_id, component_id }: ComponentRef): Promise<Component> {
    return viewComponent(await this.read((manager) => findComponent(manager, vendor_id, component_id)));
  }

  /** All components of an app under the app's row lock: names, their number and the graph are checked as one. */
  private async lockComponents(tx: Tx, vendor_id: VendorId, app_id: AppId): Promise<ComponentRow[]> {
    const [app] = await tx.query('SELECT id FROM apps WHERE id = $1 AND vendor_id = $2 FOR UPDATE', [
      app_id,
      vendor_id,
    ]);
    found(app, `app ${app_id}`);
    return tx.manager.find(ComponentRow, { where: { app_id }, order: { id: 'ASC' } });
  }

  private async recordComponent(tx: Tx, type: string, row: Omit<ComponentRow, 'created_at'>): Promise<void> {
    await tx.record({
      chainOf: row.vendor_id,
      type,
      vendor_id: row.vendor_id,
      actor: caller(),
      data: { app_id: row.app_id, component_id: row.id, name: row.name, kind: row.spec.kind },
    });
  }

  private read<T>(work: (manager: EntityManager) => Promise<T>): Promise<T> {
    return this.database.transaction(({ manager }) => work(manager));
  }
}

/** A circle is refused as soon as it would exist; names that are not there yet may follow. */
function checkTogether(components: readonly Pick<ComponentRow, 'name' | 'spec'>[]): void {
  checkNoCycle(components.map(({ name, spec }) => graphComponent({ ...spec, name })));
}

export async function findApp(manager: EntityManager, vendor_id: VendorId, app_id: AppId): Promise<AppRow> {
  return found(await manager.findOneBy(AppRow, { id: app_id, vendor_id }), `app ${app_id}`);
}

async function findComponent(manager: EntityManager, vendor_id: VendorId, id: string): Promise<ComponentRow> {
  return found(await manager.findOneBy(ComponentRow, { id, vendor_id }), `component ${id}`);
}

const viewApp = (row: AppRow): App =>
  wire(App, {
    id: row.id,
    name: row.name,
    inputs: row.inputs,
    approval: row.approval && wire(ApprovalPolicy, row.approval),
    created_at: iso(row.created_at),
  });

const viewComponent = (row: ComponentRow): Component =>
  wire(Component, {
    ...row.spec,
    id: row.id,
    app_id: row.app_id,
    name: row.name,
    created_at: iso(row.created_at),
  });

/** A stored spec as the wire's shape. */
export const specOf = (spec: StoredSpec): ComponentSpec => wire(ComponentSpec, spec);
