import { randomUUID } from 'node:crypto';
import { jobResult, type Deployment, type Event, type Job, type JobResult, type PullToken } from '#contracts';
import { createNkey, nkeyFromSeed } from '#messaging';
import { pushArtifact } from '#oci';
import { RestProblem } from '../local/rest.js';
import { impostorOf, registryWith, stockDoor, tokensOf } from './attacker.js';
import { syncJob, type Ground } from './ground.js';
import { absent, Refused, until, type Play } from './play.js';

/** A job is held so soon after its token was presented by somebody who should not have it. */
const HOLD_MS = 1_000;

export async function tokenStolen(ground: Ground, play: Play): Promise<void> {
  const { rest } = ground;
  const { app, release } = await ground.vault();
  const { install, customer } = await ground.site(app, 'token');
  // The token is in the agent's memory alone. So the drill does with the agent's key what the agent does, up to there.
  await customer.agent.stop();
  const agent = await impostorOf(customer.state, ground.platform.caFile);
  const parts = { agent: agent.enrolment.agent_id };
  try {
    await agent.hello();
    const job = await syncJob(ground, install, release, 'page');
    const { grant, statement } = await agent.claim(job.id);
    const { token } = await agent.tokens.requestPullToken(grant.statement);
    const digest = statement.artifact?.digest ?? '';
    const other = release.components.find(({ name }) => name === 'vault')?.artifact;
    if (!other) throw new Error('the release has no vault');
    const read = (access: string, repository: string, wanted: string) =>
      registryWith(ground, access).getManifest(repository, wanted);

    let access = '';
    await play.got(
      'use it at the door of stock clients before the agent does',
      'one component’s artifacts, to read, for a minute or two',
      async () => {
        access = await stockDoor(ground, token, statement.repository);
        await read(access, statement.repository, digest);
      },
    );
    await play.refused('read another repository with what it got', 'registry_denied', () =>
      read(access, other.repository, other.digest),
    );
    await play.refused('write to the repository with what it got', 'registry_denied', () =>
      pushArtifact({
        client: registryWith(ground, access),
        repository: statement.repository,
        artifactType: 'application/vnd.drill',
        layers: [{ mediaType: 'text/plain', bytes: Buffer.from('evil') }],
      }),
    );
    await play.refused('leave the agent’s own redemption as it was', 'pull_token_refused', () =>
      agent.tokens.redeemPullToken(token, randomUUID()),
    );
    const from = performance.now();
    await play.refused('have the job go on', 'token_tampered within 1 s', async () => {
      const held = await until('the job is held', async () => (await rest.get<Job>(`/v1/jobs/${job.id}`)).hold, 30_000);
      const ms = performance.now() - from;
      throw new Refused(ms < HOLD_MS ? `${held.code} within 1 s` : `${held.code} after ${Math.round(ms)} ms`);
    });
    await play.refused('use it again', 'HTTP 401', () => stockDoor(ground, token, statement.repository));
    await play.refused('use it at the agents’ door with a key of its own', 'pull_token_refused', () =>
      tokensOf(agent, nkeyFromSeed(createNkey('user').seed)).redeemPullToken(token, randomUUID()),
    );
    await play.refused('get another token with the agent’s own key and job', 'stale_attempt', () =>
      agent.tokens.requestPullToken(grant.statement),
    );
    await play.refused('keep a token of the job open', 'none is left', async () => {
      const tokens = await rest.all<PullToken>(`/v1/installs/${install.id}/pull-tokens`);
      return absent(
        tokens.some(({ job_id, status }) => job_id === job.id && status === 'issued'),
        'none is left',
      );
    });
    await play.refused('do it unseen', 'token.tampered in the history', async () => {
      const rule = 'token.tampered in the history';
      await until(rule, async () =>
        (await rest.all<Event>(`/v1/installs/${install.id}/events`)).some(({ type }) => type === 'token.tampered'),
      );
      throw new Refused(rule);
    });

    // What runs was told to stop, and says that it has.
    const stopped: JobResult = {
      job_id: job.id,
      attempt: grant.attempt,
      session_id: agent.sessionId,
      outcome: 'cancelled',
      result: {},
    };
    await agent.bus.publish(jobResult, { ...parts, job: job.id }, stopped, randomUUID());
    await agent.close();
    await customer.agent.start();
    await play.then(
      'the vendor looks at it and resumes the job',
      'the deployment succeeds with a new token',
      async () => {
        // `conflict` until what ran has said that it is over.
        await until('the job is resumed', () =>
          rest.post(`/v1/jobs/${job.id}/resume`, { reason: 'a drill' }).catch((error: unknown) => {
            if (error instanceof RestProblem && error.code === 'conflict') return undefined;
            throw error;
          }),
        );
        const ended = await until('the deployment has ended', async () => {
          const now = await rest.get<Deployment>(`/v1/deployments/${job.deployment_id ?? ''}`);
          return now.finished_at !== undefined && now;
        });
        if (ended.status !== 'succeeded') throw new Refused(ended.status);
      },
    );
  } finally {
    await agent.close();
  }
}
