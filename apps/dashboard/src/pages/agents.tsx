import { Group, Text } from '@mantine/core';
import { Link } from 'react-router';
import { ims, usePages } from '../api.js';
import { Act } from '../parts/act.js';
import { PageHead, Panel } from '../parts/frame.js';
import { List } from '../parts/list.js';
import { Ago, Id } from '../parts/show.js';
import { Status } from '../parts/status.js';

/** Build agents and install agents: are they there, and who may no longer be. */
export function Agents() {
  const pages = usePages(['agents'], (cursor) => ims.get('/v1/agents', { params: { query: { cursor } } }), {
    live: () => true,
  });
  return (
    <>
      <PageHead title="Agents" />
      <Panel flush>
        <List
          label="Agents"
          pages={pages}
          keyOf={({ id }) => id}
          empty="No agent yet."
          columns={[
            {
              name: 'Agent',
              show: ({ id, kind, install_id: install }) => (
                <>
                  <Text fz="sm">{kind} agent</Text>
                  <Id id={id} />
                  {install !== undefined && (
                    <Text fz="xs">
                      of{' '}
                      <Link className="link" to={`/installs/${install}`}>
                        its install
                      </Link>
                    </Text>
                  )}
                </>
              ),
            },
            { name: 'Presence', show: ({ presence }) => <Status value={presence} /> },
            { name: 'Seen', wide: true, show: ({ last_seen_at: at }) => <Ago at={at} /> },
            { name: 'Version', wide: true, show: ({ version }) => version ?? '–' },
            {
              name: 'Key',
              wide: true,
              show: ({ public_key: key }) => (
                <span className="mono" title={key}>
                  {key === undefined ? '–' : `${key.slice(0, 6)}…${key.slice(-6)}`}
                </span>
              ),
            },
            {
              name: 'Actions',
              align: 'right',
              show: ({ id, presence }) =>
                presence !== 'revoked' && (
                  <Group gap={6} justify="flex-end" wrap="nowrap">
                    <Act
                      label="Revoke"
                      size="compact-xs"
                      danger
                      question="Its identity ends within seconds, on live connections too. Only a new enrolment token brings the agent back, under a new key."
                      act={() => ims.post('/v1/agents/{agent_id}/revoke', { params: { path: { agent_id: id } } })}
                    />
                  </Group>
                ),
            },
          ]}
        />
      </Panel>
    </>
  );
}
