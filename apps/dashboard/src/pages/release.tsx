import { Stack, Text } from '@mantine/core';
import { Link, useParams } from 'react-router';
import { ims, onePage, usePages, useResource, type Release } from '../api.js';
import { PageHead, Panel, Shown } from '../parts/frame.js';
import { List } from '../parts/list.js';
import { Ago, bytes, DigestOf, Facts, Id } from '../parts/show.js';

export function Releases({ appId }: { readonly appId: string }) {
  const pages = usePages(['releases', appId], (cursor) =>
    ims.get('/v1/apps/{app_id}/releases', { params: { path: { app_id: appId }, query: { cursor } } }),
  );
  return (
    <List
      label="Releases"
      pages={pages}
      keyOf={({ id }) => id}
      empty="No release yet: build, then make one."
      columns={[
        {
          name: 'Version',
          show: ({ id, version }) => (
            <Link to={`/releases/${id}`} className="link">
              {version}
            </Link>
          ),
        },
        { name: 'Components', show: ({ components }) => components.length },
        { name: 'Id', wide: true, show: ({ id }) => <Id id={id} /> },
        { name: 'Made', align: 'right', show: ({ created_at: at }) => <Ago at={at} /> },
      ]}
    />
  );
}

/** A release: exactly which artifact of each component it is. */
export function ReleasePage() {
  const { id = '' } = useParams();
  const release = useResource(['release', id], () =>
    ims.get('/v1/releases/{release_id}', { params: { path: { release_id: id } } }),
  );
  return <Shown of={release}>{(value) => <ReleaseView release={value} />}</Shown>;
}

function ReleaseView({ release }: { readonly release: Release }) {
  const app = useResource(['app', release.app_id], () =>
    ims.get('/v1/apps/{app_id}', { params: { path: { app_id: release.app_id } } }),
  );
  return (
    <>
      <PageHead
        title={`Release ${release.version}`}
        trail={[
          { label: 'Apps', to: '/apps' },
          { label: app.data?.name ?? '…', to: `/apps/${release.app_id}/releases` },
        ]}
      />
      <Stack gap="md">
        <Panel>
          <Facts
            facts={{
              App: app.data?.name ?? '…',
              Components: release.components.length,
              Made: <Ago at={release.created_at} />,
              Id: <Id id={release.id} />,
            }}
          />
        </Panel>
        <Panel flush title="Artifacts">
          <List
            label="Artifacts"
            pages={onePage(release.components.toSorted((a, b) => a.name.localeCompare(b.name)))}
            keyOf={({ name }) => name}
            empty="There is none."
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
              { name: 'Digest', show: ({ artifact }) => <DigestOf digest={artifact.digest} /> },
              {
                name: 'Repository',
                wide: true,
                show: ({ artifact }) => <span className="mono">{artifact.repository}</span>,
              },
              {
                name: 'Commit',
                wide: true,
                show: ({ source_commit: commit }) => (
                  <span className="mono">{commit.replace('sha256:', '').slice(0, 12)}</span>
                ),
              },
              { name: 'Size', wide: true, align: 'right', show: ({ artifact }) => bytes(artifact.size_bytes) },
            ]}
          />
        </Panel>
      </Stack>
    </>
  );
}
