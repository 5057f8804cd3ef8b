import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { parse } from 'yaml';

const ROOT = new URL('../../', import.meta.url).pathname;
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** The metrics that the code makes: each is declared by its literal name. */
const DECLARED = new Set(
  ['apps', 'libs'].flatMap((room) =>
    readdirSync(join(ROOT, room), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts') && !file.endsWith('.spec.ts'))
      .flatMap((file) => [...read(join(room, file)).matchAll(/name: '(ims_\w+)'/g)].map(([, name = '']) => name)),
  ),
);
const registry = new Registry();
collectDefaultMetrics({ register: registry });
const KNOWN = new Set([...DECLARED, 'up', ...registry.getMetricsAsArray().map(({ name }) => name)]);

/** What an expression asks for, without the parts of a histogram. */
const metricsOf = (expression: string): string[] =>
  [...expression.matchAll(/\b(?:ims|nodejs|process)_\w+|\bup\b/g)].map(([name]) =>
    KNOWN.has(name) ? name : name.replace(/_(bucket|sum|count)$/, ''),
  );

interface Rule {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string; description: string };
}
const rules = (parse(read('deploy/observability/alerts.yaml')) as { groups: { rules: Rule[] }[] }).groups.flatMap(
  (group) => group.rules,
);
interface Dashboard {
  panels: { title: string; targets: { expr: string }[] }[];
}
const { panels } = JSON.parse(read('deploy/observability/dashboard.json')) as Dashboard;

it('alerts and panels ask for metrics that the code makes', () => {
  const asked = [
    ...rules.map(({ alert, expr }) => [alert, expr] as const),
    ...panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr] as const)),
  ];
  for (const [what, expression] of asked) {
    const names = metricsOf(expression);
    expect([what, names.length > 0, names.filter((name) => !KNOWN.has(name))]).toEqual([what, true, []]);
  }
});

it('every metric of ours is on the dashboard or in an alert', () => {
  const all = [...rules.map(({ expr }) => expr), ...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))];
  const asked = new Set(all.flatMap(metricsOf));
  expect([...DECLARED].filter((name) => !asked.has(name) && name !== 'ims_outbox_published_total')).toEqual([]);
});

it('every alert says what is wrong, what to do, and how urgent it is', () => {
  for (const { alert, labels, annotations } of rules) {
    expect([alert, ['page', 'ticket'].includes(labels.severity)]).toEqual([alert, true]);
    expect(annotations.summary.length).toBeGreaterThan(10);
    expect(annotations.description.length).toBeGreaterThan(20);
  }
});
