import { randomUUID } from 'node:crypto';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import {
  CONTRACTS,
  jobResult,
  newId,
  PAYLOAD_TYPES,
  shardOf,
  signEnvelope,
  subjectOf,
  type AgentId,
  type Job,
} from '#contracts';
import { pushArtifact, type RegistryClient } from '#oci';
import { enrolmentToken } from '../local/shop.js';
import { connectsOnce, enrolled, impostorOf, registryWith, request, type Impostor } from './attacker.js';
import { deployed, outputsAt, syncJob, type Ground } from './ground.js';
import { absent, found, Refused, until, type Play } from './play.js';

const CUT_MS = 2_000;
/** The job statement of a revoked agent is worth nothing from then on. */
const DEAD_MS = 5_000;

/** Every subject of every contract, filled with an agent's id, and the places where NATS keeps messages. */
function subjectsOf(agent: AgentId): string[] {
  const samples = { agent, job: newId('job'), vendor: newId('vendor'), scope: '_', shard: shardOf(agent) };
  return [
    ...CONTRACTS.map((contract) => subjectOf(contract, samples)),
    ...CONTRACTS.map(({ subject }) => subject.replace(/\{\w+\}/g, '*')),
    ...['>', 'ims.>', '_INBOX.>', `_INBOX.${agent}.a`, '$SYS.>', '$JS.API.>', '$JS.API.STREAM.NAMES'],
    ...['JOBS_00', 'EVENTS', 'LOGS', 'FACTS'].flatMap((stream) => [
      `$JS.API.STREAM.MSG.GET.${stream}`,
      `$JS.API.STREAM.PURGE.${stream}`,
      `$JS.API.CONSUMER.CREATE.${stream}.x.>`,
    ]),
  ];
}

/** Which of the subjects the server lets it hear or send on. Its refusal comes before its answer to a ping. */
async function allowed({ bus: { connection } }: Impostor, subjects: readonly string[]): Promise<string[]> {
  let refusals = 0;
  void (async () => {
    for await (const status of connection.status()) if (status.type === 'error') refusals += 1;
  })();
  const passes = async (act: () => void): Promise<boolean> => {
    const before = refusals;
    act();
    await connection.flush();
    await connection.flush();
    return refusals === before;
  };
  const open: string[] = [];
  for (const subject of subjects) {
    if (await passes(() => connection.subscribe(subject, { callback: () => undefined }))) open.push(`hear ${subject}`);
    if (!/[*>]/.test(subject) && (await passes(() => connection.publish(subject, '{}')))) open.push(`send ${subject}`);
  }
  return open;
}

export async function agentKeyStolen(ground: Ground, play: Play): Promise<void> {
  const { rest, platform } = ground;
  const { app, release } = await ground.vault();
  const site = await ground.site(app, 'key');
  const { install, customer } = site;
  await deployed(ground, site, release);
  const copy = join(platform.dir, 'drills', `stolen-${install.name}`);
  cpSync(customer.state, copy, { recursive: true });
  await customer.agent.stop();

  const neighbour = await ground.install(app, 'neighbour');
  const other = await enrolled(ground, neighbour);
  const thief = await impostorOf(copy, platform.caFile);
  try {
    await play.got('read what the agent keeps on its host', 'this install’s outputs, the secret ones too', () =>
      found(outputsAt(copy, 'vault')['password'] !== undefined),
    );
    await play.got('connect and say hello', 'to be this agent, until it is revoked', () => thief.hello());
    const job = await syncJob(ground, install, release, 'page');
    let taken: Awaited<ReturnType<Impostor['claim']>> | undefined;
    await play.got(
      'take a job of this install',
      'what the job says, inputs too; the real agent does not get it',
      async () => {
        taken = await thief.claim(job.id);
      },
    );
    if (!taken) throw new Error('the job was not granted');
    const { grant, statement } = taken;
    let registry: RegistryClient | undefined;
    await play.got('fetch the artifact of that job', 'one component that the install has anyway', async () => {
      const { token } = await thief.tokens.requestPullToken(grant.statement);
      const { registry_token = '' } = await thief.tokens.redeemPullToken(token, randomUUID());
      registry = registryWith(ground, registry_token);
      await registry.getManifest(statement.repository, statement.artifact?.digest ?? '');
    });
    await play.refused('push to the vendor’s registry with it', 'registry_denied', () => {
      if (!registry) throw new Error('nothing was fetched');
      const layers = [{ mediaType: 'text/plain', bytes: Buffer.from('evil') }];
      return pushArtifact({
        client: registry,
        repository: statement.repository,
        artifactType: 'application/x',
        layers,
      });
    });
    await play.refused('ask for a right to push', 'statement_refused', () =>
      thief.tokens.requestPushToken(grant.statement),
    );

    await other.hello();
    const theirs = await syncJob(ground, neighbour, release, 'page');
    await play.refused('take a job of another install', 'job_not_claimable', () => thief.claim(theirs.id));
    await play.refused('hear or send on any subject of another install or of the IMS', 'NATS permissions', async () => {
      const open = await allowed(thief, subjectsOf(neighbour.agent_id));
      return absent(open.length > 0, 'NATS permissions');
    });
    const granted = await other.claim(theirs.id);
    await play.refused('ask for a token with another install’s job', 'statement_refused', () =>
      thief.tokens.requestPullToken(granted.grant.statement),
    );
    const foreign = await other.tokens.requestPullToken(granted.grant.statement);
    await play.refused('redeem another install’s token', 'pull_token_refused', () =>
      thief.tokens.redeemPullToken(foreign.token, randomUUID()),
    );
    await play.got('say that its job failed', 'the history of this install says so', async () => {
      const { agent_id: agent } = thief.enrolment;
      const error = { code: 'agent_error', detail: 'said the thief' };
      const lie = {
        job_id: job.id,
        attempt: grant.attempt,
        session_id: thief.sessionId,
        outcome: 'failed',
        error,
        result: {},
      } as const;
      await thief.bus.publish(jobResult, { agent, job: job.id }, lie, randomUUID());
      await until('the job has failed', async () => {
        const { status, error: fault } = await rest.get<Job>(`/v1/jobs/${job.id}`);
        return status === 'failed' || fault?.detail === error.detail;
      });
    });
    // One more job, so that it holds the statement of a running attempt when it is revoked.
    const jobs = await rest.all<Job>(`/v1/jobs?deployment_id=${job.deployment_id ?? ''}`);
    const open = jobs.find(({ status }) => status === 'queued');
    if (!open) throw new Error('no job is left to take');
    const { grant: live } = await thief.claim(open.id);

    const { connection } = thief.bus;
    const cut = new Promise<void>((resolve) => {
      void (async () => {
        for await (const { type } of connection.status()) if (type === 'disconnect') resolve();
      })();
    });
    const from = performance.now();
    await play.then('the vendor revokes the agent', 'its key is dead, for good', () =>
      rest.post(`/v1/agents/${install.agent_id}/revoke`),
    );
    await play.refused('stay connected', 'cut within 2 s', async () => {
      await cut;
      const ms = performance.now() - from;
      throw new Refused(ms < CUT_MS ? 'cut within 2 s' : `cut after ${Math.round(ms)} ms`);
    });
    await connection.close();
    await play.refused('connect again', 'NATS authorisation', () => connectsOnce(ground, copy));
    await play.refused('come back over HTTPS', 'agent_revoked', () => {
      const { agent_id } = thief.enrolment;
      const renewal = { agent_id, at: new Date().toISOString(), version: '1.0.0' };
      const body = signEnvelope(PAYLOAD_TYPES.agentRenewal, renewal, thief.signer);
      return request(ground, 'POST', '/v1/agents/renew', { body });
    });
    await play.refused('ask for a token with the job that it holds, a second later', 'stale_attempt', async () => {
      // The scheduler's next sweep ends the attempt, half a second after the revocation at the latest.
      const end = performance.now() + DEAD_MS;
      while (performance.now() < end) {
        await thief.tokens.requestPullToken(live.statement);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    });
    await play.refused('enrol again under the stolen key', 'invalid_request', async () => {
      const { token } = await enrolmentToken(rest, install);
      const body = { token, public_key: thief.signer.publicKey, version: '1.0.0' };
      return request(ground, 'POST', '/v1/agents/enrol', { body });
    });
    await rest.post(`/v1/deployments/${theirs.deployment_id ?? ''}/cancel`);
  } finally {
    await thief.close();
    await other.close();
  }
}
