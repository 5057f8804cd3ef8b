import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  claimJob,
  createBuilds,
  createComponent,
  createDeployment,
  createEnrolmentToken,
  ImsError,
  jobCancel,
  jobResult,
  mintEnrolmentToken,
  newId,
  PAYLOAD_TYPES,
  signEnvelope,
  subjectFilter,
  type Deployment,
  type ErrorCode,
  type Job,
  type Release,
} from '#contracts';
import { createNkey, nkeyFromSeed } from '#messaging';
import { enrolmentToken } from '../local/shop.js';
import { altered, BrokerOwner, enrolled, tokensOf } from './attacker.js';
import { deployed, OPEN_INPUT, outputsAt, syncJob, type Ground, type Product, type Site } from './ground.js';
import { absent, found, Refused, until, type Play } from './play.js';

const UNKNOWN_DIGEST = `sha256:${'e'.repeat(64)}`;

export async function natsTakeover(ground: Ground, play: Play): Promise<void> {
  const { rest } = ground;
  const { app, release } = await ground.vault();
  const site = await ground.vaultSite();
  const { agent_id: agent } = site.install;
  const owner = await BrokerOwner.connect(ground);
  const neighbour = await ground.install(app, 'broker');
  // Its enrolment goes by as well.
  const other = await enrolled(ground, neighbour);
  try {
    await deployed(ground, site, release);
    await other.hello();
    const theirs = await syncJob(ground, neighbour, release, 'page');
    const { grant } = await other.claim(theirs.id);
    const { token } = await other.tokens.requestPullToken(grant.statement);
    await reads(ground, site, owner, play, token);

    const { enrolment } = other;
    const thief = nkeyFromSeed(createNkey('user').seed);
    const goneBy = owner.statements();
    const own = goneBy.find(({ statement }) => statement.agent_id === agent && statement.kind === 'apply');
    const foreign = goneBy.find(({ statement }) => statement.agent_id === enrolment.agent_id);
    if (!own || !foreign) throw new Error('no grant went by');
    const lease = { attempt: 1, lease_ms: 12_000 };
    await play.refused('offer an agent a job that is none', 'job_not_claimable', () => offered(owner, site));
    await play.refused('answer a claim before the scheduler, with a job of its own making', 'statement_refused', () => {
      const job = newId('job');
      const made = { ...own.statement, job_id: job, attempt: 1 };
      return owner.handOver(agent, job, { ...lease, statement: signEnvelope(PAYLOAD_TYPES.job, made, thief) });
    });
    await play.refused('put another artifact into a real job', 'statement_refused', () => {
      const job = newId('job');
      const change = altered(own.envelope, ({ artifact }) => ({
        job_id: job,
        attempt: 1,
        ...(artifact ? { artifact: { ...artifact, digest: UNKNOWN_DIGEST } } : {}),
      }));
      return owner.handOver(agent, job, { ...lease, statement: change });
    });
    await play.refused('play back a real job that was done', 'statement_refused', () =>
      owner.handOver(agent, own.statement.job_id, { ...lease, attempt: own.attempt, statement: own.envelope }),
    );
    await play.refused('hand an agent the real job of another install', 'statement_refused', () =>
      owner.handOver(agent, foreign.statement.job_id, {
        ...lease,
        attempt: foreign.attempt,
        statement: foreign.envelope,
      }),
    );
    await play.refused('ask for a pull token with a job that it read', 'statement_refused', () =>
      tokensOf(other, thief).requestPullToken(foreign.envelope),
    );
    await play.got(
      'say in an agent’s name that its job failed',
      'a wrong word in the history, until the next deployment',
      async () => {
        const error = { code: 'agent_error', detail: 'said the attacker' };
        const said = {
          job_id: theirs.id,
          attempt: grant.attempt,
          session_id: other.sessionId,
          outcome: 'failed',
          error,
          result: {},
        } as const;
        await owner.bus.publish(jobResult, { agent: enrolment.agent_id, job: theirs.id }, said, newId('job'));
        await until(
          'the job has failed',
          async () => (await rest.get<Job>(`/v1/jobs/${theirs.id}`)).status === 'failed',
        );
      },
    );
    await play.got('send an agent a stop order', 'a delay: the job ends as cancelled', () =>
      stopsAJob(ground, site, owner, release),
    );
    await asTheGateway(ground, { app, release }, site, owner, play);
    await rest.post(`/v1/deployments/${theirs.deployment_id ?? ''}/cancel`);
  } finally {
    await owner.close();
    await other.close();
  }
}

/** What can be read, and what cannot because it is never said. */
async function reads(ground: Ground, site: Site, owner: BrokerOwner, play: Play, pullToken: string): Promise<void> {
  const { account, platform } = ground;
  const heard = (text: string): boolean => owner.heard.some(({ data }) => data.includes(text));
  const state = (file: string): string => readFileSync(join(site.customer.state, file), 'utf8').trim();
  await play.got('read what goes by', 'names, inputs, open outputs, results; logs, redacted', () =>
    found(heard(`vault.${OPEN_INPUT}.internal`) && heard('is signed by the vendor')),
  );
  await play.got('read the job statements', 'what each agent is told to do: text, with a signature', () =>
    found(owner.statements().some(({ statement }) => statement.inputs?.['region'] === OPEN_INPUT)),
  );
  const unused = await enrolmentToken(ground.rest, site.install);
  const secrets: [what: string, ...values: string[]][] = [
    ['a pull token', pullToken],
    ['an enrolment token, made just now', unused.token.split('_').at(-1) ?? ''],
    ['an API key or the operator’s key', account.api_key, platform.operatorKey],
    ['a secret output', outputsAt(site.customer.state, 'vault')['password'] ?? ''],
    ['a private key', state('key.seed'), readFileSync(join(platform.dir, 'keys', 'job-signing.nk'), 'utf8').trim()],
  ];
  for (const [what, ...values] of secrets) {
    if (values.some((value) => value.length < 20)) throw new Error(`${what}: not looked for`);
    await play.refused(`read ${what}`, 'in no message', () => absent(values.some(heard), 'in no message'));
  }
}

/** An offer alone: the agent asks the scheduler, and is told that there is no such job. */
async function offered(owner: BrokerOwner, { install }: Site): Promise<void> {
  const { agent_id: agent } = install;
  const job = newId('job');
  await owner.offer(agent, job);
  const { error } = await until('the claim is answered', () => {
    const claim = owner.heard.find(
      ({ subject, data }) => subject === subjectFilter(claimJob, { agent }) && data.includes(job),
    );
    const reply = claim && owner.heard.find(({ subject }) => subject === claim.reply);
    return reply && (JSON.parse(reply.data.toString('utf8')) as { error?: { code: ErrorCode; detail: string } });
  });
  if (error) throw ImsError.fromWire(error);
}

/** A deployment is begun; as soon as a job of it is granted, its agent is told to stop. */
async function stopsAJob({ rest }: Ground, { install }: Site, owner: BrokerOwner, release: Release): Promise<void> {
  const { agent_id: agent, id: installId } = install;
  const what = { kind: 'deploy', release_id: release.id };
  const { id } = await rest.post<Deployment>(`/v1/installs/${installId}/deployments`, what);
  await until('the deployment has ended', async () => {
    for (const { statement, attempt } of owner.statements().filter((each) => each.statement.deployment_id === id)) {
      const order = {
        job_id: statement.job_id,
        attempt,
        code: 'cancelled',
        force: true,
        reason: 'says the attacker',
      } as const;
      owner.bus.signal(jobCancel, { agent, job: statement.job_id }, order);
    }
    return (await rest.get<Deployment>(`/v1/deployments/${id}`)).finished_at !== undefined;
  });
  const jobs = await rest.all<Job>(`/v1/jobs?deployment_id=${id}`);
  if (!jobs.some(({ status }) => status === 'cancelled')) throw new Refused('no job was stopped');
}

/**
 * Whoever owns the broker may publish where only the gateway may. A call counts only when the gateway's own key has
 * signed it: without that he could have the vendor's build agent build and sign what he likes, and deploy it.
 */
async function asTheGateway(
  ground: Ground,
  { app, release }: Product,
  { install }: Site,
  owner: BrokerOwner,
  play: Play,
): Promise<void> {
  const { vendor_id } = owner.statements()[0]?.statement ?? {};
  if (vendor_id === undefined) throw new Error('no grant went by');
  const { bus } = owner;
  const { id: install_id, agent_id } = install;
  const token_id = newId('token');
  const { verifier } = mintEnrolmentToken(token_id);
  const inApp = { vendor_id, app_id: app.id };
  await play.refused('ask for an enrolment token of any agent, as the gateway does', 'forbidden', () =>
    bus.call(createEnrolmentToken, { vendor_id, agent_id, enrolment: { token_id, verifier } }),
  );
  await play.refused('deploy a release of the vendor, as the gateway does', 'forbidden', () =>
    bus.call(createDeployment, { vendor_id, install_id, deployment: { kind: 'deploy', release_id: release.id } }),
  );
  await play.refused('have its own source built and signed, as the gateway does', 'forbidden', async () => {
    const url = ground.source('evil', { 'main.tf': 'output "said" { value = "the attacker was here" }\n' });
    const component = { name: 'evil', kind: 'terraform-module', source: { url } } as const;
    await bus.call(createComponent, { ...inApp, component });
    await bus.call(createBuilds, { ...inApp, builds: { components: ['evil'] } });
  });
  await play.refused('play back a call of the gateway, byte for byte', 'forbidden', async () => {
    const call = owner.heard.findLast(({ subject }) => subject === createEnrolmentToken.subject);
    if (!call?.headers) throw new Error('no call of the gateway went by');
    const { subject, data, headers } = call;
    const answer = await bus.connection.request(subject, data, { headers, timeout: 10_000 });
    const { error } = answer.json<{ error?: { code: ErrorCode; detail: string } }>();
    if (error) throw ImsError.fromWire(error);
  });
}
