import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  agentHello,
  claimJob,
  inboxPrefix,
  type Enrolment,
  type Grant,
  type Install,
  type JobId,
  type Signer,
} from '#contracts';
import { RegistryTokens } from '#agent-kit';
import { Bus, connectNats, createNkey, nkeyFromSeed } from '#messaging';
import { enrolmentToken } from '../../deploy/local/shop.js';
import { ask, type World } from './world.js';

/** An agent that does only what a test tells it to: its identity is real, its intentions need not be. */
export interface ScriptedAgent {
  readonly enrolment: Enrolment;
  readonly signer: Signer;
  readonly bus: Bus;
  readonly tokens: RegistryTokens;
  hello(): Promise<void>;
  claim(job: JobId): Promise<Grant>;
  close(): Promise<void>;
}

/** Enrols the agent of an install as a program of somebody else's could: with a key made here, over plain REST. */
export async function enrolScripted(world: World, install: Install): Promise<ScriptedAgent> {
  const { seed, publicKey } = createNkey('user');
  const { token } = await enrolmentToken(world.rest, install);
  const { status, body } = await ask({ baseUrl: world.platform.gatewayUrl }, 'POST', '/v1/agents/enrol', {
    token,
    public_key: publicKey,
    version: '1.0.0',
  });
  if (status !== 201) throw new Error(`enrolment answered ${status}`);
  return connect(seed, body as unknown as Enrolment, world.platform.caFile);
}

/** Acts with the key and the JWT of an agent that was enrolled before: what a thief of its state directory has. */
export function stolenAgent(state: string): Promise<ScriptedAgent> {
  const { enrolment } = JSON.parse(readFileSync(join(state, 'identity.json'), 'utf8')) as { enrolment: Enrolment };
  return connect(readFileSync(join(state, 'key.seed'), 'utf8').trim(), enrolment, join(state, 'ca.pem'));
}

async function connect(seed: string, enrolment: Enrolment, caFile: string): Promise<ScriptedAgent> {
  const signer = nkeyFromSeed(seed);
  const agent = enrolment.agent_id;
  const session_id = randomUUID();
  const connection = await connectNats({
    servers: enrolment.nats_urls,
    name: agent,
    inboxPrefix: inboxPrefix(agent),
    credentials: { jwt: enrolment.nats_jwt, seed },
    caFile,
  });
  const bus = new Bus(connection);
  const identity = {
    enrolment,
    publicKey: signer.publicKey,
    sign: (bytes: Uint8Array) => signer.sign(bytes),
    allowPlainHttp: false,
  };
  return {
    enrolment,
    signer,
    bus,
    tokens: new RegistryTokens(identity),
    hello: async () => {
      await bus.call(agentHello, { session_id, version: '1.0.0' }, { agent });
    },
    claim: (job_id) => bus.call(claimJob, { job_id, session_id }, { agent }),
    close: () => connection.close(),
  };
}
