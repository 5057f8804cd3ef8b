import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { stringify } from 'yaml';
import { ImsError, type Envelope } from '#contracts';
import { createNkey, nkeyFromSeed } from '#messaging';
import { Approvals, openApproval, signApproval, type PlanQuestion } from './approvals.js';
import { UsageError, type AgentProgram, type CommandSet } from './cli.js';
import { assertPrivate, writePrivate } from './files.js';
import { Identity } from './identity.js';
import { PolicyFaults, loadPolicy, plainPolicy } from './policy-file.js';
import { POLICY_FILE, RECORD_DIRECTORY, STATUS_FILE } from './policy-gate.js';
import { exportRecord } from './record-export.js';
import { verifyRecord, type RecordHead } from './record.js';
import { runningAgent } from './state-lock.js';

const OPTIONS = {
  state: { type: 'string' },
  policy: { type: 'string' },
  note: { type: 'string' },
  until: { type: 'string' },
  signed: { type: 'string' },
  key: { type: 'string' },
  head: { type: 'string' },
  since: { type: 'string' },
  format: { type: 'string' },
  endpoint: { type: 'string' },
} as const;
type Values = Partial<Record<keyof typeof OPTIONS, string>>;

interface Call {
  readonly program: AgentProgram;
  readonly values: Values;
  /** What follows the command's own words. */
  readonly word: string | undefined;
  readonly stateDir: string;
  say(line: string): void;
}
interface Command {
  readonly takes: readonly (keyof typeof OPTIONS)[];
  readonly word: 'none' | 'optional' | 'one';
  /** Works without a state directory. */
  readonly anywhere?: boolean;
  run(call: Call): Promise<number> | number;
}

const usage = (program: string): string => `
On the customer's host, beside the running agent; each takes --state DIR:
  ${program} policy check [FILE]               every fault of a policy file, with its line
  ${program} policy show                       what is in force
  ${program} pause --note TEXT [--until TIME]  hold every job; TIME is RFC 3339, or 30m, 2h, 1d
  ${program} unpause
  ${program} pending                           plans that wait for a yes
  ${program} plan DIGEST                       what a plan would do; 6 digits of the digest and more are enough
  ${program} approve DIGEST | --signed FILE    a yes to this plan of this job
  ${program} reject DIGEST [--note TEXT]
  ${program} audit verify [--head SEQ:HASH]    check the record; with a head that was kept, that nothing up to it is gone
  ${program} audit export [--since TIME] [--format ndjson|otlp] [--endpoint URL]
On an approver's own machine:
  ${program} approver-key FILE                 make a key (0600); its public half goes into the policy
  ${program} sign-approval --key FILE DIGEST   a signed yes, for approve --signed
run and these take --policy FILE, when the policy is not DIR/${POLICY_FILE}.
`;

const COMMANDS: Readonly<Record<string, Command>> = {
  'policy check': { takes: ['state', 'policy'], word: 'optional', anywhere: true, run: check },
  'policy show': { takes: ['state', 'policy'], word: 'none', run: show },
  pause: { takes: ['state', 'note', 'until'], word: 'none', run: pause },
  unpause: { takes: ['state', 'policy'], word: 'none', run: unpause },
  pending: { takes: ['state'], word: 'none', run: pending },
  plan: { takes: ['state'], word: 'one', run: plan },
  approve: { takes: ['state', 'policy', 'signed', 'note'], word: 'optional', run: approve },
  reject: { takes: ['state', 'note'], word: 'one', run: reject },
  'audit verify': { takes: ['state', 'head'], word: 'none', run: verify },
  'audit export': { takes: ['state', 'since', 'format', 'endpoint'], word: 'none', run: audit },
  'approver-key': { takes: [], word: 'one', anywhere: true, run: approverKey },
  'sign-approval': { takes: ['key'], word: 'one', anywhere: true, run: sign },
};
const NAMES = [...new Set(Object.keys(COMMANDS).map((name) => name.split(' ')[0] ?? ''))];

/** The commands of the customer's operator. They speak with the agent by files in its state directory alone. */
export const customerCommands: CommandSet = {
  names: NAMES,
  usage,
  run: async (program, argv) => {
    const [first = '', second = ''] = argv;
    const name = COMMANDS[first] ? first : `${first} ${second}`;
    const command = COMMANDS[name];
    if (command === undefined) throw new UsageError(`there is no command ${name.trim()}`);
    let parsed;
    try {
      const options = Object.fromEntries(command.takes.map((option) => [option, OPTIONS[option]]));
      parsed = parseArgs({ args: argv.slice(name.split(' ').length), allowPositionals: true, options });
    } catch (error) {
      throw new UsageError((error as Error).message);
    }
    const values = parsed.values as Values;
    const { positionals } = parsed;
    if (positionals.length > (command.word === 'none' ? 0 : 1))
      throw new UsageError(`too much: ${positionals.join(' ')}`);
    if (command.word === 'one' && positionals.length === 0) throw new UsageError(`${name} of what?`);
    if (values.state === undefined && command.anywhere !== true) throw new UsageError('--state DIR is missing');
    const stateDir = resolve(values.state ?? '.');
    if (values.state !== undefined && !existsSync(stateDir)) throw new Error(`there is no ${stateDir}`);
    const say = (line: string): void => void program.stdout.write(`${line}\n`);
    return command.run({ program, values, word: positionals[0], stateDir, say });
  },
  status: async (stateDir) => {
    const status = await readStatus(stateDir);
    if (status === undefined) return [];
    const { file, pending: waiting, pause: held } = status;
    const state = file.state === 'defaults' ? 'none: everything is allowed' : file.state;
    return [
      ['policy', file.faults ? `${state}; the file is not valid: ${file.faults.join('; ')}` : state],
      ...(held ? [['paused', `${held.note}${held.until === undefined ? '' : ` (until ${held.until})`}`] as const] : []),
      ['wait for a yes', String(waiting.length)],
    ];
  },
};

/** What the running agent wrote down when it last reported. */
interface Status {
  readonly policy_file: string;
  readonly approvers?: string[];
  readonly pause?: { readonly note: string; readonly until?: string };
  readonly file: { readonly state: string; readonly digest?: string; readonly faults?: readonly string[] };
  readonly pending: readonly unknown[];
}
async function readStatus(stateDir: string): Promise<Status | undefined> {
  const text = await readFile(join(stateDir, STATUS_FILE), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as Status);
}

async function check({ values, word, stateDir, program, say }: Call): Promise<number> {
  const file = word ?? values.policy ?? (values.state === undefined ? undefined : join(stateDir, POLICY_FILE));
  if (file === undefined) throw new UsageError('policy check needs a FILE, or --state DIR');
  try {
    await loadPolicy(file, true, await ownerOf(values.state === undefined ? undefined : stateDir));
  } catch (error) {
    if (!(error instanceof PolicyFaults)) throw error;
    for (const fault of error.faults) program.stderr.write(`${file}:${fault}\n`);
    return 1;
  }
  say(`${file} is valid`);
  return 0;
}

async function show({ values, stateDir, say }: Call): Promise<number> {
  const pid = await runningAgent(stateDir);
  const status = pid === undefined ? undefined : await readStatus(stateDir);
  if (status !== undefined) {
    const { policy_file: path, file, pending: waiting, ...policy } = status;
    const { record: _, ...shown } = policy as Record<string, unknown>;
    say(
      `# ${path}: ${file.state}, in force at the agent with pid ${pid ?? ''}; ${waiting.length} plans wait for a yes`,
    );
    for (const fault of file.faults ?? []) say(`# not valid, not in force: ${fault}`);
    say(stringify(shown).trimEnd());
    return 0;
  }
  const path = values.policy ?? join(stateDir, POLICY_FILE);
  const loaded = await loadPolicy(path, values.policy !== undefined, await ownerOf(stateDir));
  const paused = await new Approvals(stateDir).paused();
  say(`# ${path}: ${loaded.state}; no agent runs`);
  if (paused) say(`# paused by ${paused.by}: ${paused.note}`);
  say(stringify(plainPolicy(loaded.policy)).trimEnd());
  return 0;
}

async function pause({ values, stateDir, say }: Call): Promise<number> {
  const { note, until } = values;
  if (note === undefined || note === '') throw new UsageError('pause needs --note TEXT: the vendor sees it');
  if (note.length > 300) throw new UsageError('the note is longer than 300 characters');
  const end = until === undefined ? {} : { until: timeOf(until).toISOString() };
  await new Approvals(stateDir).pause({ note, ...end, by: userInfo().username, at: new Date().toISOString() });
  say(`paused${end.until === undefined ? '' : ` until ${end.until}`}: ${note}`);
  await sayWhoNotices(stateDir, say);
  return 0;
}

async function unpause({ values, stateDir, say }: Call): Promise<number> {
  const was = await new Approvals(stateDir).unpause();
  say(was ? 'the pause is taken back' : 'no pause was made by command');
  const { policy } = await loadPolicy(values.policy ?? join(stateDir, POLICY_FILE), false, await ownerOf(stateDir));
  if (policy.pause) say(`the policy file has a pause of its own: ${policy.pause.note}`);
  await sayWhoNotices(stateDir, say);
  return 0;
}

async function pending({ stateDir, say }: Call): Promise<number> {
  const all = await new Approvals(stateDir).pending();
  if (all.length === 0) say('no plan waits for a yes');
  for (const { digest, what, created, updated, deleted, job_id: job, asked_at: asked, answer } of all) {
    say(`${digest.slice(7, 19)}  ${what}: ${created} to create, ${updated} to change, ${deleted} to delete`);
    say(`              ${job}, asked at ${asked}${answer === undefined ? '' : `, ${answer}`}`);
  }
  return 0;
}

async function plan({ word = '', stateDir, program }: Call): Promise<number> {
  program.stdout.write(await new Approvals(stateDir).planText(word));
  return 0;
}

async function approve(call: Call): Promise<number> {
  const { values, word, stateDir, say } = call;
  if ((values.signed === undefined) === (word === undefined))
    throw new UsageError('approve takes a DIGEST, or --signed FILE');
  const approvals = new Approvals(stateDir);
  const approvers = await approversOf(call);
  const note = values.note === undefined ? {} : { note: values.note };
  let question: PlanQuestion;
  if (values.signed === undefined) {
    if (approvers.length > 0) {
      throw new ImsError(
        'policy_refused',
        'the policy names approvers: a yes has to be signed (sign-approval, approve --signed)',
      );
    }
    question = await approvals.find(word ?? '');
    await approvals.decide(question, { decision: 'approved', by: userInfo().username, ...note }, new Date());
  } else {
    const envelope = JSON.parse(await readFile(values.signed, 'utf8')) as Envelope;
    question = await approvals.find(openApproval(envelope, approvers).plan_digest);
    await approvals.decide(question, { decision: 'approved', by: envelope.key_id, envelope, ...note }, new Date());
  }
  say(`approved: ${question.what}, plan ${question.digest}`);
  await sayWhoNotices(stateDir, say);
  return 0;
}

async function reject({ values, word = '', stateDir, say }: Call): Promise<number> {
  const approvals = new Approvals(stateDir);
  const question = await approvals.find(word);
  const note = values.note === undefined ? {} : { note: values.note };
  await approvals.decide(question, { decision: 'rejected', by: userInfo().username, ...note }, new Date());
  say(`rejected: ${question.what}, plan ${question.digest}`);
  await sayWhoNotices(stateDir, say);
  return 0;
}

async function verify({ values, stateDir, program, say }: Call): Promise<number> {
  const found = await verifyRecord(join(stateDir, RECORD_DIRECTORY), headOf(values.head));
  if (found.fault !== undefined) {
    const { file, line, reason } = found.fault;
    program.stderr.write(`${file}:${line}: ${reason}\n`);
    return 1;
  }
  say(`${found.head.seq} entries, unbroken; head ${found.head.seq}:${found.head.hash}`);
  return 0;
}

async function audit({ values, stateDir, program }: Call): Promise<number> {
  const { since, endpoint } = values;
  const format = values.format ?? (endpoint === undefined ? 'ndjson' : 'otlp');
  if (format !== 'ndjson' && format !== 'otlp') throw new UsageError(`there is no format ${format}`);
  if (endpoint !== undefined && (format !== 'otlp' || !URL.canParse(endpoint))) {
    throw new UsageError('--endpoint takes a URL, and the format otlp');
  }
  const identity = await Identity.load(stateDir);
  const count = await exportRecord({
    directory: join(stateDir, RECORD_DIRECTORY),
    format,
    out: program.stdout,
    ...(since === undefined ? {} : { since: timeOf(since, -1) }),
    ...(endpoint === undefined ? {} : { endpoint: new URL(endpoint) }),
    resource: {
      'service.name': program.program,
      ...(identity === undefined ? {} : { 'service.instance.id': identity.agentId }),
      ...(identity?.enrolment.install_id === undefined
        ? {}
        : { 'vendor_cloud.install': identity.enrolment.install_id }),
    },
  });
  program.stderr.write(`${count} entries exported\n`);
  return 0;
}

async function approverKey({ word = '', say }: Call): Promise<number> {
  if (existsSync(word)) throw new Error(`${word} is there already`);
  const { seed, publicKey } = createNkey('user');
  await writePrivate(resolve(word), `${seed}\n`);
  say(publicKey);
  return 0;
}

async function sign({ values, word = '', say }: Call): Promise<number> {
  if (values.key === undefined) throw new UsageError('sign-approval needs --key FILE');
  if (!/^sha256:[0-9a-f]{64}$/.test(word)) throw new UsageError('sign-approval needs the whole digest: sha256:…');
  await assertPrivate(values.key);
  const signer = nkeyFromSeed((await readFile(values.key, 'utf8')).trim());
  say(JSON.stringify(signApproval(word, signer, new Date())));
  return 0;
}

/** Those of the policy in force; of the file when no agent runs. */
async function approversOf({ values, stateDir }: Call): Promise<string[]> {
  const status = (await runningAgent(stateDir)) === undefined ? undefined : await readStatus(stateDir);
  if (status !== undefined) return status.approvers ?? [];
  const path = values.policy ?? join(stateDir, POLICY_FILE);
  return (await loadPolicy(path, values.policy !== undefined, await ownerOf(stateDir))).policy.approvers ?? [];
}

async function ownerOf(stateDir: string | undefined): Promise<number | undefined> {
  return stateDir === undefined ? process.geteuid?.() : (await stat(stateDir)).uid;
}

async function sayWhoNotices(stateDir: string, say: (line: string) => void): Promise<void> {
  const pid = await runningAgent(stateDir);
  say(
    pid === undefined ? 'no agent runs: the next start takes it up' : `the agent with pid ${pid} takes it up by itself`,
  );
}

/** RFC 3339, or a span from now: `2h` ahead (or, with sign -1, ago). */
function timeOf(text: string, sign = 1): Date {
  const span = /^(\d{1,5})([mhd])$/.exec(text);
  const unit = { m: 60_000, h: 3_600_000, d: 86_400_000 }[span?.[2] ?? ''];
  if (span !== null && unit !== undefined) return new Date(Date.now() + sign * Number(span[1]) * unit);
  const time = new Date(text);
  // A time without its zone would be taken for that of whoever runs the command.
  if (!/(Z|[+-]\d\d:\d\d)$/.test(text) || Number.isNaN(time.getTime())) {
    throw new UsageError(`${text} is neither a time as 2026-06-01T20:00:00Z nor a span as 2h`);
  }
  return time;
}

function headOf(text: string | undefined): RecordHead | undefined {
  if (text === undefined) return undefined;
  const parts = /^(\d+):([0-9a-f]{64})$/.exec(text);
  if (parts === null) throw new UsageError('--head is SEQ:HASH, as audit verify prints it');
  return { seq: Number(parts[1]), hash: parts[2] ?? '' };
}
