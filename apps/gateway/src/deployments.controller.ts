import { Controller } from '@nestjs/common';
import {
  cancelDeployment,
  CancelRequest,
  createDeployment,
  createWork,
  Deployment,
  DeploymentPage,
  EventPage,
  extendWork,
  getDeployment,
  listDeployments,
  listHistory,
  NewDeployment,
  NewWork,
  PageQuery,
  retryDeployment,
  RetryRequest,
} from '#contracts';
import { Bus } from '#messaging';
import { type Ask } from './edge/ask.js';
import { Route } from './edge/route.js';
import { Wakeups } from './live/wakeups.js';

const isOver = ({ status }: Deployment): boolean => status !== 'running' && status !== 'cancelling';

@Controller()
export class DeploymentsController {
  constructor(
    private readonly bus: Bus,
    private readonly wakeups: Wakeups,
  ) {}

  @Route({
    method: 'POST',
    path: '/v1/installs/{install_id}/deployments',
    summary: 'Take an install to a release, or tear it down.',
    access: 'vendor',
    needs: 'ship',
    body: NewDeployment,
    reply: Deployment,
    status: 202,
    location: ({ id }) => `/v1/deployments/${id}`,
  })
  createDeployment(ask: Ask<NewDeployment>): Promise<Deployment> {
    const body = { vendor_id: ask.vendorId, install_id: ask.id('install'), deployment: ask.body };
    return this.bus.call(createDeployment, body);
  }

  @Route({
    method: 'GET',
    path: '/v1/installs/{install_id}/deployments',
    summary: 'Deployments of an install, newest first.',
    access: 'vendor',
    query: PageQuery,
    reply: DeploymentPage,
    status: 200,
  })
  listDeployments(ask: Ask<object, PageQuery>): Promise<DeploymentPage> {
    return this.bus.call(listDeployments, { vendor_id: ask.vendorId, install_id: ask.id('install'), ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/deployments/{deployment_id}',
    summary: 'A deployment; with `Prefer: wait=N` when it has ended.',
    access: 'vendor',
    reply: Deployment,
    status: 200,
    etag: true,
    waits: true,
  })
  getDeployment(ask: Ask): Promise<Deployment> {
    const ref = { vendor_id: ask.vendorId, deployment_id: ask.id('deployment') };
    const read = (): Promise<Deployment> => this.bus.call(getDeployment, ref);
    return this.wakeups.waitFor({ deployment: ref.deployment_id }, ask, read, isOver);
  }

  @Route({
    method: 'POST',
    path: '/v1/deployments/{deployment_id}/cancel',
    summary: 'Cancel all jobs of a deployment that are not finished.',
    access: 'vendor',
    needs: 'ship',
    body: CancelRequest,
    reply: Deployment,
    status: 202,
    location: ({ id }) => `/v1/deployments/${id}`,
  })
  cancelDeployment(ask: Ask<CancelRequest>): Promise<Deployment> {
    const body = { vendor_id: ask.vendorId, deployment_id: ask.id('deployment'), cancel: ask.body };
    return this.bus.call(cancelDeployment, body);
  }

  @Route({
    method: 'POST',
    path: '/v1/deployments/{deployment_id}/retry',
    summary: 'Go on where an ended deployment stopped, or from one of its jobs, with or without some of them.',
    access: 'vendor',
    needs: 'ship',
    body: RetryRequest,
    reply: Deployment,
    status: 202,
    location: ({ id }) => `/v1/deployments/${id}`,
  })
  retryDeployment(ask: Ask<RetryRequest>): Promise<Deployment> {
    const body = { vendor_id: ask.vendorId, deployment_id: ask.id('deployment'), retry: ask.body };
    return this.bus.call(retryDeployment, body);
  }

  @Route({
    method: 'POST',
    path: '/v1/installs/{install_id}/jobs',
    summary: 'Run a graph of jobs at an install, all or none; it is read, waited for and cancelled as a deployment.',
    access: 'vendor',
    needs: 'ship',
    body: NewWork,
    reply: Deployment,
    status: 202,
    location: ({ id }) => `/v1/deployments/${id}`,
  })
  createWork(ask: Ask<NewWork>): Promise<Deployment> {
    return this.bus.call(createWork, { vendor_id: ask.vendorId, install_id: ask.id('install'), work: ask.body });
  }

  @Route({
    method: 'POST',
    path: '/v1/deployments/{deployment_id}/jobs',
    summary: 'Add jobs to a graph of jobs that is not finished.',
    access: 'vendor',
    needs: 'ship',
    body: NewWork,
    reply: Deployment,
    status: 202,
    location: ({ id }) => `/v1/deployments/${id}`,
  })
  extendWork(ask: Ask<NewWork>): Promise<Deployment> {
    const body = { vendor_id: ask.vendorId, deployment_id: ask.id('deployment'), work: ask.body };
    return this.bus.call(extendWork, body);
  }

  @Route({
    method: 'GET',
    path: '/v1/deployments/{deployment_id}/events',
    summary: 'History of a deployment.',
    access: 'vendor',
    query: PageQuery,
    reply: EventPage,
    status: 200,
  })
  async listDeploymentEvents(ask: Ask<object, PageQuery>): Promise<EventPage> {
    const ref = { vendor_id: ask.vendorId, deployment_id: ask.id('deployment') };
    await this.bus.call(getDeployment, ref);
    return this.bus.call(listHistory, { ...ref, ...ask.query });
  }
}
