import { Controller } from '@nestjs/common';
import {
  Agent,
  AgentPage,
  ComponentStatePage,
  AgentSettings,
  createInstall,
  Deprovision,
  deprovisionInstall,
  Enrolment,
  EnrolmentToken,
  EnrolRequest,
  etagOf,
  EventPage,
  getAgent,
  getInstall,
  getPullToken,
  ImsError,
  Install,
  FleetPage,
  FleetQuery,
  InstallPage,
  InstallSettings,
  JobPage,
  listComponentStates,
  listObservations,
  ObservationPage,
  observeInstall,
  Optional,
  Text,
  IntakeRequest,
  listAgents,
  listHistory,
  listFleet,
  listInstalls,
  listPullTokens,
  listVitals,
  NewInstall,
  PageQuery,
  PullToken,
  PullTokenPage,
  revokeAgent,
  setAgentIntake,
  updateAgentSettings,
  renewAgent,
  Envelope,
  Welcome,
  revokePullToken,
  updateInstall,
  VitalsPage,
  type AGENT_INTAKES,
} from '#contracts';
import { Bus } from '#messaging';
import { EnrolmentTokens } from './access/enrolment-tokens.js';
import { type Ask } from './edge/ask.js';
import { listsEtag } from './edge/read-request.js';
import { Route } from './edge/route.js';

class ObservationQuery extends PageQuery {
  @Optional() @Text(1, 40) component?: string;
}

/** Installs, what is known of them, and the agents (of installs and of the vendor) with their enrolment. */
@Controller()
export class InstallsController {
  constructor(
    private readonly bus: Bus,
    private readonly enrolments: EnrolmentTokens,
  ) {}

  /** The install of the path: its vendor is checked by the scheduler before another service is asked about it. */
  private install(ask: Ask): Promise<Install> {
    return this.bus.call(getInstall, { vendor_id: ask.vendorId, install_id: ask.id('install') });
  }

  @Route({
    method: 'POST',
    path: '/v1/installs',
    summary: 'Create an install of an app: one customer’s copy, with its inputs and its agent identity.',
    access: 'vendor',
    needs: 'ship',
    body: NewInstall,
    reply: Install,
    status: 201,
    location: ({ id }) => `/v1/installs/${id}`,
  })
  createInstall(ask: Ask<NewInstall>): Promise<Install> {
    return this.bus.call(createInstall, { vendor_id: ask.vendorId, install: ask.body });
  }

  @Route({
    method: 'GET',
    path: '/v1/installs',
    summary: 'Installs, newest first.',
    access: 'vendor',
    query: PageQuery,
    reply: InstallPage,
    status: 200,
  })
  listInstalls(ask: Ask<object, PageQuery>): Promise<InstallPage> {
    return this.bus.call(listInstalls, { vendor_id: ask.vendorId, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/fleet',
    summary: 'Every install at a glance, newest first: version, health, last contact. Searchable.',
    access: 'vendor',
    query: FleetQuery,
    reply: FleetPage,
    status: 200,
  })
  listFleet(ask: Ask<object, FleetQuery>): Promise<FleetPage> {
    return this.bus.call(listFleet, { vendor_id: ask.vendorId, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/installs/{install_id}',
    summary: 'An install: its release, components and their outputs.',
    access: 'vendor',
    reply: Install,
    status: 200,
    etag: true,
  })
  getInstall(ask: Ask): Promise<Install> {
    return this.install(ask);
  }

  @Route({
    method: 'PUT',
    path: '/v1/installs/{install_id}',
    summary: 'Replace the settings of an install. New inputs reach it with its next deployment.',
    access: 'vendor',
    body: InstallSettings,
    reply: Install,
    status: 200,
    etag: true,
    ifMatch: true,
  })
  async updateInstall(ask: Ask<InstallSettings>): Promise<Install> {
    const now = await this.install(ask);
    if (!listsEtag(ask.ifMatch, etagOf(now))) throw new ImsError('precondition_failed');
    const ref = { vendor_id: ask.vendorId, install_id: now.id };
    return this.bus.call(updateInstall, { ...ref, settings: ask.body, if_match: etagOf(now) });
  }

  @Route({
    method: 'POST',
    path: '/v1/installs/{install_id}/deprovision',
    summary: 'Give up an install whose agent is gone: marked, its leftovers listed, the agent’s identity revoked.',
    access: 'vendor',
    body: Deprovision,
    reply: Install,
    status: 200,
  })
  deprovisionInstall(ask: Ask<Deprovision>): Promise<Install> {
    const ref = { vendor_id: ask.vendorId, install_id: ask.id('install') };
    return this.bus.call(deprovisionInstall, { ...ref, deprovision: ask.body });
  }

  @Route({
    method: 'POST',
    path: '/v1/installs/{install_id}/observe',
    summary: 'Look for drift now: a probe of each component that is there. It changes nothing.',
    access: 'vendor',
    reply: JobPage,
    status: 202,
  })
  observeInstall(ask: Ask): Promise<JobPage> {
    return this.bus.call(observeInstall, { vendor_id: ask.vendorId, install_id: ask.id('install') });
  }

  @Route({
    method: 'GET',
    path: '/v1/installs/{install_id}/components',
    summary: 'Components of an install with their health, and what differs from what was deployed.',
    access: 'vendor',
    reply: ComponentStatePage,
    status: 200,
  })
  listInstallComponents(ask: Ask): Promise<ComponentStatePage> {
    return this.bus.call(listComponentStates, { vendor_id: ask.vendorId, install_id: ask.id('install') });
  }

  @Route({
    method: 'GET',
    path: '/v1/installs/{install_id}/observations',
    summary: 'Health and drift over time, newest first: each line is a change.',
    access: 'vendor',
    query: ObservationQuery,
    reply: ObservationPage,
    status: 200,
  })
  listObservations(ask: Ask<object, ObservationQuery>): Promise<ObservationPage> {
    const ref = { vendor_id: ask.vendorId, install_id: ask.id('install') };
    return this.bus.call(listObservations, { ...ref, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/installs/{install_id}/events',
    summary: 'History of an install: facts, hash-chained.',
    access: 'vendor',
    query: PageQuery,
    reply: EventPage,
    status: 200,
  })
  async listInstallEvents(ask: Ask<object, PageQuery>): Promise<EventPage> {
    const { id } = await this.install(ask);
    return this.bus.call(listHistory, { vendor_id: ask.vendorId, install_id: id, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/installs/{install_id}/vitals',
    summary: 'CPU, memory, disk and clock of the install’s agent, newest first.',
    access: 'vendor',
    query: PageQuery,
    reply: VitalsPage,
    status: 200,
  })
  async listInstallVitals(ask: Ask<object, PageQuery>): Promise<VitalsPage> {
    const { agent_id } = await this.install(ask);
    return this.bus.call(listVitals, { agent_id, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/installs/{install_id}/pull-tokens',
    summary: 'One-time pull tokens that were issued for an install, newest first. Their secrets are nowhere.',
    access: 'vendor',
    query: PageQuery,
    reply: PullTokenPage,
    status: 200,
  })
  async listPullTokens(ask: Ask<object, PageQuery>): Promise<PullTokenPage> {
    const { id } = await this.install(ask);
    return this.bus.call(listPullTokens, { vendor_id: ask.vendorId, install_id: id, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/pull-tokens/{token_id}',
    summary: 'What became of a pull token. Looking burns nothing.',
    access: 'vendor',
    reply: PullToken,
    status: 200,
    etag: true,
  })
  getPullToken(ask: Ask): Promise<PullToken> {
    return this.bus.call(getPullToken, { vendor_id: ask.vendorId, token_id: ask.id('token') });
  }

  @Route({
    method: 'POST',
    path: '/v1/pull-tokens/{token_id}/revoke',
    summary: 'End a pull token that is not redeemed. What a redeemed one gave cannot be recalled; it ends by itself.',
    access: 'vendor',
    reply: PullToken,
    status: 200,
  })
  revokePullToken(ask: Ask): Promise<PullToken> {
    return this.bus.call(revokePullToken, { vendor_id: ask.vendorId, token_id: ask.id('token') });
  }

  @Route({
    method: 'POST',
    path: '/v1/installs/{install_id}/enrolment-tokens',
    summary: 'A one-use token that enrols (or enrols again) the agent of an install. It is shown once.',
    access: 'vendor',
    reply: EnrolmentToken,
    status: 201,
    secret: true,
  })
  async createInstallEnrolmentToken(ask: Ask): Promise<EnrolmentToken> {
    const { agent_id } = await this.install(ask);
    return this.enrolments.forAgent(ask.vendorId, agent_id);
  }

  @Route({
    method: 'POST',
    path: '/v1/agents/{agent_id}/enrolment-tokens',
    summary: 'A one-use token that enrols (or enrols again) an agent. It is shown once.',
    access: 'vendor',
    reply: EnrolmentToken,
    status: 201,
    secret: true,
  })
  createAgentEnrolmentToken(ask: Ask): Promise<EnrolmentToken> {
    return this.enrolments.forAgent(ask.vendorId, ask.id('agent'));
  }

  @Route({
    method: 'POST',
    path: '/v1/agents/enrol',
    summary: 'For agents: exchange an enrolment token and a public key for an identity.',
    access: 'public',
    rate: 'enrolment',
    body: EnrolRequest,
    reply: Enrolment,
    status: 201,
    secret: true,
  })
  enrolAgent(ask: Ask<EnrolRequest>): Promise<Enrolment> {
    return this.enrolments.use(ask.body);
  }

  @Route({
    method: 'POST',
    path: '/v1/agents/renew',
    summary:
      'For agents: a fresh credential after the last one has ended, by a request that the agent’s key has signed.',
    access: 'public',
    rate: 'enrolment',
    body: Envelope,
    reply: Welcome,
    status: 200,
    secret: true,
  })
  renewAgent(ask: Ask<Envelope>): Promise<Welcome> {
    return this.bus.call(renewAgent, ask.body);
  }

  @Route({
    method: 'GET',
    path: '/v1/agents',
    summary: 'Build agents and install agents, newest first.',
    access: 'vendor',
    query: PageQuery,
    reply: AgentPage,
    status: 200,
  })
  listAgents(ask: Ask<object, PageQuery>): Promise<AgentPage> {
    return this.bus.call(listAgents, { vendor_id: ask.vendorId, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/agents/{agent_id}',
    summary: 'An agent and its presence.',
    access: 'vendor',
    reply: Agent,
    status: 200,
    etag: true,
  })
  getAgent(ask: Ask): Promise<Agent> {
    return this.bus.call(getAgent, { vendor_id: ask.vendorId, agent_id: ask.id('agent') });
  }

  @Route({
    method: 'POST',
    path: '/v1/agents/{agent_id}/pause',
    summary: 'Let an agent take no jobs. What runs goes on.',
    access: 'vendor',
    body: IntakeRequest,
    reply: Agent,
    status: 200,
  })
  pauseAgent(ask: Ask<IntakeRequest>): Promise<Agent> {
    return this.intake(ask, 'paused');
  }

  @Route({
    method: 'POST',
    path: '/v1/agents/{agent_id}/resume',
    summary: 'Let an agent take jobs again.',
    access: 'vendor',
    body: IntakeRequest,
    reply: Agent,
    status: 200,
  })
  resumeAgent(ask: Ask<IntakeRequest>): Promise<Agent> {
    return this.intake(ask, 'open');
  }

  @Route({
    method: 'POST',
    path: '/v1/agents/{agent_id}/drain',
    summary: 'Let an agent take no jobs, and record when the last one has ended: its host may be taken away then.',
    access: 'vendor',
    body: IntakeRequest,
    reply: Agent,
    status: 200,
  })
  drainAgent(ask: Ask<IntakeRequest>): Promise<Agent> {
    return this.intake(ask, 'draining');
  }

  @Route({
    method: 'POST',
    path: '/v1/agents/{agent_id}/settings',
    summary: 'How many jobs an agent runs at a time, and its labels. What is not named stays.',
    access: 'vendor',
    body: AgentSettings,
    reply: Agent,
    status: 200,
  })
  updateAgentSettings(ask: Ask<AgentSettings>): Promise<Agent> {
    const body = { vendor_id: ask.vendorId, agent_id: ask.id('agent'), settings: ask.body };
    return this.bus.call(updateAgentSettings, body);
  }

  private intake(ask: Ask<IntakeRequest>, intake: (typeof AGENT_INTAKES)[number]): Promise<Agent> {
    return this.bus.call(setAgentIntake, {
      vendor_id: ask.vendorId,
      agent_id: ask.id('agent'),
      intake,
      request: ask.body,
    });
  }

  @Route({
    method: 'POST',
    path: '/v1/agents/{agent_id}/revoke',
    summary: 'Revoke an agent’s identity. A new enrolment token brings it back under a new key.',
    access: 'vendor',
    reply: Agent,
    status: 200,
  })
  revokeAgent(ask: Ask): Promise<Agent> {
    return this.bus.call(revokeAgent, { vendor_id: ask.vendorId, agent_id: ask.id('agent') });
  }
}
