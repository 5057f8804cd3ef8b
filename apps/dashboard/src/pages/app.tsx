import { useState } from 'react';
import { Stack, Text, TextInput } from '@mantine/core';
import { useNavigate, useParams } from 'react-router';
import { ims, isFinal, onePage, usePages, useResource, type App, type Schemas } from '../api.js';
import { Act } from '../parts/act.js';
import { PageHead, Panel, Shown } from '../parts/frame.js';
import { Graph } from '../parts/graph.js';
import { List } from '../parts/list.js';
import { Ago, bytes, DigestOf, Id, Took } from '../parts/show.js';
import { Status } from '../parts/status.js';
import { PageTabs } from '../parts/tabs.js';
import { Releases } from './release.js';

type Component = Schemas['Component'];

/** An app: its parts, what was built of them, and its releases. */
export function AppPage() {
  const { id = '' } = useParams();
  const app = useResource(['app', id], () => ims.get('/v1/apps/{app_id}', { params: { path: { app_id: id } } }));
  return <Shown of={app}>{(value) => <AppView app={value} />}</Shown>;
}

function AppView({ app }: { readonly app: App }) {
  const path = { params: { path: { app_id: app.id } } };
  const navigate = useNavigate();
  const [version, setVersion] = useState('');
  return (
    <>
      <PageHead
        title={app.name}
        trail={[{ label: 'Apps', to: '/apps' }]}
        actions={
          <>
            <Act
              label="Build"
              question="Every component is built from its source, by the build agent."
              act={() => ims.post('/v1/apps/{app_id}/builds', { ...path, body: {} })}
              done={() => void navigate(`/apps/${app.id}/builds`)}
            />
            <Act
              label="Make a release"
              variant="filled"
              question="A release holds the newest successful build of each component, and never changes."
              act={() => ims.post('/v1/apps/{app_id}/releases', { ...path, body: { version } })}
              done={({ id }) => void navigate(`/releases/${id}`)}
            >
              <TextInput
                label="Version"
                placeholder="1.4.0"
                required
                value={version}
                onChange={({ currentTarget }) => setVersion(currentTarget.value)}
              />
            </Act>
          </>
        }
      />
      <PageTabs
        base={`/apps/${app.id}`}
        tabs={[
          { name: 'components', label: 'Components', show: () => <Components appId={app.id} /> },
          {
            name: 'releases',
            label: 'Releases',
            show: () => (
              <Panel flush>
                <Releases appId={app.id} />
              </Panel>
            ),
          },
          { name: 'builds', label: 'Builds', show: () => <Builds appId={app.id} /> },
          { name: 'inputs', label: 'Inputs', show: () => <Inputs app={app} /> },
        ]}
      />
    </>
  );
}

/** Names of components that a text of a component's spec refers to: `{{ components.<name>.outputs… }}`. */
const namedIn = (spec: object): string[] =>
  [...JSON.stringify(spec).matchAll(/\{\{\s*components\.([a-z0-9-]+)\./g)].map(([, name]) => name ?? '');

function Components({ appId }: { readonly appId: string }) {
  const pages = usePages(['components', appId], (cursor) =>
    ims.get('/v1/apps/{app_id}/components', { params: { path: { app_id: appId }, query: { cursor, limit: 100 } } }),
  );
  const sorted = pages.rows.toSorted((a, b) => a.name.localeCompare(b.name));
  const after = (component: Component): string[] => [
    ...new Set([...(component.depends_on ?? []), ...namedIn(component)]),
  ];
  return (
    <Stack gap="md">
      {sorted.length > 0 && (
        <Panel title="What needs what" flush>
          <Graph
            label="Components"
            nodes={sorted.map((component) => ({
              id: component.name,
              name: component.name,
              note: '',
              status: component.kind,
              after: after(component),
            }))}
          />
        </Panel>
      )}
      <Panel flush>
        <List
          label="Components"
          pages={{ ...pages, rows: sorted }}
          keyOf={({ id }) => id}
          empty="No component yet."
          columns={[
            { name: 'Component', show: ({ name }) => <Text fz="sm">{name}</Text> },
            { name: 'Kind', show: ({ kind }) => <span className="muted">{kind}</span> },
            {
              name: 'Source',
              wide: true,
              show: ({ source, image }) => (
                <span className="mono">
                  {image ?? [source?.url, source?.directory].filter((part) => part !== undefined).join(' · ')}
                </span>
              ),
            },
            { name: 'Needs', wide: true, show: (component) => after(component).join(', ') || '–' },
          ]}
        />
      </Panel>
    </Stack>
  );
}

function Builds({ appId }: { readonly appId: string }) {
  const pages = usePages(
    ['builds', appId],
    (cursor) => ims.get('/v1/apps/{app_id}/builds', { params: { path: { app_id: appId }, query: { cursor } } }),
    { live: (rows) => rows.some((build) => !isFinal(build)) },
  );
  return (
    <Panel flush>
      <List
        label="Builds"
        pages={pages}
        keyOf={({ id }) => id}
        empty="Nothing was built yet."
        columns={[
          {
            name: 'Build',
            show: ({ component_name: name, job_id: job }) => (
              <>
                <Text fz="sm">{name}</Text>
                <Id id={job} to={`/jobs/${job}`} />
              </>
            ),
          },
          {
            name: 'Status',
            show: ({ status, error }) => (
              <>
                <Status value={status} />
                {error !== undefined && (
                  <Text fz="xs" className="muted" maw={360} lineClamp={2}>
                    {error.code}: {error.detail}
                  </Text>
                )}
              </>
            ),
          },
          {
            name: 'Commit',
            wide: true,
            show: ({ source_commit: commit }) => (
              <span className="mono">{commit?.replace('sha256:', '').slice(0, 12) ?? '–'}</span>
            ),
          },
          {
            name: 'Artifact',
            wide: true,
            show: ({ artifact }) => (artifact === undefined ? '–' : <DigestOf digest={artifact.digest} />),
          },
          {
            name: 'Size',
            wide: true,
            align: 'right',
            show: ({ artifact }) => (artifact === undefined ? '–' : bytes(artifact.size_bytes)),
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
    </Panel>
  );
}

function Inputs({ app }: { readonly app: App }) {
  return (
    <Panel flush>
      <List
        label="Inputs"
        pages={onePage(app.inputs ?? [])}
        keyOf={({ name }) => name}
        empty="Installs of this app have no inputs."
        columns={[
          { name: 'Input', show: ({ name }) => <span className="mono">{name}</span> },
          { name: 'Type', show: ({ type }) => type },
          { name: 'Required', show: ({ required }) => (required === true ? 'yes' : 'no') },
          {
            name: 'What for',
            wide: true,
            show: ({ description = '' }) => <span className="muted">{description}</span>,
          },
        ]}
      />
    </Panel>
  );
}
