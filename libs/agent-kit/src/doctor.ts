import { execFile } from 'node:child_process';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pc from 'picocolors';
import { proxyName, proxyOfProcess, type ProxySettings } from '#platform';
import { answers, clock, natsAccess, wayTo, type Finding } from './doctor-network.js';
import { type Identity } from './identity.js';

/** A program that the agent runs. */
export interface DoctorTool {
  readonly name: string;
  readonly bin: string;
  readonly args: readonly string[];
}

export interface DoctorOptions {
  readonly identity: Identity | undefined;
  readonly stateDir: string;
  /** As people call it: `install-agent`. */
  readonly program: string;
  readonly tools: readonly DoctorTool[];
  /** Default: the one that was given at enrolment. */
  readonly caFile?: string | undefined;
  /** What only this kind of agent has, its own registry say. */
  readonly more?: () => Promise<readonly Finding[]>;
  readonly proxy?: ProxySettings;
}

const TOOL_MS = 10_000;
const run = promisify(execFile);
const trimmed = (url: string): string => url.replace(/\/+$/, '');

/**
 * Looks at everything that an agent needs, and changes nothing: its files, its tools, the way to each server, what the
 * servers let it do. Independent of a running agent; takes as long as the slowest server, at most about 20 s.
 */
export async function diagnose(options: DoctorOptions): Promise<Finding[]> {
  const { identity, stateDir, tools } = options;
  const proxy = options.proxy ?? proxyOfProcess();
  const network = { proxy, caFile: options.caFile ?? identity?.caFile };
  const files = await privateFiles(stateDir);
  const programs = (await Promise.all(tools.map(toolFinding))).flat();
  const said = proxy.proxy
    ? `${proxyName(proxy.proxy)}, but for ${proxy.direct.join(', ') || 'nothing'}`
    : 'none is set';
  const head: Finding[] = [...files, ...programs, { check: 'proxy', status: 'ok', said }];
  if (identity === undefined) {
    const remedy = `Run ${options.program} enrol --server URL --state ${stateDir} with a token of your vendor.`;
    return [...head, { check: 'identity', status: 'fail', said: `${stateDir} has none`, remedy }];
  }
  const { enrolment } = identity;
  const server = trimmed(identity.server);
  const tokens = trimmed(enrolment.registry_token_url);
  const registry = trimmed(enrolment.vendor_registry.url);
  const groups = await Promise.all([
    Promise.resolve([credential(identity)]),
    wayTo('gateway', server, network),
    answers('gateway', `${server}/livez`, [200], network),
    clock(server, network),
    wayTo('registry-token', tokens, network),
    answers('registry-token', `${tokens}/livez`, [200], network),
    // Without a token it asks for one: that is its way to say who it is.
    wayTo('vendor registry', registry, network),
    answers('vendor registry', `${registry}/v2/`, [200, 401], network),
    ...enrolment.nats_urls.map((url) => wayTo(`NATS ${new URL(url).protocol}//`, url, network)),
    natsAccess(identity, network),
    options.more?.() ?? Promise.resolve([]),
  ]);
  return [...head, ...oneNatsIsEnough(groups.flat())];
}

/** Addresses of NATS that do not answer are a warning while the agent gets in by another. */
function oneNatsIsEnough(found: readonly Finding[]): Finding[] {
  const isIn = found.some(({ check, status }) => check === 'NATS: login' && status === 'ok');
  return found.map((each) =>
    isIn && each.status === 'fail' && /^NATS \w+:\/\//.test(each.check) ? { ...each, status: 'warn' } : each,
  );
}

function credential({ enrolment, agentId }: Identity): Finding {
  const until = enrolment.nats_jwt_expires_at;
  if (Date.parse(until) > Date.now())
    return { check: 'identity', status: 'ok', said: `${agentId}, credential until ${until}` };
  const remedy = 'Nothing, where the agent is not running: `run` asks for another by itself.';
  return { check: 'identity', status: 'warn', said: `${agentId}, its credential ended at ${until}`, remedy };
}

async function privateFiles(stateDir: string): Promise<Finding[]> {
  const open: string[] = [];
  try {
    const names = (await readdir(stateDir)).filter((name) => /\.(seed|json|pem|key)$/.test(name));
    for (const file of [stateDir, ...names.map((name) => join(stateDir, name))]) {
      const { mode } = await lstat(file);
      if ((mode & 0o077) !== 0) open.push(file);
    }
  } catch (error) {
    const said = `${stateDir} cannot be read: ${(error as Error).message}`;
    return [
      { check: 'state', status: 'fail', said, remedy: 'Name the directory that was given to enrol, as its owner.' },
    ];
  }
  if (open.length === 0) return [{ check: 'state', status: 'ok', said: `${stateDir} is its owner’s alone` }];
  const said = `others can read ${open.join(', ')}`;
  return [{ check: 'state', status: 'fail', said, remedy: `chmod go-rwx ${open.join(' ')}` }];
}

async function toolFinding({ name, bin, args }: DoctorTool): Promise<Finding[]> {
  try {
    const { stdout, stderr } = await run(bin, [...args], { timeout: TOOL_MS });
    const line = `${stdout}\n${stderr}`.split('\n').find((text) => text.trim() !== '') ?? 'it runs';
    return [{ check: name, status: 'ok', said: line.trim().slice(0, 80) }];
  } catch (error) {
    const said = `${bin}: ${(error as Error).message.split('\n')[0] ?? 'it does not run'}`;
    return [
      { check: name, status: 'fail', said, remedy: `Install ${name}, or set ${name.toUpperCase()}_BIN to its path.` },
    ];
  }
}

const MARK = { ok: pc.green('ok  '), warn: pc.yellow('warn'), fail: pc.red('FAIL') } as const;

/** For a person: one line each, and below each fault what to do about it. */
export function renderFindings(found: readonly Finding[]): string {
  const width = Math.max(...found.map(({ check }) => check.length)) + 2;
  const lines = found.flatMap(({ check, status, said, remedy }) => [
    `${MARK[status]}  ${check.padEnd(width)}${said}`,
    ...(remedy === undefined ? [] : [`${' '.repeat(6 + width)}${pc.dim('→')} ${remedy}`]),
  ]);
  const count = (status: Finding['status']): number => found.filter((each) => each.status === status).length;
  return [...lines, '', `${count('ok')} ok, ${count('warn')} to look at, ${count('fail')} failed`, ''].join('\n');
}
