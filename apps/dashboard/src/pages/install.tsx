import { useState } from 'react';
import { Checkbox, Code, Group, NativeSelect, SimpleGrid, Stack, Text } from '@mantine/core';
import { Link, useNavigate, useParams } from 'react-router';
import {
  ims,
  isFinal,
  onePage,
  usePages,
  useResource,
  type Deployment,
  type Install,
  type Job,
  type Schemas,
} from '../api.js';
import { Act } from '../parts/act.js';
import { Chart } from '../parts/chart.js';
import { Events } from '../parts/events.js';
import { Empty, PageHead, Panel, Shown } from '../parts/frame.js';
import { Graph, type GraphNode } from '../parts/graph.js';
import { List } from '../parts/list.js';
import { Ago, bytes, DigestOf, Facts, Id, plain, Took } from '../parts/show.js';
import { Status, toneStyle } from '../parts/status.js';
import { PageTabs } from '../parts/tabs.js';
import { isOver, jobsOfDeployment } from './deployment.js';

const pathOf = (id: string) => ({ params: { path: { install_id: id } } });

/** An install: what it is now, what happens to it, how its agent does. */
export function InstallPage() {
  const { id = '' } = useParams();
  const deployments = usePages(
    ['deployments', id],
    (cursor) =>
      ims.get('/v1/installs/{install_id}/deployments', {
        params: { ...pathOf(id).params, query: { cursor, limit: 20 } },
      }),
    { live: (rows) => rows.some((row) => !isOver(row)) },
  );
  const latest = deployments.rows[0];
  const busy = latest !== undefined && !isOver(latest);
  const install = useResource(['install', id], () => ims.get('/v1/installs/{install_id}', pathOf(id)), {
    live: () => busy,
  });
  const jobs = useResource(['jobs', 'of', latest?.id], () => jobsOfDeployment(latest?.id ?? ''), {
    enabled: latest !== undefined,
    live: () => busy,
  });
  return (
    <Shown of={install}>
      {(value) => (
        <>
          <InstallHead install={value} latest={latest} />
          <PageTabs
            base={`/installs/${id}`}
            tabs={[
              {
                name: 'components',
                label: 'Components',
                show: () => <Components install={value} jobs={jobs.data ?? []} busy={busy} />,
              },
              {
                name: 'deployments',
                label: 'Deployments',
                show: () => (
                  <Panel flush>
                    <Deployments pages={deployments} />
                  </Panel>
                ),
              },
              { name: 'vitals', label: 'Vitals', show: () => <VitalsOf installId={id} /> },
              { name: 'tokens', label: 'Pull tokens', show: () => <Tokens installId={id} /> },
              { name: 'settings', label: 'Inputs and policy', show: () => <Settings install={value} /> },
              {
                name: 'events',
                label: 'Events',
                show: () => (
                  <Panel flush>
                    <Events
                      of={['install', id]}
                      live={busy}
                      read={(cursor) =>
                        ims.get('/v1/installs/{install_id}/events', {
                          params: { ...pathOf(id).params, query: { cursor } },
                        })
                      }
                    />
                  </Panel>
                ),
              },
            ]}
          />
        </>
      )}
    </Shown>
  );
}

function InstallHead({ install, latest }: { readonly install: Install; readonly latest: Deployment | undefined }) {
  const { agent_id: agentId, release_id: releaseId, app_id: appId } = install;
  const agent = useResource(['agent', agentId], () =>
    ims.get('/v1/agents/{agent_id}', { params: { path: { agent_id: agentId } } }),
  );
  const release = useResource(
    ['release', releaseId],
    () => ims.get('/v1/releases/{release_id}', { params: { path: { release_id: releaseId ?? '' } } }),
    { enabled: releaseId !== undefined },
  );
  const busy = latest !== undefined && !isOver(latest);
  return (
    <>
      <PageHead
        title={install.name}
        trail={[{ label: 'Installs', to: '/installs' }]}
        status={
          busy ? (
            <Status value="running">{latest.kind === 'teardown' ? 'being removed' : 'being deployed'}</Status>
          ) : null
        }
        actions={
          <>
            <Enrol installId={install.id} />
            <TearDown installId={install.id} disabled={busy} />
            <Deploy installId={install.id} appId={appId} now={releaseId} disabled={busy} />
          </>
        }
      />
      <Stack gap="md" mb="md">
        <Panel>
          <Facts
            facts={{
              Version:
                releaseId === undefined ? (
                  <span className="muted">nothing deployed</span>
                ) : (
                  <Link to={`/releases/${releaseId}`} className="link">
                    {release.data?.version ?? '…'}
                  </Link>
                ),
              Agent: agent.data === undefined ? '…' : <Status value={agent.data.presence} />,
              'Last contact': <Ago at={agent.data?.last_seen_at} />,
              'Last deployment':
                latest === undefined ? (
                  <span className="muted">none</span>
                ) : (
                  <Link to={`/deployments/${latest.id}`} className="link">
                    <Status value={latest.status} />
                  </Link>
                ),
              Created: <Ago at={install.created_at} />,
              Id: <Id id={install.id} />,
            }}
          />
        </Panel>
      </Stack>
    </>
  );
}

function Deploy({
  installId,
  appId,
  now,
  disabled,
}: {
  readonly installId: string;
  readonly appId: string;
  readonly now: string | undefined;
  readonly disabled: boolean;
}) {
  const navigate = useNavigate();
  const [chosen, setChosen] = useState('');
  const [rollback, setRollback] = useState(false);
  const releases = useResource(['releases', appId, 'newest'], () =>
    ims.get('/v1/apps/{app_id}/releases', { params: { path: { app_id: appId }, query: { limit: 50 } } }),
  );
  const rows = releases.data?.data ?? [];
  const release = chosen === '' ? (rows[0]?.id ?? '') : chosen;
  return (
    <Act
      label="Deploy"
      variant="filled"
      disabled={disabled || rows.length === 0}
      question="The install is taken to this release. What is as it should be already is not touched."
      act={() =>
        ims.post('/v1/installs/{install_id}/deployments', {
          ...pathOf(installId),
          body: { kind: 'deploy', release_id: release, ...(rollback ? { rollback } : {}) },
        })
      }
      done={({ id }) => void navigate(`/deployments/${id}`)}
    >
      <NativeSelect
        label="Release"
        value={release}
        onChange={({ currentTarget }) => setChosen(currentTarget.value)}
        data={rows.map(({ id, version }) => ({ value: id, label: id === now ? `${version} (as now)` : version }))}
      />
      <Checkbox
        label="It may be older than what this install has had (rollback)"
        checked={rollback}
        onChange={({ currentTarget }) => setRollback(currentTarget.checked)}
      />
    </Act>
  );
}

function TearDown({ installId, disabled }: { readonly installId: string; readonly disabled: boolean }) {
  const navigate = useNavigate();
  return (
    <Act
      label="Tear down"
      danger
      disabled={disabled}
      question="Everything of this install is removed, dependents first. The install itself stays, and can be deployed again."
      act={() =>
        ims.post('/v1/installs/{install_id}/deployments', { ...pathOf(installId), body: { kind: 'teardown' } })
      }
      done={({ id }) => void navigate(`/deployments/${id}`)}
    />
  );
}

/** A one-use token for the install's agent, shown once. */
function Enrol({ installId }: { readonly installId: string }) {
  const [made, setMade] = useState<Schemas['EnrolmentToken']>();
  return (
    <>
      <Act
        label="Enrol the agent"
        question="A token is made that works once. It brings the agent of this install under a new key; an agent that is enrolled now loses its own."
        act={() => ims.post('/v1/installs/{install_id}/enrolment-tokens', pathOf(installId))}
        done={setMade}
      />
      {made !== undefined && (
        <Panel title="Run this on the customer’s host; the token is shown here only, and goes in by standard input">
          <Code block>{made.command}</Code>
          <Code block mt="xs">
            {made.token}
          </Code>
        </Panel>
      )}
    </>
  );
}

/** Components with their dependencies, as the jobs of the newest deployment say; while it runs, with its jobs' status. */
function graphOf(install: Install, jobs: readonly Job[], busy: boolean): GraphNode[] {
  const names = new Map(jobs.map((job) => [job.id, job.component.name]));
  const all = [...new Set([...install.components.map(({ name }) => name), ...names.values()])].sort();
  const removes = jobs.some(({ kind }) => kind === 'destroy');
  return all.map((name): GraphNode => {
    const own = jobs.filter((job) => job.component.name === name);
    const work = own.find(({ kind }) => kind !== 'sync') ?? own[0];
    const now = install.components.find((component) => component.name === name);
    const active = own.find(({ status }) => status === 'running') ?? work;
    const needs = (work?.depends_on ?? []).map((id) => names.get(id) ?? '').filter((other) => other !== name);
    return {
      id: name,
      name,
      note: busy && active !== undefined && !isFinal(active) ? active.kind : '',
      status: busy && active !== undefined ? active.status : (now?.status ?? 'absent'),
      after: removes ? [] : [...new Set(needs)],
      to: work === undefined ? undefined : `/jobs/${(active ?? work).id}`,
    };
  });
}

function Components({
  install,
  jobs,
  busy,
}: {
  readonly install: Install;
  readonly jobs: readonly Job[];
  readonly busy: boolean;
}) {
  const nodes = graphOf(install, jobs, busy);
  if (nodes.length === 0) {
    return (
      <Panel>
        <Empty>Nothing is deployed. Enrol the agent on the customer’s host, then deploy a release.</Empty>
      </Panel>
    );
  }
  return (
    <Stack gap="md">
      <Panel flush>
        <Graph label="Components" nodes={nodes} />
      </Panel>
      <Panel flush>
        <List
          label="Components"
          pages={onePage(install.components)}
          keyOf={({ name }) => name}
          empty="No component yet."
          columns={[
            {
              name: 'Component',
              show: ({ name, kind }) => (
                <>
                  <Text fz="sm">{name}</Text>
                  <Text fz="xs" className="muted">
                    {kind}
                  </Text>
                </>
              ),
            },
            { name: 'Status', show: ({ status }) => <Status value={status} /> },
            {
              name: 'Outputs',
              wide: true,
              show: ({ outputs = {}, sensitive_outputs: secret = [] }) => (
                <Stack gap={2}>
                  {Object.entries(outputs).map(([name, value]) => (
                    <Text key={name} fz="xs">
                      <span className="muted">{name}</span> <span className="mono">{plain(value)}</span>
                    </Text>
                  ))}
                  {secret.map((name) => (
                    <Text key={name} fz="xs" className="muted">
                      {name} (stays in the install)
                    </Text>
                  ))}
                </Stack>
              ),
            },
            {
              name: 'Artifact',
              wide: true,
              show: ({ digest }) => (digest === undefined ? '–' : <DigestOf digest={digest} />),
            },
            { name: 'Changed', wide: true, align: 'right', show: ({ updated_at: at }) => <Ago at={at} /> },
          ]}
        />
      </Panel>
    </Stack>
  );
}

function Deployments({ pages }: { readonly pages: ReturnType<typeof usePages<Deployment>> }) {
  return (
    <List
      label="Deployments"
      pages={pages}
      keyOf={({ id }) => id}
      empty="Nothing was deployed yet."
      columns={[
        {
          name: 'Deployment',
          show: ({ id, kind, rollback }) => (
            <>
              <Text fz="sm">{rollback === true ? 'rollback' : kind}</Text>
              <Id id={id} to={`/deployments/${id}`} />
            </>
          ),
        },
        { name: 'Status', show: ({ status }) => <Status value={status} /> },
        {
          name: 'Release',
          wide: true,
          show: ({ release_id: release }) =>
            release === undefined ? '–' : <Id id={release} to={`/releases/${release}`} />,
        },
        {
          name: 'Jobs',
          wide: true,
          align: 'right',
          show: ({ jobs }) => `${jobs.succeeded}/${jobs.total}${jobs.failed > 0 ? `, ${jobs.failed} failed` : ''}`,
        },
        {
          name: 'Took',
          wide: true,
          align: 'right',
          show: ({ created_at: from, finished_at: to }) => <Took from={from} to={to} />,
        },
        { name: 'Begun', wide: true, align: 'right', show: ({ created_at: at }) => <Ago at={at} /> },
      ]}
    />
  );
}

function VitalsOf({ installId }: { readonly installId: string }) {
  const vitals = useResource(
    ['vitals', installId],
    () =>
      ims.get('/v1/installs/{install_id}/vitals', { params: { ...pathOf(installId).params, query: { limit: 200 } } }),
    { live: () => false },
  );
  return (
    <Panel title="The agent, newest 200 reports">
      <Shown of={vitals}>
        {({ data }) => {
          if (data.length === 0) return <Empty>The agent has not reported yet.</Empty>;
          const rows = data.toReversed();
          const times = rows.map(({ at }) => Date.parse(at) / 1000);
          return (
            <SimpleGrid cols={{ base: 1, md: 2 }} spacing="lg">
              <Chart
                times={times}
                series={{
                  label: 'CPU',
                  values: rows.map((row) => row.cpu_percent),
                  show: (value) => `${Math.round(value)} %`,
                }}
              />
              <Chart
                times={times}
                series={{ label: 'Memory', values: rows.map((row) => row.memory_bytes), show: bytes }}
              />
              <Chart
                times={times}
                series={{ label: 'Disk free', values: rows.map((row) => row.disk_free_bytes), show: bytes }}
              />
              <Chart
                times={times}
                series={{
                  label: 'Clock beside ours',
                  values: rows.map((row) => row.clock_skew_ms),
                  show: (value) => `${Math.round(value)} ms`,
                }}
              />
              <Chart
                times={times}
                series={{
                  label: 'Jobs at a time',
                  values: rows.map((row) => row.jobs_running),
                  show: (value) => String(Math.round(value)),
                }}
              />
            </SimpleGrid>
          );
        }}
      </Shown>
    </Panel>
  );
}

function Tokens({ installId }: { readonly installId: string }) {
  const pages = usePages(['tokens', installId], (cursor) =>
    ims.get('/v1/installs/{install_id}/pull-tokens', { params: { ...pathOf(installId).params, query: { cursor } } }),
  );
  const tampered = pages.rows.filter(({ tampered_at: at }) => at !== undefined);
  return (
    <Stack gap="md">
      {tampered.length > 0 && (
        <Panel title="Tampered with">
          {tampered.map((token) => (
            <div key={token.id} className="change" style={toneStyle('bad')}>
              <Text fz="sm">
                Somebody presented <Id id={token.id} /> twice, late, elsewhere or with a wrong secret,{' '}
                <Ago at={token.tampered_at} />. Its job is held: <Id id={token.job_id} to={`/jobs/${token.job_id}`} />
              </Text>
            </div>
          ))}
        </Panel>
      )}
      <Panel flush title="Each lets the agent fetch one artifact, once">
        <List
          label="Pull tokens"
          pages={pages}
          keyOf={({ id }) => id}
          empty="No token was issued yet."
          columns={[
            { name: 'Token', show: ({ id }) => <Id id={id} /> },
            {
              name: 'Status',
              show: ({ status, tampered_at: at }) => <Status value={at === undefined ? status : 'tampered'} />,
            },
            {
              name: 'Artifact',
              wide: true,
              show: ({ repository, digest }) => (
                <>
                  <span className="mono">{repository}</span> <DigestOf digest={digest} />
                </>
              ),
            },
            { name: 'Job', wide: true, show: ({ job_id: job }) => <Id id={job} to={`/jobs/${job}`} /> },
            { name: 'Issued', wide: true, align: 'right', show: ({ issued_at: at }) => <Ago at={at} /> },
            {
              name: 'Actions',
              align: 'right',
              show: ({ id, status }) =>
                status === 'issued' && (
                  <Group justify="flex-end">
                    <Act
                      label="Revoke"
                      size="compact-xs"
                      danger
                      question="The token gives nothing any more. The job that waits for it asks for another."
                      act={() => ims.post('/v1/pull-tokens/{token_id}/revoke', { params: { path: { token_id: id } } })}
                    />
                  </Group>
                ),
            },
          ]}
        />
      </Panel>
    </Stack>
  );
}

function Settings({ install }: { readonly install: Install }) {
  return (
    <Stack gap="md">
      <Panel title="Inputs">
        {Object.keys(install.inputs).length === 0 ? (
          <Empty>None.</Empty>
        ) : (
          <Facts
            facts={Object.fromEntries(
              Object.entries(install.inputs).map(([name, value]) => [
                name,
                <span className="mono">{plain(value)}</span>,
              ]),
            )}
          />
        )}
      </Panel>
      <Panel title="What the customer allows">
        {install.customer_policy === undefined ? (
          <Empty>The agent has not reported a policy.</Empty>
        ) : (
          <Code block fz="xs">
            {JSON.stringify(install.customer_policy, null, 2)}
          </Code>
        )}
      </Panel>
    </Stack>
  );
}
