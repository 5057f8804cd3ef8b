import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ImsError, type InputDeclaration } from '#contracts';
import { AwsSecrets, EnvironmentSecrets } from './secret-stores.js';
import { ComponentStore } from './component-store.js';

const DECLARED: InputDeclaration[] = [
  { name: 'owner', type: 'string', set_by: 'customer', default: 'nobody' },
  { name: 'password', type: 'secret', required: true },
];

describe('what the customer gives', () => {
  let dir: string;
  let store: ComponentStore;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'inputs-'));
    store = new ComponentStore(dir);
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));
  const give = (text: string): Promise<void> => writeFile(join(dir, 'inputs.json'), text, { mode: 0o600 });
  const refusal = () =>
    store.customerValues(DECLARED).then(
      () => 'nothing',
      (error: unknown) => {
        const { code, detail } = ImsError.of(error);
        return `${code}: ${detail}`;
      },
    );

  it('comes from its file, or from a file that it names, and counts as secret from then on', async () => {
    expect(await refusal()).toContain('missing_input');
    await writeFile(join(dir, 'mounted'), 'swordfish\n');
    await give(JSON.stringify({ owner: 'ops', password: { file: join(dir, 'mounted') }, other: 7 }));
    expect(await store.customerValues(DECLARED)).toEqual({ owner: 'ops', password: 'swordfish' });
    expect(await store.secrets()).toEqual(['swordfish']);
  });

  it('is refused without repeating it: no JSON, a file that is gone, one that others can read', async () => {
    await give('{"password": "swordfish"');
    expect(await refusal()).toBe('invalid_request: inputs.json in the state directory is not valid JSON');
    await give(JSON.stringify({ password: { file: join(dir, 'gone') } }));
    expect(await refusal()).toContain('missing_input: input password: it cannot be read from');
    await give('{"password": "swordfish"}');
    await chmod(join(dir, 'inputs.json'), 0o644);
    const open = await refusal();
    expect(open).not.toBe('nothing');
    expect(open).not.toContain('swordfish');
    await chmod(join(dir, 'inputs.json'), 0o600);
    await give(JSON.stringify({ password: { vault: 'x' } }));
    expect(await refusal()).toBe('invalid_request: input password is neither a value nor one of {"file": …}');
  });
});

describe("the customer's secret stores", () => {
  let server: Server;
  let asked: string[];
  let fault: { status: number; type: string } | undefined;
  let dir: string;
  let store: ComponentStore;
  const SECRETS: Readonly<Record<string, object>> = {
    'prod/db': { SecretString: '{"password":"swordfish","port":5432}' },
    plain: { SecretString: 'open sesame' },
    bytes: { SecretBinary: Buffer.from('swordfish').toString('base64') },
  };

  /** Answers as Secrets Manager does (JSON 1.1), over a real socket to the real SDK. */
  beforeEach(async () => {
    asked = [];
    fault = undefined;
    server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const { SecretId: id } = JSON.parse(Buffer.concat(chunks).toString()) as { SecretId: string };
        asked.push(`${String(request.headers['x-amz-target'])} ${id}`);
        const refuse = fault ?? (id in SECRETS ? undefined : { status: 400, type: 'ResourceNotFoundException' });
        response.writeHead(refuse?.status ?? 200, { 'content-type': 'application/x-amz-json-1.1' });
        response.end(
          JSON.stringify(refuse ? { __type: refuse.type, message: 'swordfish' } : { Name: id, ...SECRETS[id] }),
        );
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    dir = await mkdtemp(join(tmpdir(), 'inputs-'));
    store = new ComponentStore(dir, {
      env: new EnvironmentSecrets({ DB_PASSWORD: 'from the environment' }),
      aws_secret: new AwsSecrets({
        region: 'eu-central-1',
        endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
        credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'x' },
      }),
    });
  });
  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(dir, { recursive: true, force: true });
  });
  const password = async (reference: object): Promise<unknown> => {
    await writeFile(join(dir, 'inputs.json'), JSON.stringify({ password: reference }), { mode: 0o600 });
    return (await store.customerValues(DECLARED))['password'];
  };
  const refusal = (reference: object): Promise<string> =>
    password(reference).then(
      () => 'nothing',
      (error: unknown) => `${ImsError.of(error).code}: ${ImsError.of(error).detail}`,
    );

  it('give a value by variable, by name, and by a field of it; AWS is asked once for all steps', async () => {
    expect(await password({ env: 'DB_PASSWORD' })).toBe('from the environment');
    expect(await password({ aws_secret: 'plain' })).toBe('open sesame');
    expect(await password({ aws_secret: 'prod/db', field: 'password' })).toBe('swordfish');
    expect(await password({ aws_secret: 'prod/db', field: 'port' })).toBe('5432');
    expect(asked).toEqual(['secretsmanager.GetSecretValue plain', 'secretsmanager.GetSecretValue prod/db']);
    expect(await store.secrets()).toEqual(['from the environment', 'open sesame', 'swordfish', '5432']);
  });

  it.each([
    [{ env: 'NOT_THERE' }, /^missing_input: input password: there is no variable "NOT_THERE"/],
    [{ aws_secret: 'gone' }, /^missing_input: .* gone cannot be read from AWS: ResourceNotFoundException$/],
    [{ aws_secret: 'prod/db', field: 'user' }, /^missing_input: .* no text in its field user$/],
    [{ aws_secret: 'plain', field: 'user' }, /^missing_input: .* is no JSON object/],
    [{ aws_secret: 'bytes' }, /^missing_input: .* is binary/],
    [{ aws_secret: 'plain', env: 'DB_PASSWORD' }, /^invalid_request: .*\{"env": …\}, \{"aws_secret": …\}/],
  ])('refuse %j by name, without a value', async (reference, message) => {
    const said = await refusal(reference);
    expect(said).toMatch(message);
    expect(said).not.toContain('swordfish');
  });

  it('tell what is not allowed from what is not to be had now, and ask again after that', async () => {
    fault = { status: 400, type: 'AccessDeniedException' };
    expect(await refusal({ aws_secret: 'plain' })).toMatch(/^missing_input: .*AccessDeniedException$/);
    fault = { status: 500, type: 'InternalServiceError' };
    expect(await refusal({ aws_secret: 'plain' })).toMatch(/^unavailable: /);
    fault = undefined;
    expect(await password({ aws_secret: 'plain' })).toBe('open sesame');
  });
});
