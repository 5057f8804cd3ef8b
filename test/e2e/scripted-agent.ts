import { join } from 'node:path';
import { type Enrolment, type Install } from '#contracts';
import { createNkey } from '#messaging';
import { impostor, impostorOf, type Impostor } from '../../deploy/drills/attacker.js';
import { enrolmentToken } from '../../deploy/local/shop.js';
import { type PlatformAccess } from '../../deploy/local/platform.js';
import { type RestClient } from '../../deploy/local/rest.js';

/** An agent that does only what a test tells it to: its identity is real, its intentions need not be. */
export type ScriptedAgent = Impostor;

/** Enrols the agent of an install as a program of somebody else's could: with a key made here, over plain REST. */
export async function enrolScripted(
  world: { readonly rest: RestClient; readonly platform: PlatformAccess },
  install: Install,
): Promise<ScriptedAgent> {
  const { seed, publicKey } = createNkey('user');
  const { token } = await enrolmentToken(world.rest, install);
  const enrolment = await world.rest.post<Enrolment>('/v1/agents/enrol', {
    token,
    public_key: publicKey,
    version: '1.0.0',
  });
  return impostor(seed, enrolment, world.platform.caFile);
}

/** Acts with the key and the JWT of an agent that was enrolled before: what a thief of its state directory has. */
export const stolenAgent = (state: string): Promise<ScriptedAgent> => impostorOf(state, join(state, 'ca.pem'));
