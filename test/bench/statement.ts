import 'reflect-metadata';
import { generateKeyPairSync, sign, verify } from 'node:crypto';
import { newId, openEnvelope, parse, PAYLOAD_TYPES, signEnvelope, JobStatement } from '#contracts';
import { createNkey, nkeyFromSeed, verifyNkey } from '#messaging';

/** Work a second of one core: median of five rounds, each of so many calls. */
const ROUNDS = 5;
const CALLS = 2_000;
function eachMs(work: () => unknown): number {
  const rounds = Array.from({ length: ROUNDS }, () => {
    const from = performance.now();
    for (let i = 0; i < CALLS; i += 1) work();
    return (performance.now() - from) / CALLS;
  });
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1] ?? 0;
}

const digest = `sha256:${'a'.repeat(64)}`;
const statement = parse(
  JobStatement,
  {
    job_id: newId('job'),
    attempt: 1,
    kind: 'apply',
    vendor_id: newId('vendor'),
    agent_id: newId('agent'),
    agent_key: createNkey('user').publicKey,
    install_id: newId('install'),
    deployment_id: newId('deployment'),
    install_name: 'globex',
    app_name: 'shop',
    component: { id: newId('component'), name: 'database', kind: 'terraform-module' },
    spec: { kind: 'terraform-module', values: { region: '{{ install.inputs.region }}', size: 'db.t4g.medium' } },
    repository: 'acme/shop/database',
    artifact: {
      repository: 'acme/shop/database',
      digest,
      media_type: 'application/vnd.oci.image.manifest.v1+json',
      size_bytes: 512,
    },
    release: { id: newId('release'), version: '1.4.2', created_at: new Date().toISOString() },
    source_commit: 'c'.repeat(40),
    inputs: { region: 'eu-central-1', replicas: 2 },
    issued_at: new Date().toISOString(),
    expires_at: new Date(Date.now() + 3_600_000).toISOString(),
  },
  'strict',
);
const key = nkeyFromSeed(createNkey('user').seed);
const envelope = signEnvelope(PAYLOAD_TYPES.job, statement, key);
const bytes = Buffer.from(JSON.stringify(statement));
const pair = generateKeyPairSync('ed25519');
const bare = sign(null, bytes, pair.privateKey);

const open = (): unknown =>
  parse(JobStatement, openEnvelope(envelope, PAYLOAD_TYPES.job, [key.publicKey], verifyNkey), 'tolerant');
const rows = [
  [
    'sign',
    eachMs(() => signEnvelope(PAYLOAD_TYPES.job, statement, key)),
    eachMs(() => sign(null, bytes, pair.privateKey)),
  ],
  ['verify and read', eachMs(open), eachMs(() => verify(null, bytes, pair.publicKey, bare))],
] as const;
console.log(`a job statement of ${bytes.length} bytes; median of ${ROUNDS} rounds of ${CALLS}, goal 1 ms`);
for (const [what, ms, bareMs] of rows) {
  console.log(
    `  ${what.padEnd(16)} ${ms.toFixed(3)} ms, ${(ms / bareMs).toFixed(1)} x Ed25519 alone (${bareMs.toFixed(3)} ms)`,
  );
}
process.exitCode = rows.every(([, ms]) => ms < 1) ? 0 : 1;
