/**
 * What follows from the code: the reference pages (errors, messages, permissions, limits) from the contracts, and the
 * types of the client from the gateway's OpenAPI document. `--check` compares instead of writing, so that none of them
 * can be older than the code.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import openapiTS, { astToString } from 'openapi-typescript';
import {
  agentPermissions,
  CONTRACTS,
  ERRORS,
  LIMITS,
  SERVICES,
  servicePermissions,
  STREAMS,
} from '../dist/libs/contracts/src/index.js';
import { offlineDocument } from '../dist/apps/gateway/src/gateway.module.js';
import { COMPONENT_NEEDS, JOB_NEEDS_OF } from '../dist/apps/install-agent/src/job-permissions.js';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const OUT = join(ROOT, 'docs', 'reference');
const table = (head, rows) =>
  [
    `| ${head.join(' | ')} |`,
    `| ${head.map(() => '---').join(' | ')} |`,
    ...rows.map((row) => `| ${row.map((cell) => String(cell).replaceAll('|', '\\|')).join(' | ')} |`),
  ].join('\n');
const code = (list) => list.map((item) => `\`${item}\``).join('<br>');
const generated = 'Generated from `libs/contracts` by `npm run docs`; do not edit.';
const party = (name) => (SERVICES.includes(name) ? name : `${name}-agent`);

const pages = {
  'errors.md': [
    '# Errors',
    generated,
    'Every failure carries one of these codes: as `code` of a problem+json answer, in the result of a job, in a reply between services. Retry class: `retry` the same call with back-off; `wait` until something else changes; `fix` the input or the state first; `human`: an operator has to look.',
    ...Object.entries(ERRORS).map(
      ([name, entry]) =>
        `## ${name}\n${entry.title} HTTP ${entry.status}, retry class \`${entry.retry}\`.\n\nNext: ${entry.next}`,
    ),
  ],
  'messages.md': [
    '# Messages',
    generated,
    '## Kept in a stream',
    table(
      ['message', 'subject', 'stream', 'from', 'consumed by'],
      CONTRACTS.filter((c) => c.type === 'stream').map((c) => [
        `${c.name}/${c.version}`,
        `\`${c.subject}\``,
        c.stream,
        c.from.map(party).join(', '),
        c.consumers.map(party).join(', ') || 'the agent named in the subject',
      ]),
    ),
    '## Calls (request and reply)',
    table(
      ['call', 'subject', 'from', 'served by', 'time limit (ms)'],
      CONTRACTS.filter((c) => c.type === 'call').map((c) => [
        `${c.name}/${c.version}`,
        `\`${c.subject}\``,
        c.from.map(party).join(', '),
        c.servedBy,
        c.timeoutMs,
      ]),
    ),
    '## Signals (lost when nobody listens; never the only carrier of a fact)',
    table(
      ['signal', 'subject', 'from', 'to'],
      CONTRACTS.filter((c) => c.type === 'signal').map((c) => [
        `${c.name}/${c.version}`,
        `\`${c.subject}\``,
        c.from.map(party).join(', '),
        c.to.map(party).join(', '),
      ]),
    ),
    '## Streams',
    table(
      ['stream', 'subjects', 'retention', 'full at (MiB)'],
      Object.entries(STREAMS).map(([name, s]) => [name, code(s.subjects), s.retention, s.maxBytes / 1024 ** 2]),
    ),
  ],
  'permissions.md': [
    '# NATS permissions',
    generated,
    "What each identity may publish to and subscribe to; the server denies everything else. `{{tag(agent)}}` is the agent's own id, `{{tag(jobs_stream)}}` the shard that carries its offers.",
    table(
      ['identity', 'publish', 'subscribe'],
      [
        ...['build', 'install'].map((kind) => [`${kind}-agent`, agentPermissions(kind)]),
        ...SERVICES.map((service) => [service, servicePermissions(service)]),
      ].map(([name, allowed]) => [name, code(allowed.publish), code(allowed.subscribe)]),
    ),
  ],
  'job-permissions.md': [
    '# What each job of the install agent needs',
    'Generated from `apps/install-agent/src` (what stands beside each executor) and `libs/contracts` by `npm run docs`; do not edit.',
    "For the customer who gives the agent its rights. A policy (`allow` in the policy file) takes away what is not wanted; what is not granted here is not used. All of the state directory is the agent's own (0700).",
    '## Jobs',
    table(
      ['job', 'registries', 'host'],
      Object.entries(JOB_NEEDS_OF).map(([kind, needs]) => [kind, needs.registry, needs.host]),
    ),
    '## Kinds of components: apply and destroy',
    table(
      ['kind', 'programs', 'cluster', 'cloud', 'host, beside its directories'],
      Object.entries(COMPONENT_NEEDS).map(([kind, needs]) => [
        kind,
        code(needs.programs) || 'none',
        needs.cluster
          .map(({ resources, verbs, why }) => `\`${verbs.join(',')}\` on \`${resources.join(',')}\`: ${why}`)
          .join('<br>') || 'nothing',
        needs.cloud,
        needs.host.join('<br>') || 'nothing',
      ]),
    ),
    'Discovery (`/api`, `/apis`, `/openapi`, `/version`) is open to each authenticated user of a cluster. Objects are read and written by name in the namespace of the component, or the one that they name; `namespaces` and kinds without a namespace need a ClusterRole.',
    '## Messages, the same for every job',
    table(
      ['publish', 'subscribe'],
      [[code(agentPermissions('install').publish), code(agentPermissions('install').subscribe)]],
    ),
    'Over HTTPS, to registry-token: a request signed with the key of the agent, for the one-time token of a sync. No other connection goes out; none comes in but the pulls of the nodes at the token realm of the install’s registry.',
  ],
  'limits.md': ['# Limits and periods', generated, table(['name', 'value'], Object.entries(LIMITS))],
};

/** The OpenAPI document as types. Sorted, so that two changes of the API rarely touch the same lines. */
async function clientTypes(document) {
  const ast = await openapiTS(document, { alphabetize: true });
  return `// Generated from the routes of apps/gateway by \`npm run docs\`; do not edit.\n\n${astToString(ast)}`;
}

/** What may be in vendor-cloud.yaml: the shapes of the API, nothing beside them allowed. */
function manifestSchema(schemas) {
  const shapes = ['NewComponent', 'SourceRef', 'RunSpec', 'InputDeclaration'];
  const strict = shapes.map((name) => [name, { ...schemas[name], additionalProperties: false }]);
  const schema = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'vendor-cloud.yaml',
    type: 'object',
    required: ['app', 'components'],
    additionalProperties: false,
    properties: {
      app: schemas.NewApp.properties.name,
      inputs: schemas.NewApp.properties.inputs,
      components: {
        type: 'array',
        items: { $ref: '#/components/schemas/NewComponent' },
        maxItems: LIMITS.componentsPerApp,
      },
    },
    $defs: Object.fromEntries(strict),
  };
  const text = JSON.stringify(schema, null, 2).replaceAll('#/components/schemas/', '#/$defs/');
  return `// Generated from libs/contracts by \`npm run docs\`; do not edit.\n\nexport const MANIFEST_SCHEMA = ${text};\n`;
}

const files = Object.fromEntries(
  Object.entries(pages).map(([name, parts]) => [join('docs', 'reference', name), `${parts.join('\n\n')}\n`]),
);
const document = await offlineDocument();
files[join('libs', 'client', 'src', 'schema.ts')] = await clientTypes(document);
files[join('apps', 'cli', 'src', 'manifest-schema.ts')] = manifestSchema(document.components.schemas);

const check = process.argv.includes('--check');
const stale = [];
mkdirSync(OUT, { recursive: true });
for (const [file, text] of Object.entries(files)) {
  let now = '';
  try {
    now = readFileSync(join(ROOT, file), 'utf8');
  } catch {
    // not written yet
  }
  if (now === text) continue;
  if (check) stale.push(file);
  else writeFileSync(join(ROOT, file), text);
}
if (stale.length > 0) {
  console.error(`older than the code: ${stale.join(', ')}. Run: npm run docs`);
  process.exit(1);
}
