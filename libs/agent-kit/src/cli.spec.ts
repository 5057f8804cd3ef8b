import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { startHttp, type FakeHttp } from '../test/http-server.js';
import { TOKEN, enrolmentOf } from '../test/samples.js';
import { agentMain, parseAgentCommand, type AgentProgram } from './cli.js';

let stateDir: string;
let http: FakeHttp;
let refuse = false;
beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'agent-cli-'));
  refuse = false;
  http = await startHttp({
    '/v1/agents/enrol': () =>
      refuse
        ? { status: 401, body: { code: 'enrolment_refused', detail: 'used before' } }
        : { body: enrolmentOf('install', { agent_id: 'agt_01h455vb4pex5vsknk084sn02q' }) },
  });
});
afterEach(async () => {
  await http.stop();
  await rm(stateDir, { recursive: true, force: true });
});

async function main(
  argv: string[],
  input = '',
  more: Partial<AgentProgram> = {},
): Promise<{ code: number; out: string; err: string }> {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const code = await agentMain({
    program: 'install-agent',
    kind: 'install',
    version: '1',
    argv,
    stdin: Readable.from(input === '' ? [] : [input]),
    stdout,
    stderr,
    run: () => Promise.resolve(),
    ...more,
  });
  return { code, out: String(stdout.read() ?? ''), err: String(stderr.read() ?? '') };
}
const enrolArgs = (): string[] => ['enrol', '--server', http.url, '--state', stateDir];

it.each([
  [[], 'a command is missing'],
  [['dance'], 'there is no command dance'],
  [['run'], '--state DIR is missing'],
  [['enrol', '--state', 'x'], '--server URL is missing'],
  [['enrol', 'ims_enr_token', '--server', 'http://x', '--state', 'x'], 'not as an argument'],
  [['run', '--state', 'x', '--what'], "Unknown option '--what'"],
])('%j is wrong usage', async (argv, message) => {
  const { code, err } = await main(argv);
  expect(code).toBe(2);
  expect(err).toContain(message);
  expect(err).toContain('Usage:');
});

it('enrols with the token from standard input or a private file, then knows who it is', async () => {
  const { code, out } = await main(enrolArgs(), `${TOKEN}\n`);
  expect([code, out]).toEqual([0, `enrolled as agt_01h455vb4pex5vsknk084sn02q (install); state in ${stateDir}\n`]);
  const file = join(stateDir, 'token');
  await writeFile(file, TOKEN, { mode: 0o644 });
  expect((await main([...enrolArgs(), '--token-file', file])).err).toContain('can be read by others');
  await rm(file);
  await writeFile(file, TOKEN, { mode: 0o600 });
  expect((await main([...enrolArgs(), '--token-file', file])).code).toBe(0);
  const { out: status } = await main(['status', '--state', stateDir]);
  expect(status).toContain('agt_01h455vb4pex5vsknk084sn02q (install)');
  expect(status).toMatch(/process +not running/);
  expect(status).toMatch(/attempts held +none/);
});

it('says what to do when the token is refused, missing, or when it was never enrolled', async () => {
  refuse = true;
  const refused = await main(enrolArgs(), TOKEN);
  expect(refused.code).toBe(3);
  expect(refused.err).toContain('used before (enrolment_refused)\nMake a new one');
  expect((await main(enrolArgs())).code).toBe(2);
  const run = await main(['run', '--state', stateDir]);
  expect([run.code, run.err]).toEqual([1, expect.stringContaining('run install-agent enrol first')]);
  await http.stop();
  expect((await main(enrolArgs(), TOKEN)).code).toBe(6);
});

it('runs as the one who was enrolled', async () => {
  await main(enrolArgs(), TOKEN);
  let ran = '';
  await main(['run', '--state', stateDir], '', {
    run: (identity, dir) => {
      ran = `${identity.agentId} in ${dir}`;
      return Promise.resolve();
    },
  });
  expect(ran).toBe(`agt_01h455vb4pex5vsknk084sn02q in ${stateDir}`);
});

it('takes a state directory as given from here', () => {
  expect(parseAgentCommand(['run', '--state', 'x'])).toEqual({ command: 'run', stateDir: join(process.cwd(), 'x') });
});
