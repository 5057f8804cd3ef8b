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
const MUST_BE: Readonly<Record<string, readonly string[]>> = {};

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
