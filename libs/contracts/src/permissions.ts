import { CONTRACTS } from './contracts.js';
import { type AgentKind, type AnyContract, type ServiceName } from './message.js';

/** NATS subjects that a user may publish to and subscribe to; everything else is denied by the server. */
export interface Permissions {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
}

/** Tags that a scoped agent JWT carries; each fills one whole token of the templates below. */
export const AGENT_TAGS = ['agent', 'jobs_stream', 'shard'] as const;

const concerns = (parties: readonly string[], who: string): boolean => parties.includes(who);
const received = (contract: AnyContract, who: string): boolean =>
  contract.type === 'signal' && concerns(contract.to, who);
/** `{agent}` stays the agent's own id, every other placeholder may be any. */
const own = (contract: AnyContract, agent: string): string =>
  contract.subject.replace('{agent}', agent).replace(/\{\w+\}/g, '*');

/**
 * What one kind of agent may do, as templates of a scoped signing key (whole-token templates only: the server
 * expands them token by token). Follows from the contracts: what is sent `from` this kind, signals `to` it, its own
 * consumer's next and acknowledgements (both forms of the ack subject), its own inbox.
 */
export function agentPermissions(kind: AgentKind): Permissions {
  const agent = '{{tag(agent)}}';
  const stream = '{{tag(jobs_stream)}}';
  return {
    publish: [
      ...CONTRACTS.filter((contract) => concerns(contract.from, kind)).map((contract) => own(contract, agent)),
      `$JS.API.CONSUMER.MSG.NEXT.${stream}.${agent}`,
      `$JS.ACK.${stream}.${agent}.>`,
      `$JS.ACK.*.*.${stream}.${agent}.>`,
    ],
    subscribe: [
      ...CONTRACTS.filter((contract) => received(contract, kind)).map((contract) => own(contract, agent)),
      `_INBOX.${agent}.>`,
    ],
  };
}

/** What one service may do: its own side of each contract, its consumers, and (any service may make the topology) the JetStream API. */
export function servicePermissions(service: ServiceName): Permissions {
  const any = (contract: AnyContract): string => contract.subject.replace(/\{\w+\}/g, '*');
  const publish = CONTRACTS.filter((contract) => concerns(contract.from, service)).map(any);
  // What the job-scheduler re-drives out of the dead letters, whoever sent it first.
  const redriven = CONTRACTS.filter(({ type }) => type === 'stream' && service === 'job-scheduler').map(any);
  const serves = CONTRACTS.filter((contract) => contract.type === 'call' && contract.servedBy === service).map(any);
  const hears = CONTRACTS.filter((contract) => received(contract, service)).map(any);
  return {
    // Replies go to inboxes of agents and services; `resp` permissions would limit them to one, but a service answers many at once.
    publish: [...new Set([...publish, ...redriven]), '_INBOX.>', '$JS.API.>', '$JS.ACK.>', 'ims.v1.dead.>'],
    subscribe: [...serves, ...hears, `_INBOX.${service.replaceAll('-', '_')}.>`],
  };
}
