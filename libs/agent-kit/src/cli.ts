import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Readable, type Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { ImsError, type AgentKind, type RetryClass } from '#contracts';
import { createLogger } from '#platform';
import { type Finding } from './doctor-network.js';
import { diagnose, renderFindings, type DoctorOptions } from './doctor.js';
import { assertPrivate } from './files.js';
import { Identity } from './identity.js';
import { Journal } from './journal.js';
import { runningAgent } from './state-lock.js';

export type AgentCommand =
  | {
      readonly command: 'enrol';
      readonly server: string;
      readonly stateDir: string;
      readonly tokenFile?: string;
      readonly caFile?: string;
      readonly allowPlainHttp: boolean;
    }
  | { readonly command: 'run'; readonly stateDir: string; readonly policyFile?: string }
  | { readonly command: 'status'; readonly stateDir: string }
  | { readonly command: 'doctor'; readonly stateDir: string; readonly json: boolean };

/** Commands that one kind of agent has beside those of all. */
export interface CommandSet {
  /** First words of them. */
  readonly names: readonly string[];
  usage(program: string): string;
  /** Answers the exit code; throws UsageError. */
  run(program: AgentProgram, argv: readonly string[]): Promise<number>;
  /** Lines that they add to `status`. */
  status(stateDir: string): Promise<readonly (readonly [name: string, value: string])[]>;
}

/** Wrong usage: the message says what, the usage text follows. Exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

const COMMANDS = ['enrol', 'run', 'status', 'doctor'] as const;

export const usage = (program: string): string => `Usage:
  ${program} enrol --server URL --state DIR    exchange a one-use enrolment token for an identity
  ${program} run --state DIR                   work until SIGTERM
  ${program} status --state DIR                who this agent is, and what it holds
  ${program} doctor --state DIR [-o json]      what this agent needs, and what of it is missing

enrol reads the token from standard input, or from --token-file FILE (mode 0600); never from the arguments.
  --ca-file FILE        PEM of a private CA for the server's certificate
  --allow-plain-http    http:// to another host: the token can be read on the way
`;

/** Throws UsageError. */
export function parseAgentCommand(argv: readonly string[]): AgentCommand {
  let parsed;
  try {
    parsed = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        server: { type: 'string' },
        state: { type: 'string' },
        policy: { type: 'string' },
        'token-file': { type: 'string' },
        'ca-file': { type: 'string' },
        'allow-plain-http': { type: 'boolean' },
        output: { type: 'string', short: 'o' },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const { values, positionals } = parsed;
  const command = COMMANDS.find((name) => name === positionals[0]);
  if (command === undefined)
    throw new UsageError(
      positionals[0] === undefined ? 'a command is missing' : `there is no command ${positionals[0]}`,
    );
  if (positionals.length > 1) throw new UsageError('the token is given on standard input, not as an argument');
  if (values.state === undefined) throw new UsageError('--state DIR is missing');
  const stateDir = resolve(values.state);
  if (command === 'status') return { command, stateDir };
  if (command === 'doctor') {
    if (values.output !== undefined && values.output !== 'json') throw new UsageError('-o can only be json');
    return { command, stateDir, json: values.output === 'json' };
  }
  if (command === 'run') {
    return { command, stateDir, ...(values.policy === undefined ? {} : { policyFile: resolve(values.policy) }) };
  }
  if (values.server === undefined) throw new UsageError('--server URL is missing');
  return {
    command,
    server: values.server,
    stateDir,
    ...(values['token-file'] === undefined ? {} : { tokenFile: values['token-file'] }),
    ...(values['ca-file'] === undefined ? {} : { caFile: values['ca-file'] }),
    allowPlainHttp: values['allow-plain-http'] === true,
  };
}

export interface AgentProgram {
  /** As people call it: `install-agent`. */
  readonly program: string;
  readonly kind: AgentKind;
  readonly version: string;
  readonly argv: readonly string[];
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** Build agents: makes (or finds) the key that artifacts are signed with; answers its public half (PEM). */
  readonly signingPublicKey?: (stateDir: string) => Promise<string>;
  /** For `doctor`: the programs that it runs and what else it needs, as it is set up. */
  readonly needs?: (stateDir: string) => Promise<Pick<DoctorOptions, 'tools' | 'caFile' | 'more'>>;
  /** Works until it is told to stop. */
  readonly run: (identity: Identity, stateDir: string, policyFile?: string) => Promise<void>;
  readonly commands?: CommandSet;
}

/** The whole command line of an agent; answers the exit code: 0 ok, 1 failed, 2 usage, 3 refused, 6 not reachable. */
export async function agentMain(options: AgentProgram): Promise<number> {
  const { program, stdout, stderr } = options;
  try {
    const { argv, commands } = options;
    if (commands?.names.includes(argv[0] ?? '')) return await commands.run(options, argv);
    const command = parseAgentCommand(argv);
    if (command.command === 'enrol') {
      const identity = await enrol(options, command);
      stdout.write(`enrolled as ${identity.agentId} (${identity.enrolment.kind}); state in ${command.stateDir}\n`);
      return 0;
    }
    if (command.command === 'doctor') return await doctor(options, command);
    const identity = await Identity.load(command.stateDir);
    if (identity === undefined) throw new Error(`${command.stateDir} has no identity: run ${program} enrol first`);
    if (command.command === 'status') stdout.write(await status(identity, command.stateDir, commands));
    else await options.run(identity, command.stateDir, command.policyFile);
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      stderr.write(`${program}: ${error.message}\n\n${usage(program)}${options.commands?.usage(program) ?? ''}`);
      return 2;
    }
    const message = error instanceof ImsError ? `${error.detail} (${error.code})\n${error.entry.next}` : textOf(error);
    stderr.write(`${program}: ${message}\n`);
    createLogger(program).debug({ err: error }, 'failed');
    return error instanceof ImsError ? exitCodeOf(error) : 1;
  }
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function exitCodeOf(error: ImsError): number {
  const { status, retry }: { status: number; retry: RetryClass } = error.entry;
  if (status === 401 || status === 403) return 3;
  return retry === 'retry' || retry === 'wait' ? 6 : 1;
}

async function doctor(options: AgentProgram, command: AgentCommand & { command: 'doctor' }): Promise<number> {
  const { program, stdout } = options;
  const { stateDir } = command;
  const faults: Finding[] = [];
  const noted = (check: string, remedy: string) => (error: unknown) => {
    faults.push({ check, status: 'fail', said: textOf(error), remedy });
    return undefined;
  };
  const identity = await Identity.load(stateDir).catch(noted('identity', 'Correct that, or enrol this agent again.'));
  const needs = await Promise.resolve()
    .then(() => options.needs?.(stateDir))
    .catch(noted('settings', 'Set what is named there, as for run.'));
  const found = [...faults, ...(await diagnose({ program, stateDir, identity, tools: [], ...needs }))];
  stdout.write(command.json ? `${JSON.stringify(found, null, 2)}\n` : renderFindings(found));
  return found.some(({ status }) => status === 'fail') ? 1 : 0;
}

async function enrol(options: AgentProgram, command: AgentCommand & { command: 'enrol' }): Promise<Identity> {
  const pid = await runningAgent(command.stateDir);
  // It would write its own identity back at the next renewal.
  if (pid !== undefined) throw new Error(`an agent runs with ${command.stateDir} (pid ${pid}): stop it first`);
  const token = await readToken(options, command.tokenFile);
  const signingPublicKey = await options.signingPublicKey?.(command.stateDir);
  return Identity.enrol({
    server: command.server,
    stateDir: command.stateDir,
    token,
    version: options.version,
    kind: options.kind,
    allowPlainHttp: command.allowPlainHttp,
    ...(signingPublicKey === undefined ? {} : { signingPublicKey }),
    ...(command.caFile === undefined ? {} : { ca: await readFile(command.caFile, 'utf8') }),
  });
}

async function readToken({ stdin, stderr }: AgentProgram, file: string | undefined): Promise<string> {
  if (file !== undefined) {
    await assertPrivate(file);
    return checkToken(await readFile(file, 'utf8'));
  }
  if (stdin.isTTY === true) stderr.write('Enrolment token: ');
  let text = '';
  for await (const chunk of stdin as AsyncIterable<Buffer | string>) {
    text += chunk.toString();
    if (text.trimStart().includes('\n') || text.length > 1_000) break;
  }
  return checkToken(text);
}

function checkToken(text: string): string {
  const token = text.trim();
  if (!/^[\w.-]{20,200}$/.test(token)) throw new UsageError('no enrolment token on standard input');
  return token;
}

async function status(identity: Identity, stateDir: string, commands?: CommandSet): Promise<string> {
  const { enrolment } = identity;
  const pid = await runningAgent(stateDir);
  const lines = [
    ['agent', `${enrolment.agent_id} (${enrolment.kind})`],
    ['vendor', enrolment.vendor_id],
    ...(enrolment.install_id === undefined ? [] : [['install', enrolment.install_id]]),
    ['public key', identity.publicKey],
    ['server', identity.server],
    ['nats', enrolment.nats_urls.join(', ')],
    ['credential until', enrolment.nats_jwt_expires_at],
    ['vendor keys', String(enrolment.vendor_keys.length)],
    ['process', pid === undefined ? 'not running' : `running, pid ${pid}`],
  ];
  const attempts = await Journal.peek(join(stateDir, 'journal'));
  lines.push(['attempts held', attempts.length === 0 ? 'none' : attempts.join(', ')]);
  for (const [name, value] of (await commands?.status(stateDir)) ?? []) lines.push([name, value]);
  return lines.map(([name = '', value = '']) => `${name.padEnd(18)}${value}\n`).join('');
}

/**
 * Resolves at the first SIGTERM or SIGINT; a second one ends the process at once (its process groups with it).
 */
export function untilStopped(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (asked) process.exit(130);
      asked = true;
      resolve(signal);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
}
