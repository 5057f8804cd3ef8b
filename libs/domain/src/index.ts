export {
  referencesOf,
  referenceText,
  checkReferences,
  render,
  isReferenceKey,
  type Reference,
  type PlacedReference,
  type ReferenceNames,
  type ReferenceScope,
} from './references.js';
export { checkGraph, checkNoCycle, planDeploy, planTeardown, type GraphComponent, type PlannedJob } from './graph.js';
export { defineMachine, type Machine, type MachineTable, type Decision } from './machine.js';
export {
  decideJob,
  jobMachine,
  attemptMachine,
  factOf,
  isCustomerHold,
  type Fault,
  type JobState,
  type JobEvent,
  type JobEffect,
  type JobRefusal,
  type JobDecision,
} from './job.js';
export {
  deploymentMachine,
  buildMachine,
  settleDeployment,
  buildStatusOf,
  type DeploymentJob,
  type Settlement,
} from './deployment.js';
export { presenceMachine, isSilent, type Presence } from './presence.js';
export { afterFailure, type RetryDecision } from './retry.js';
export { judgeRenewal, selfFenceAt, type Lease, type LeaseClaim, type LeaseVerdict } from './leases.js';
export { rankOf, toOffer, barOf, type Candidate, type Intake } from './scheduling.js';
export { checkWork, beginOf, planRetry, type EndedJob, type RetryPlan } from './work.js';
export { waitingReason, type WaitingFacts } from './waiting.js';
export {
  checkDeclarations,
  declaredOnly,
  isCustomerInput,
  resolveCustomerInputs,
  resolveInputs,
  type DeclaredInput,
} from './inputs.js';
export { checkComponentSpec, graphComponent } from './component.js';
export {
  builderIdOf,
  buildTypeOf,
  EXTERNAL_PARAMETERS,
  type ExternalParameters,
  isImageReference,
} from './provenance.js';
export {
  CustomerPolicy,
  customerObstacle,
  decidePlan,
  decidePolicy,
  isPaused,
  readPolicy,
  type JobFacts,
  type PlanAnswer,
  type PlanFacts,
  type PolicyDecision,
} from './policy.js';
export { checkSchedule, nextRun } from './schedule.js';
export { windowAt, type WeeklyWindow, type WindowState } from './windows.js';
export { fullImageName, imagesOf, mapImages, type ImageOwner, type NamedImage } from './images.js';
export {
  cleanedChanges,
  countsOf,
  inReadingOrder,
  planSummary,
  renderPlan,
  type Change,
  type PlanCounts,
} from './plans.js';
export { traceOfJob } from './trace.js';
export { checkHistory, WHOLE_ATTEMPT } from './history-rules.js';
export { type Effect, type History, type JobAttempt, type RuleName, type RuleReport } from './history.js';
export { judgePlan, mayVote, type PlanJudgement, type PlanVote } from './approval.js';
export { checkVersion, compareReleases, refuseMove, type ReleaseFacts, type ReleaseMove } from './releases.js';
export {
  rolloutMachine,
  stepRollout,
  groupOf,
  rolloutReason,
  type MemberChange,
  type RolloutMember,
  type RolloutObstacle,
  type RolloutState,
} from './rollout.js';
