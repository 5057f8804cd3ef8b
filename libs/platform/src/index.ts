export { backoffMs, sleep, withTimeout } from './time.js';
export { currentContext, newContext, runInContext, type RequestContext } from './context.js';
export { redactText, registerSecret } from './redaction.js';
export { createLogger, describeError, NestLogger, type Logger } from './logger.js';
export {
  loadConfig,
  ConfigError,
  EnvText,
  EnvSecret,
  EnvInt,
  EnvFlag,
  EnvOneOf,
  EnvUrl,
  EnvUrls,
  EnvList,
  proxyOfProcess,
} from './config.js';
export { httpsAgent, openTunnel, proxyName, proxyOf, proxySettings, type ProxySettings } from './proxy.js';
export { toProblem, PROBLEM_TYPE, type ProblemBody } from './problem.js';
export { ServiceHealth, type CheckResult } from './health.js';
export { Lifecycle, type DrainPhase } from './lifecycle.js';
export { Metrics } from './metrics.js';
export { contextOf } from './http-context.js';
export { ProblemFilter, sendProblem, toImsError } from './http-errors.js';
export { PlatformModule } from './platform.module.js';
export { startService, tlsFiles, type ServiceOptions } from './service.js';
