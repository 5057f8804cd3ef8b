import { Controller } from '@nestjs/common';
import {
  App,
  AppPage,
  AppSettings,
  BadRelease,
  Build,
  BuildPage,
  Component,
  ComponentPage,
  ComponentSpec,
  createApp,
  createBuilds,
  createComponent,
  createRelease,
  etagOf,
  getApp,
  getBuild,
  getComponent,
  getRelease,
  ImsError,
  listApps,
  listBuilds,
  listComponents,
  listReleases,
  markRelease,
  NewApp,
  NewBuilds,
  NewComponent,
  NewRelease,
  PageQuery,
  Release,
  ReleasePage,
  updateApp,
  updateComponent,
} from '#contracts';
import { Bus } from '#messaging';
import { type Ask } from './edge/ask.js';
import { listsEtag } from './edge/read-request.js';
import { Route } from './edge/route.js';

/** Apps, components, builds and releases. */
@Controller()
export class CatalogueController {
  constructor(private readonly bus: Bus) {}

  @Route({
    method: 'POST',
    path: '/v1/apps',
    summary: 'Create an app.',
    access: 'vendor',
    needs: 'ship',
    body: NewApp,
    reply: App,
    status: 201,
    location: ({ id }) => `/v1/apps/${id}`,
  })
  createApp(ask: Ask<NewApp>): Promise<App> {
    return this.bus.call(createApp, { vendor_id: ask.vendorId, app: ask.body });
  }

  @Route({
    method: 'GET',
    path: '/v1/apps',
    summary: 'Apps, newest first.',
    access: 'vendor',
    query: PageQuery,
    reply: AppPage,
    status: 200,
  })
  listApps(ask: Ask<object, PageQuery>): Promise<AppPage> {
    return this.bus.call(listApps, { vendor_id: ask.vendorId, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/apps/{app_id}',
    summary: 'An app.',
    access: 'vendor',
    reply: App,
    status: 200,
    etag: true,
  })
  getApp(ask: Ask): Promise<App> {
    return this.bus.call(getApp, { vendor_id: ask.vendorId, app_id: ask.id('app') });
  }

  @Route({
    method: 'PUT',
    path: '/v1/apps/{app_id}',
    summary: 'Replace the settings of an app. Installs take changed inputs with their next deployment.',
    access: 'vendor',
    body: AppSettings,
    reply: App,
    status: 200,
    etag: true,
    ifMatch: true,
  })
  async updateApp(ask: Ask<AppSettings>): Promise<App> {
    const ref = { vendor_id: ask.vendorId, app_id: ask.id('app') };
    const etag = etagOf(await this.bus.call(getApp, ref));
    if (!listsEtag(ask.ifMatch, etag)) throw new ImsError('precondition_failed');
    return this.bus.call(updateApp, { ...ref, settings: ask.body, if_match: etag });
  }

  @Route({
    method: 'POST',
    path: '/v1/apps/{app_id}/components',
    summary: 'Add a component to an app.',
    access: 'vendor',
    needs: 'ship',
    body: NewComponent,
    reply: Component,
    status: 201,
    location: ({ id }) => `/v1/components/${id}`,
  })
  createComponent(ask: Ask<NewComponent>): Promise<Component> {
    return this.bus.call(createComponent, { vendor_id: ask.vendorId, app_id: ask.id('app'), component: ask.body });
  }

  @Route({
    method: 'GET',
    path: '/v1/apps/{app_id}/components',
    summary: 'Components of an app, newest first.',
    access: 'vendor',
    query: PageQuery,
    reply: ComponentPage,
    status: 200,
  })
  listComponents(ask: Ask<object, PageQuery>): Promise<ComponentPage> {
    return this.bus.call(listComponents, { vendor_id: ask.vendorId, app_id: ask.id('app'), ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/components/{component_id}',
    summary: 'A component.',
    access: 'vendor',
    reply: Component,
    status: 200,
    etag: true,
  })
  getComponent(ask: Ask): Promise<Component> {
    return this.bus.call(getComponent, { vendor_id: ask.vendorId, component_id: ask.id('component') });
  }

  @Route({
    method: 'PUT',
    path: '/v1/components/{component_id}',
    summary: 'Replace the specification of a component. Later releases have it; those that exist do not change.',
    access: 'vendor',
    needs: 'ship',
    body: ComponentSpec,
    reply: Component,
    status: 200,
    etag: true,
    ifMatch: true,
  })
  async updateComponent(ask: Ask<ComponentSpec>): Promise<Component> {
    const ref = { vendor_id: ask.vendorId, component_id: ask.id('component') };
    ask.before = await this.bus.call(getComponent, ref);
    const etag = etagOf(ask.before);
    if (!listsEtag(ask.ifMatch, etag)) throw new ImsError('precondition_failed');
    // The scheduler compares once more under its row lock: between the reading above and the change may be another.
    return this.bus.call(updateComponent, { ...ref, spec: ask.body, if_match: etag });
  }

  @Route({
    method: 'POST',
    path: '/v1/apps/{app_id}/builds',
    summary: 'Build components (default: all) from their sources.',
    access: 'vendor',
    needs: 'ship',
    body: NewBuilds,
    reply: BuildPage,
    status: 202,
    location: ({ data }, { app_id }) => (data.length === 1 ? `/v1/builds/${data[0]?.id}` : `/v1/apps/${app_id}/builds`),
  })
  createBuilds(ask: Ask<NewBuilds>): Promise<BuildPage> {
    return this.bus.call(createBuilds, { vendor_id: ask.vendorId, app_id: ask.id('app'), builds: ask.body });
  }

  @Route({
    method: 'GET',
    path: '/v1/apps/{app_id}/builds',
    summary: 'Builds of an app, newest first.',
    access: 'vendor',
    query: PageQuery,
    reply: BuildPage,
    status: 200,
  })
  listBuilds(ask: Ask<object, PageQuery>): Promise<BuildPage> {
    return this.bus.call(listBuilds, { vendor_id: ask.vendorId, app_id: ask.id('app'), ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/builds/{build_id}',
    summary: 'A build; its job has the log.',
    access: 'vendor',
    reply: Build,
    status: 200,
    etag: true,
  })
  getBuild(ask: Ask): Promise<Build> {
    return this.bus.call(getBuild, { vendor_id: ask.vendorId, build_id: ask.id('build') });
  }

  @Route({
    method: 'POST',
    path: '/v1/apps/{app_id}/releases',
    summary: 'Make a release of the newest successful build of each component.',
    access: 'vendor',
    needs: 'ship',
    body: NewRelease,
    reply: Release,
    status: 201,
    location: ({ id }) => `/v1/releases/${id}`,
  })
  createRelease(ask: Ask<NewRelease>): Promise<Release> {
    return this.bus.call(createRelease, { vendor_id: ask.vendorId, app_id: ask.id('app'), release: ask.body });
  }

  @Route({
    method: 'GET',
    path: '/v1/apps/{app_id}/releases',
    summary: 'Releases of an app, newest first.',
    access: 'vendor',
    query: PageQuery,
    reply: ReleasePage,
    status: 200,
  })
  listReleases(ask: Ask<object, PageQuery>): Promise<ReleasePage> {
    return this.bus.call(listReleases, { vendor_id: ask.vendorId, app_id: ask.id('app'), ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/releases/{release_id}',
    summary: 'A release: one artifact digest for each component.',
    access: 'vendor',
    reply: Release,
    status: 200,
    etag: true,
  })
  getRelease(ask: Ask): Promise<Release> {
    return this.bus.call(getRelease, { vendor_id: ask.vendorId, release_id: ask.id('release') });
  }

  @Route({
    method: 'POST',
    path: '/v1/releases/{release_id}/mark-bad',
    summary: 'Deploy this release nowhere any more; channels go back to the one before, rollouts of it stop.',
    access: 'vendor',
    body: BadRelease,
    reply: Release,
    status: 200,
  })
  markBad(ask: Ask<BadRelease>): Promise<Release> {
    return this.bus.call(markRelease, { vendor_id: ask.vendorId, release_id: ask.id('release'), bad: ask.body });
  }

  @Route({
    method: 'POST',
    path: '/v1/releases/{release_id}/mark-good',
    summary: 'Take the mark back.',
    access: 'vendor',
    reply: Release,
    status: 200,
  })
  markGood(ask: Ask): Promise<Release> {
    return this.bus.call(markRelease, { vendor_id: ask.vendorId, release_id: ask.id('release') });
  }
}
