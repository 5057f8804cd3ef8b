export {
  agentMain,
  parseAgentCommand,
  untilStopped,
  usage,
  UsageError,
  type AgentCommand,
  type AgentProgram,
} from './cli.js';
export { type Finding } from './doctor-network.js';
export { AgentModule, type AgentModuleOptions } from './agent.module.js';
export { AgentRuntime, type AgentOptions } from './agent-runtime.js';
export { type JobHandler, type StepCommand, type StepContext, type StepDefinition } from './handler.js';
export { Identity, type EnrolOptions } from './identity.js';
export { RegistryTokens, type RegistryTokensOptions } from './agent-request.js';
export { AgentClock } from './session.js';
export { Processes, type Command, type CommandResult, type ProcessesOptions } from './processes.js';
export { Redactor } from './redactor.js';
export { LogShipper, type LogLevel } from './log-shipper.js';
export { assertPrivate, privateDirectory, writePrivate } from './files.js';
export { type ProposedPlan } from './policy-attempt.js';
export { customerCommands } from './policy-cli.js';
