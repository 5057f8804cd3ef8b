import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ImsError, type InputDeclaration } from '#contracts';
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
    expect(await refusal()).toContain('missing_input: input password cannot be read from');
    await give('{"password": "swordfish"}');
    await chmod(join(dir, 'inputs.json'), 0o644);
    const open = await refusal();
    expect(open).not.toBe('nothing');
    expect(open).not.toContain('swordfish');
  });
});
