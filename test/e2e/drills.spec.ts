import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openGround, type Ground } from '../../deploy/drills/ground.js';
import { DRILLS, playDrill } from '../../deploy/drills/index.js';
import { startBuildAgent } from '../../deploy/local/agents.js';
import { startPlatform } from '../../deploy/local/platform.js';
import { vendorOf } from '../../deploy/local/shop.js';
import { START_MS } from './world.js';

/** What each drill must come to, word for word: what an attacker gets is promised as much as what he does not. */
const MUST_BE: Readonly<Record<string, readonly string[]>> = {
  'ims-database-leak': [
    'got: read names, inputs, open outputs and logs -> what is not secret of every customer',
    'got: read the history -> who did what when, and which digests run where',
    'got: read public keys -> agents’ and the vendor’s: nothing to sign with',
    'refused: find the vendor’s API key -> in no table',
    'refused: find the operator’s key -> in no table',
    'refused: find an enrolment token that is not used yet -> in no table',
    'refused: find a pull token that is open -> in no table',
    'refused: find a key of a service, of NATS or of an agent, or the one that signs jobs -> in no table',
    'refused: find the key that signs the vendor’s artifacts -> in no table',
    'refused: find a credential of a registry -> in no table',
    'refused: find a secret output of the install -> in no table',
    'refused: use the hash of the API key as the key -> unauthenticated',
    'refused: the same in the form of a key, its checksum right -> unauthenticated',
    'refused: enrol an agent with the hash of an enrolment token -> enrolment_refused',
    'refused: redeem a pull token by its hash at the agents’ door -> pull_token_refused',
    'refused: the same at the door of stock clients -> HTTP 401',
    'got: stop a job whose token is open, by its id and any secret -> a delay: the vendor resumes the job',
    'refused: write a job for its own key, and ask for a token -> statement_refused',
    'refused: have the broker hand such a job to an agent -> statement_refused',
  ],
  'nats-takeover': [
    'got: read what goes by -> names, inputs, open outputs, results; logs, redacted',
    'got: read the job statements -> what each agent is told to do: text, with a signature',
    'refused: read a pull token -> in no message',
    'refused: read an enrolment token, made just now -> in no message',
    'refused: read an API key or the operator’s key -> in no message',
    'refused: read a secret output -> in no message',
    'refused: read a private key -> in no message',
    'refused: offer an agent a job that is none -> job_not_claimable',
    'refused: answer a claim before the scheduler, with a job of its own making -> statement_refused',
    'refused: put another artifact into a real job -> statement_refused',
    'refused: play back a real job that was done -> statement_refused',
    'refused: hand an agent the real job of another install -> statement_refused',
    'refused: ask for a pull token with a job that it read -> statement_refused',
    'got: say in an agent’s name that its job failed -> a wrong word in the history, until the next deployment',
    'got: send an agent a stop order -> a delay: the job ends as cancelled',
    'refused: ask for an enrolment token of any agent, as the gateway does -> forbidden',
    'refused: deploy a release of the vendor, as the gateway does -> forbidden',
    'refused: have its own source built and signed, as the gateway does -> forbidden',
    'refused: play back a call of the gateway, byte for byte -> forbidden',
  ],
  'registry-tampered': [
    'refused: alter a layer in the vendor’s registry -> digest_mismatch',
    'refused: replace a manifest there -> digest_mismatch',
    'refused: swap the signature for one by another key, which says the same -> signature_untrusted',
    'refused: have any of these applied -> its apply is skipped',
    'refused: put an artifact of its own under the release’s tag -> jobs name digests, never tags',
    'refused: alter the module in the install’s own registry, after it was checked -> digest_mismatch',
    'refused: have terraform run with it -> no step after fetch',
    'got: keep a release from being deployed -> a delay: each failed job names digest and registry',
    'then: the storage comes back from a backup, but for the signature -> all else is deployed',
  ],
  'token-stolen': [
    'got: use it at the door of stock clients before the agent does -> one component’s artifacts, to read, for a minute or two',
    'refused: read another repository with what it got -> registry_denied',
    'refused: write to the repository with what it got -> registry_denied',
    'refused: leave the agent’s own redemption as it was -> pull_token_refused',
    'refused: have the job go on -> token_tampered within 1 s',
    'refused: use it again -> HTTP 401',
    'refused: use it at the agents’ door with a key of its own -> pull_token_refused',
    'refused: get another token with the agent’s own key and job -> stale_attempt',
    'refused: keep a token of the job open -> none is left',
    'refused: do it unseen -> token.tampered in the history',
    'then: the vendor looks at it and resumes the job -> the deployment succeeds with a new token',
  ],
  'agent-key-stolen': [
    'got: read what the agent keeps on its host -> this install’s outputs, the secret ones too',
    'got: connect and say hello -> to be this agent, until it is revoked',
    'got: take a job of this install -> what the job says, inputs too; the real agent does not get it',
    'got: fetch the artifact of that job -> one component that the install has anyway',
    'refused: push to the vendor’s registry with it -> registry_denied',
    'refused: ask for a right to push -> statement_refused',
    'refused: take a job of another install -> job_not_claimable',
    'refused: hear or send on any subject of another install or of the IMS -> NATS permissions',
    'refused: ask for a token with another install’s job -> statement_refused',
    'refused: redeem another install’s token -> pull_token_refused',
    'got: say that its job failed -> the history of this install says so',
    'then: the vendor revokes the agent -> its key is dead, for good',
    'refused: stay connected -> cut within 2 s',
    'refused: connect again -> NATS authorisation',
    'refused: come back over HTTPS -> agent_revoked',
    'refused: ask for a token with the job that it holds, a second later -> stale_attempt',
    'refused: enrol again under the stolen key -> invalid_request',
  ],
};

describe('drills', () => {
  const dir = mkdtempSync(join(tmpdir(), 'vendor-cloud-e2e-'));
  const running: { stop(): Promise<void> }[] = [];
  let ground: Ground;

  beforeAll(async () => {
    // PostgreSQL runs as a user of its own, who has to reach its data.
    chmodSync(dir, 0o755);
    const platform = await startPlatform({ dir });
    running.push(platform);
    const { account } = await vendorOf(platform, 'acme');
    running.push(await startBuildAgent(platform, () => Promise.resolve(account.build_agent)));
    ground = await openGround(platform);
    running.push(ground);
  }, START_MS);
  afterAll(async () => {
    for (const each of running.reverse()) await each.stop();
    rmSync(dir, { recursive: true, force: true });
  }, START_MS);

  it('are all written down here', () => expect(Object.keys(DRILLS)).toEqual(Object.keys(MUST_BE)));

  it.each(Object.keys(MUST_BE))(
    '%s',
    async (name) => {
      const { lines } = await playDrill(name, ground);
      expect(lines.map(({ end, what, by }) => `${end}: ${what} -> ${by}`)).toEqual(MUST_BE[name]);
      expect(lines.filter(({ expected }) => !expected)).toEqual([]);
    },
    START_MS,
  );
});
