export { keptSecret, PROJECT_ROOT, withLock, writeSecret } from './files.js';
export { keptCertificates, type Certificates } from './certificates.js';
export { freePort } from './ports.js';
export { StartError, type ProcessEnd } from './process.js';
export {
  findTools,
  requireTool,
  ToolMissing,
  TOOL_NAMES,
  type Tool,
  type ToolName,
  type ToolOptions,
} from './tools.js';
export { IMS_DATABASE, startPostgres, type PostgresOptions, type PostgresServer } from './postgres.js';
export { freshDatabase, type FreshDatabase } from './test-postgres.js';
export { natsAuthConfig, startNats, startNatsCluster, type NatsOptions, type NatsServer } from './nats.js';
export { agentTags, natsIdentities, type NatsCreds, type NatsKeys } from './nats-identities.js';
export { startRegistry, type RegistryAuth, type RegistryOptions, type RegistryServer } from './registry.js';
export { startService, type RunningService, type ServiceOptions } from './service.js';
export { startKubeApi, type Fault, type KubeApi, type KubeApiOptions } from './kube-api/index.js';
export { startFakeEcr, type FakeEcr } from './fake-ecr/index.js';
