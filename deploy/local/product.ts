import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { type NewApp, type NewComponent } from '#contracts';

/** A product as `vendor-cloud.yaml` describes it. */
export interface Product {
  readonly app: NewApp;
  readonly components: readonly NewComponent[];
}

/** Reads `vendor-cloud.yaml`; `${NAME}` is filled from `variables`, and an unknown one is an error. */
export function readProduct(file: string, variables: Readonly<Record<string, string>>): Product {
  const text = readFileSync(file, 'utf8').replace(/\$\{(\w+)\}/g, (_, name: string) => {
    const value = variables[name];
    if (value === undefined) throw new Error(`${file}: \${${name}} has no value`);
    return value;
  });
  const { app, inputs, components } = parse(text) as {
    app: string;
    inputs?: NewApp['inputs'];
    components: NewComponent[];
  };
  return { app: { name: app, ...(inputs ? { inputs } : {}) }, components };
}

/**
 * The vendor's git repository: a copy of the example, committed. Author and date are fixed, so the same files give
 * the same commit on every machine; later changes in the folder become further commits.
 */
export function gitRepositoryOf(source: string, repository: string): { url: string; commit: string } {
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', repository, ...args], {
      encoding: 'utf8',
      env: {
        PATH: process.env.PATH ?? '',
        HOME: repository,
        GIT_CONFIG_NOSYSTEM: '1',
        ...Object.fromEntries(
          ['AUTHOR', 'COMMITTER'].flatMap((who) => [
            [`GIT_${who}_NAME`, 'Shop'],
            [`GIT_${who}_EMAIL`, 'shop@example.com'],
            [`GIT_${who}_DATE`, '2026-01-01T00:00:00Z'],
          ]),
        ),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    }).trim();
  if (!existsSync(join(repository, '.git'))) {
    mkdirSync(repository, { recursive: true });
    git('init', '--quiet', '--initial-branch', 'main');
  }
  for (const name of git('ls-files', '-z').split('\0').filter(Boolean)) rmSync(join(repository, name), { force: true });
  cpSync(source, repository, { recursive: true });
  git('add', '--all');
  if (git('status', '--porcelain') !== '') git('commit', '--quiet', '--message', 'The shop');
  return { url: repository, commit: git('rev-parse', 'HEAD') };
}
