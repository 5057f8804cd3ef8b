import { Text } from '@mantine/core';
import { Link } from 'react-router';
import { ims, usePages } from '../api.js';
import { PageHead, Panel } from '../parts/frame.js';
import { List } from '../parts/list.js';
import { Ago, Id } from '../parts/show.js';

export function Apps() {
  const pages = usePages(['apps'], (cursor) => ims.get('/v1/apps', { params: { query: { cursor } } }));
  return (
    <>
      <PageHead title="Apps" />
      <Panel flush>
        <List
          label="Apps"
          pages={pages}
          keyOf={({ id }) => id}
          empty="No app yet. Create one with POST /v1/apps, or with `ims apply`."
          columns={[
            {
              name: 'App',
              show: ({ id, name }) => (
                <Link to={`/apps/${id}`} className="link">
                  {name}
                </Link>
              ),
            },
            {
              name: 'Inputs',
              show: ({ inputs = [] }) => (
                <Text fz="sm" className="muted">
                  {inputs.map(({ name }) => name).join(', ') || 'none'}
                </Text>
              ),
            },
            { name: 'Id', wide: true, show: ({ id }) => <Id id={id} /> },
            { name: 'Created', wide: true, align: 'right', show: ({ created_at: at }) => <Ago at={at} /> },
          ]}
        />
      </Panel>
    </>
  );
}
