/** The import table: who may enter which room. A library is entered by its src/index.ts (the `#name` alias) alone. */
const table = {
  contracts: [],
  domain: ['contracts'],
  platform: ['contracts'],
  messaging: ['contracts', 'platform'],
  persistence: ['contracts', 'platform'],
  oci: ['contracts', 'domain', 'platform'],
  'agent-kit': ['contracts', 'domain', 'platform', 'messaging', 'oci'],
  stack: ['contracts', 'messaging', 'oci'],
  client: [],
};
const service = ['contracts', 'domain', 'platform', 'messaging', 'persistence'];
const agent = ['contracts', 'domain', 'platform', 'messaging', 'oci', 'agent-kit'];
const apps = {
  gateway: service,
  'job-scheduler': service,
  telemetry: service,
  'registry-token': [...service, 'oci'],
  'build-agent': agent,
  'install-agent': agent,
  cli: ['client'],
  dashboard: ['client'],
};
const forbid = (name, from, allowed, all) => ({
  name,
  severity: 'error',
  from: { path: from, pathNot: ['\\.spec\\.ts$', '^(apps|libs)/[^/]+/test/'] },
  to: { path: `^libs/(${all.filter((lib) => !allowed.includes(lib)).join('|')})/` },
});
const libs = Object.keys(table);

module.exports = {
  forbidden: [
    { name: 'no-cycle', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'front-door',
      comment: 'a library is entered by its src/index.ts alone',
      severity: 'error',
      from: { path: '^(apps|libs|test|deploy)/([^/]+)/' },
      to: { path: '^libs/([^/]+)/src/(?!index\\.ts$)', pathNot: ['^libs/$2/'] },
    },
    {
      name: 'no-app-imports-app',
      severity: 'error',
      from: { path: '^apps/([^/]+)/' },
      to: { path: '^apps/', pathNot: '^apps/$1/' },
    },
    { name: 'no-lib-imports-app', severity: 'error', from: { path: '^libs/' }, to: { path: '^apps/' } },
    {
      name: 'processes-only-in-agent-kit',
      comment: 'child processes: one place owns process groups and their end',
      severity: 'error',
      from: { path: '^(apps|libs)/', pathNot: ['^libs/(agent-kit|stack)/', '\\.spec\\.ts$'] },
      to: { path: '^(node:)?child_process$' },
    },
    {
      name: 'rules-are-pure',
      severity: 'error',
      from: { path: '^libs/domain/', pathNot: '\\.spec\\.ts$' },
      to: {
        path: '^(node:)?(fs|net|http|https|timers|child_process|dns|tls)(/promises)?$|@nestjs|typeorm|^node_modules/pg',
      },
    },
    { name: 'typescript-resolves', severity: 'error', from: {}, to: { couldNotResolve: true } },
    ...libs.map((lib) => forbid(`table-${lib}`, `^libs/${lib}/`, [...table[lib], lib], libs)),
    ...Object.entries(apps).map(([app, allowed]) => forbid(`table-${app}`, `^apps/${app}/`, allowed, libs)),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['types', 'import', 'node', 'default'],
      mainFields: ['types', 'main'],
    },
  },
};
