import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { changesBetween, inOrder } from '../src/changes.js';
import { Contexts } from '../src/config.js';
import { nearest } from '../src/find.js';
import { readManifest } from '../src/manifest.js';
import { run } from '../src/program.js';
import { ago, cutTo, duration, durationMs, widthOf } from '../src/terminal.js';

const GOOD = `app: shop
inputs:
  - { name: region, type: string, required: true }
components:
  - name: web
    kind: container-image
    source: { url: "\${SRC}", directory: web }
`;

describe('ims', () => {
  let home: string;
  let server: Server;
  let url: string;
  let answers: Record<string, [status: number, body: unknown]>;
  let seen: string[];
  let bodies: string[];
  let out: string;
  let err: string;
  const before = { ...process.env };

  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), 'ims-cli-'));
    server = createServer((request, response) => {
      seen.push(`${request.method} ${request.url} ${request.headers.authorization ?? ''}`);
      request.setEncoding('utf8').on('data', (text: string) => bodies.push(text));
      const missing: [number, unknown] = [
        404,
        { code: 'not_found', detail: 'no', next: 'Check the id.', request_id: 'r' },
      ];
      const [status, body] = answers[`${request.method} ${request.url?.split('?')[0]}`] ?? missing;
      response.writeHead(status, { 'content-type': status < 400 ? 'application/json' : 'application/problem+json' });
      response.end(JSON.stringify(body));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
    rmSync(home, { recursive: true });
  });
  beforeEach(() => {
    process.env = { PATH: before['PATH'], XDG_CONFIG_HOME: home, NO_COLOR: '1', IMS_URL: url, IMS_API_KEY: 'k' };
    [answers, seen, bodies, out, err] = [{}, [], [], '', ''];
    jest.spyOn(process.stdout, 'write').mockImplementation((text) => ((out += String(text)), true));
    jest.spyOn(process.stderr, 'write').mockImplementation((text) => ((err += String(text)), true));
  });
  afterEach(() => {
    jest.restoreAllMocks();
    process.env = before;
  });

  const ims = (...argv: string[]): Promise<number> => run(argv);
  const file = (text: string): string => {
    const path = join(home, 'vendor-cloud.yaml');
    writeFileSync(path, text);
    return path;
  };

  it('ends with the code that its table names, and tells the next step of each failure', async () => {
    answers = {
      'GET /v1/vendor': [401, { code: 'unauthenticated', detail: 'no key', next: 'x', request_id: 'req_1' }],
      'GET /v1/apps': [200, { data: [{ id: 'app_1', name: 'shop', created_at: '2026-01-01T00:00:00Z' }] }],
      'POST /v1/apps/app_1/releases': [
        409,
        { code: 'nothing_built', detail: 'of web', next: 'x', request_id: 'req_2' },
      ],
    };
    expect(await ims('whoami')).toBe(3);
    expect(err).toMatch(/✗ unauthenticated: no key\n {2}→ ims login/);
    expect(await ims('release', '1')).toBe(5);
    expect(err).toMatch(/→ ims build/);
    expect(await ims('jobs', 'job_1')).toBe(4);
    expect(await ims('apps', 'shpo')).toBe(4);
    expect(err).toMatch(/Did you mean shop\?/);
    expect(await ims('biuld')).toBe(2);
    expect(err).toMatch(/Did you mean build\?/);
    expect(await ims('apps', '-o', 'xml')).toBe(2);
    expect(await ims('deploy')).toBe(2);
    expect(await ims('--help')).toBe(0);
    delete process.env['IMS_URL'];
    expect(await ims('apps')).toBe(3);
    expect(out).not.toMatch(/✗/);
  });

  it('pauses agents, frees locks, leaves jobs out, goes on where a deployment stopped, sends dead letters again', async () => {
    const lock = { name: 'component:db', job_id: 'job_1', taken_at: '2026-01-01T00:00:00Z', waiting: 2 };
    const letter = { id: 'ded_1', status: 'open', contract: 'job.result/1', code: 'internal', cause: 'no such job' };
    answers = {
      'POST /v1/agents/agt_1/pause': [200, { id: 'agt_1' }],
      'POST /v1/agents/agt_1/resume': [200, { id: 'agt_1' }],
      'POST /v1/agents/agt_1/drain': [200, { id: 'agt_1', running: 3 }],
      'GET /v1/locks': [200, { data: [lock] }],
      'GET /v1/jobs/job_1': [200, { id: 'job_1', status: 'running' }],
      'POST /v1/jobs/job_1/unlock': [202, { id: 'job_1' }],
      'POST /v1/jobs/job_1/skip': [202, { id: 'job_1' }],
      'GET /v1/deployments/dep_1': [200, { id: 'dep_1', install_id: 'ins_1', kind: 'deploy' }],
      'POST /v1/deployments/dep_1/retry': [202, { id: 'dep_2' }],
      'GET /v1/dead-letters': [200, { data: [{ ...letter, at: '2026-01-01T00:00:00Z' }] }],
      'POST /v1/dead-letters/ded_1/redrive': [202, { id: 'ded_1' }],
    };
    for (const [line, told] of [
      ['pause-agent agt_1 --note reboot', /agt_1 takes no jobs now/],
      ['resume-agent agt_1', /agt_1 takes jobs again/],
      ['drain-agent agt_1', /3 still run/],
      ['locks', /component:db +job_1 .* 2/],
      ['unlock job_1 --reason stuck', /free when its lease is over/],
      ['skip job_1', /left out/],
      ['retry dep_1 --from job_1 --skip job_2 --skip job_3', /dep_2/],
      ['dead-letters', /ded_1 .*internal: no such job/],
      ['redrive ded_1', /sent again/],
    ] as const) {
      [out, err, bodies] = ['', '', []];
      expect([line, await ims(...line.split(' ')), err.includes('✗')]).toEqual([line, 0, false]);
      expect(out + err).toMatch(told);
      if (line.startsWith('pause')) expect(bodies).toEqual([JSON.stringify({ note: 'reboot' })]);
      if (line.startsWith('unlock')) expect(bodies).toEqual([JSON.stringify({ reason: 'stuck' })]);
      if (line.startsWith('retry'))
        expect(bodies).toEqual([JSON.stringify({ from: 'job_1', skip: ['job_2', 'job_3'] })]);
    }
    expect(seen.filter((line) => line.startsWith('POST'))).toHaveLength(7);
  });

  it('prints data to stdout in the format that is asked for, exact outside of tables', async () => {
    const app = { id: 'app_1', name: 'shop', created_at: '2026-01-01T00:00:00Z' };
    answers = { 'GET /v1/apps': [200, { data: [app] }] };
    for (const format of ['json', 'yaml', 'ndjson', 'name', 'table']) {
      out = '';
      expect(await ims('apps', '-o', format)).toBe(0);
      if (format === 'json') expect(JSON.parse(out)).toEqual([app]);
      if (format === 'ndjson') expect(JSON.parse(out)).toEqual(app);
      if (format === 'yaml') expect(out).toMatch(/name: shop/);
      if (format === 'name') expect(out).toBe('app_1\n');
      if (format === 'table') expect(out).toMatch(/^APP +ID +AGE +INPUTS\nshop {2}app_1/);
    }
    expect(err).toBe('');
  });

  it('applies a file once: what is there and the same is left alone, what differs is put under its ETag', async () => {
    const web = { name: 'web', kind: 'container-image', source: { url: '/src', directory: 'web' } };
    const path = file(GOOD.replace('${SRC}', '/src'));
    answers = {
      'GET /v1/apps': [200, { data: [] }],
      'POST /v1/apps': [201, { id: 'app_1' }],
      'POST /v1/apps/app_1/components': [201, {}],
    };
    expect(await ims('apply', '-f', path, '--dry-run', '--detailed-exitcode')).toBe(2);
    expect(seen.filter((line) => line.startsWith('POST'))).toEqual([]);
    expect(await ims('apply', '-f', path)).toBe(0);
    expect(seen.filter((line) => line.startsWith('POST')).length).toBe(2);
    const inputs = [{ name: 'region', type: 'string', required: true }];
    answers['GET /v1/apps'] = [200, { data: [{ id: 'app_1', name: 'shop', inputs }] }];
    answers['GET /v1/apps/app_1/components'] = [
      200,
      { data: [{ id: 'cmp_1', app_id: 'app_1', created_at: 'x', ...web }] },
    ];
    [seen, err] = [[], ''];
    expect(await ims('apply', '-f', path)).toBe(0);
    expect(err).toMatch(/nothing to change/);
    const older = { id: 'cmp_1', ...web, source: { url: '/old', directory: 'web' } };
    answers['GET /v1/apps/app_1/components'] = [200, { data: [older] }];
    answers['GET /v1/components/cmp_1'] = [200, older];
    answers['PUT /v1/components/cmp_1'] = [200, {}];
    out = '';
    expect(await ims('apply', '-f', path)).toBe(0);
    expect(out).toBe('~ component web (container-image)\n    source.url: "/old" → "/src"\n');
    expect(seen.filter((line) => /^(POST|PUT)/.test(line)).length).toBe(1);
  });

  it('names each fault of a file with line and column', () => {
    const faults = (text: string): string => {
      try {
        readManifest(file(text), {});
        return '';
      } catch (error) {
        return String(error);
      }
    };
    process.env['SRC'] = '/src';
    expect(faults(GOOD)).toBe('');
    expect(faults(GOOD.replace('container-image', 'container-imag'))).toMatch(
      /vendor-cloud.yaml:6:11 .*must be one of/,
    );
    expect(faults(GOOD.replace('directory', 'directroy'))).toMatch(
      /7:\d+ .*unknown field directroy; did you mean directory\?/,
    );
    expect(faults(GOOD.replace('SRC', 'NOPE'))).toMatch(/7:20 .*\$\{NOPE\} has no value: give --var NOPE=/);
    expect(faults(`${GOOD}    depends_on: [wob]\n`)).toMatch(/8:18 .*no component wob; did you mean web\?/);
    expect(faults('app: shop\n  bad: [')).toMatch(/vendor-cloud.yaml:2:/);
    expect(faults('[]')).toMatch(/1:1 .*object/);
  });

  it('keeps a key for its owner alone, and sends it to no other place', async () => {
    const contexts = new Contexts();
    contexts.save('here', url, 'kept-key');
    expect(statSync(contexts.keyFile('here')).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(contexts.dir, 'config.json'), 'utf8')).not.toContain('kept-key');
    delete process.env['IMS_API_KEY'];
    answers = { 'GET /v1/vendor': [200, { id: 'ven_1', name: 'acme' }] };
    expect(await ims('whoami')).toBe(0);
    expect(seen.at(-1)).toContain('Bearer kept-key');
    await ims('whoami', '--url', url.replace('127.0.0.1', 'localhost'));
    expect(seen.at(-1)).not.toContain('kept-key');
    expect(contexts.faults()).toEqual([]);
    expect(() => contexts.use('there')).toThrow(/no context there/);
    contexts.remove('here');
    expect(contexts.read()).toEqual({ contexts: {} });
  });

  it('leaves with 8 where only a yes helps and nobody watches, and with 1 when a job has failed', async () => {
    const job = { id: 'job_1', kind: 'apply', component: { name: 'web' }, created_at: '2026-01-01T00:00:00Z' };
    const why = { code: 'awaiting_customer_approval', detail: 'acme is asked', unblock: 'approve it there' };
    answers = { 'GET /v1/jobs/job_1': [200, { ...job, status: 'queued', waiting_reason: why }] };
    expect(await ims('watch', 'job_1')).toBe(8);
    expect(err).toMatch(/apply web waits: acme is asked\n {2}approve it there/);
    answers = {
      'GET /v1/jobs/job_1': [200, { ...job, status: 'failed', error: { code: 'apply_failed', detail: 'boom' } }],
      'GET /errors/apply_failed': [200, { next: 'Read the log.' }],
    };
    expect(await ims('watch', 'job_1')).toBe(1);
    expect(err).toMatch(/✗ apply web: apply_failed: boom\n {2}Read the log\.\n {2}the whole log: ims logs job_1/);
    answers = { 'GET /v1/jobs/job_1': [200, { ...job, status: 'running' }] };
    expect(await ims('watch', 'job_1', '--timeout', '0s')).toBe(7);
  });
});

describe('what the commands are made of', () => {
  it('orders components so that each exists when it is named', () => {
    const component = (name: string, needs: string[], text = ''): Parameters<typeof inOrder>[0][number] => ({
      name,
      kind: 'job',
      depends_on: needs,
      values: { text },
    });
    const given = [component('c', ['b']), component('a', []), component('b', [], '{{ components.a.outputs.x }}')];
    expect(inOrder(given).map(({ name }) => name)).toEqual(['a', 'b', 'c']);
    expect(inOrder([component('x', ['y']), component('y', ['x'])]).length).toBe(2);
  });

  it('compares values leaf by leaf', () => {
    expect(changesBetween({ a: 1, b: { c: [1] } }, { b: { c: [2] }, d: 3 })).toEqual([
      { path: 'a', before: 1, after: undefined },
      { path: 'b.c', before: [1], after: [2] },
      { path: 'd', before: undefined, after: 3 },
    ]);
  });

  it('reads and writes times, widths and near misses', () => {
    expect(['90s', '10m', '2h', '5', '1d'].map(durationMs)).toEqual([90_000, 600_000, 7_200_000, 5_000, undefined]);
    expect([850, 12_300, 245_000, 3_900_000].map(duration)).toEqual(['850 ms', '12.3 s', '4 m 05 s', '1 h 05 m']);
    expect(ago('2026-01-01T00:00:00Z', Date.parse('2026-01-01T03:00:00Z'))).toBe('3 h ago');
    expect(widthOf('\x1b[32m✓\x1b[39m ab')).toBe(4);
    expect(cutTo('abcdef', 4)).toBe('abc…');
    expect(nearest('initec', ['acme', 'initech'])).toBe('initech');
    expect(nearest('zzz', ['acme'])).toBeUndefined();
  });
});
