import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ConfigError,
  EnvFlag,
  EnvInt,
  EnvList,
  EnvOneOf,
  EnvSecret,
  EnvText,
  EnvUrl,
  EnvUrls,
  loadConfig,
} from './config.js';
import { redactText } from './redaction.js';

class Sample {
  @EnvUrl({ protocols: ['postgres', 'postgresql'] }) DATABASE_URL: string;
  @EnvUrls({ protocols: ['nats', 'tls'] }) NATS_URLS: string[];
  @EnvSecret({ min: 10 }) NATS_SEED: string;
  @EnvText({ default: '127.0.0.1' }) HTTP_HOST: string;
  @EnvInt({ min: 0, max: 65_535, default: 3000 }) HTTP_PORT: number;
  @EnvFlag({ default: false }) VERBOSE: boolean;
  @EnvOneOf(['dev', 'prod'], { default: 'prod' }) MODE: string;
  @EnvList({ default: [] }) EXTRA: string[];
  @EnvText({ optional: true }) NOTE?: string;
}
const good = {
  DATABASE_URL: 'postgres://ims:hunter2hunter2@db/ims',
  NATS_URLS: 'nats://a:4222, tls://b:4222',
  NATS_SEED: 'a-seed-of-some-length',
};

function faultsOf(env: Record<string, string>): readonly string[] {
  try {
    loadConfig(Sample, env);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
}

describe('loadConfig', () => {
  it('reads, converts and fills in defaults', () => {
    const config = loadConfig(Sample, { ...good, HTTP_PORT: '0', VERBOSE: 'yes', EXTRA: 'a, b,' });
    expect(Object.fromEntries(Object.entries(config))).toEqual({
      ...good,
      NATS_URLS: ['nats://a:4222', 'tls://b:4222'],
      HTTP_HOST: '127.0.0.1',
      HTTP_PORT: 0,
      VERBOSE: true,
      MODE: 'prod',
      EXTRA: ['a', 'b'],
    });
  });

  it('names every fault at once', () => {
    const faults = faultsOf({
      DATABASE_URL: 'mysql://root:topsecretpw@db/x',
      NATS_SEED: 'short',
      HTTP_PORT: '70000',
      VERBOSE: 'maybe',
      MODE: 'test',
    });
    expect(faults).toHaveLength(6);
    expect(faults.join('\n')).toMatch(/DATABASE_URL must be a URL that starts with postgres:\/\/ or postgresql:\/\//);
    expect(faults.join('\n')).toMatch(/NATS_URLS is not set/);
    expect(faults.join('\n')).toMatch(/NATS_SEED must be longer than or equal to 10/);
    expect(faults.join('\n')).toMatch(/HTTP_PORT must not be greater than 65535 \(it is "70000"\)/);
    expect(faults.join('\n')).toMatch(/VERBOSE must be a boolean value \(it is "maybe"\)/);
    expect(faults.join('\n')).toMatch(/MODE must be one of dev, prod/);
  });

  it('shows no secret in a fault', () => {
    const text = faultsOf({ DATABASE_URL: 'mysql://root:topsecretpw@db/x', NATS_SEED: 'short' }).join('\n');
    expect(text).not.toContain('topsecretpw');
    expect(text).not.toContain('short');
  });

  it('refuses half a number, a blank port and a URL list with one bad entry', () => {
    expect(faultsOf({ ...good, HTTP_PORT: '80x' })).toHaveLength(1);
    expect(faultsOf({ ...good, NATS_URLS: 'nats://a:4222,http://b' })).toHaveLength(1);
    expect(loadConfig(Sample, { ...good, HTTP_PORT: '' }).HTTP_PORT).toBe(3000);
  });

  describe('with files', () => {
    const dir = mkdtempSync(join(tmpdir(), 'config-'));
    afterAll(() => {
      rmSync(dir, { recursive: true });
    });

    it('reads NAME_FILE into NAME without its last line break', () => {
      writeFileSync(join(dir, 'seed'), 'seed-from-a-mounted-file\n');
      const config = loadConfig(Sample, { ...good, NATS_SEED: '', NATS_SEED_FILE: join(dir, 'seed') });
      expect(config.NATS_SEED).toBe('seed-from-a-mounted-file');
    });

    it('says so when the file is missing, or both are given', () => {
      expect(faultsOf({ ...good, NATS_SEED: '', NATS_SEED_FILE: join(dir, 'none') })).toEqual([
        `NATS_SEED_FILE: cannot read ${join(dir, 'none')} (ENOENT)`,
      ]);
      expect(faultsOf({ ...good, NATS_SEED_FILE: join(dir, 'seed') })).toEqual([
        'NATS_SEED and NATS_SEED_FILE are both set: give one of them',
      ]);
    });
  });

  it('makes its secrets known to the log', () => {
    loadConfig(Sample, { ...good, NATS_SEED: 'planted-seed-value', DATABASE_URL: 'postgres://u:planted%2Fpw@db/x' });
    expect(redactText('x planted-seed-value y planted/pw z planted%2Fpw')).toBe(
      'x [redacted] y [redacted] z [redacted]',
    );
  });
});
