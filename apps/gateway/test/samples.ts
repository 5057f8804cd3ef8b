import {
  newId,
  type App,
  type Component,
  type Deployment,
  type EnrolmentTicket,
  type Install,
  type Job,
  type LogLine,
  type Vendor,
  type VendorId,
} from '#contracts';

const at = '2026-01-02T03:04:05.678Z';

export const vendor = (id: VendorId = newId('vendor'), name = 'acme'): Vendor => ({ id, name, created_at: at });
export const app = (over: Partial<App> = {}): App => ({ id: newId('app'), name: 'shop', created_at: at, ...over });
export const component = (over: Partial<Component> = {}): Component => ({
  id: newId('component'),
  app_id: newId('app'),
  name: 'db',
  kind: 'terraform-module',
  source: { url: '/src/shop', directory: 'db' },
  values: { size: 'small', tags: { b: 1, a: 2 } },
  created_at: at,
  ...over,
});
export const install = (over: Partial<Install> = {}): Install => ({
  id: newId('install'),
  app_id: newId('app'),
  name: 'customer-one',
  inputs: { region: 'eu' },
  agent_id: newId('agent'),
  components: [],
  created_at: at,
  ...over,
});
export const deployment = (over: Partial<Deployment> = {}): Deployment => ({
  id: newId('deployment'),
  install_id: newId('install'),
  release_id: newId('release'),
  kind: 'deploy',
  status: 'running',
  jobs: { total: 2, succeeded: 0, failed: 0, unfinished: 2 },
  created_at: at,
  ...over,
});
export const job = (over: Partial<Job> = {}): Job => ({
  id: newId('job'),
  kind: 'apply',
  status: 'running',
  attempt: 1,
  agent_id: newId('agent'),
  component: { id: newId('component'), name: 'db', kind: 'terraform-module' },
  depends_on: [],
  priority: 0,
  created_at: at,
  ...over,
});
export const line = (seq: number, attempt = 1): LogLine => ({
  at,
  level: 'info',
  step: 'apply',
  text: `line ${seq} of attempt ${attempt}`,
  attempt,
  seq,
});
export const enrolmentTicket = (agentId = newId('agent')): EnrolmentTicket => ({
  agent_id: agentId,
  kind: 'install',
  expires_at: at,
});
