import { useState } from 'react';
import { NativeSelect, Text } from '@mantine/core';
import { ims, isFinal, onePage, usePages, type Job } from '../api.js';
import { PageHead, Panel } from '../parts/frame.js';
import { List, type Column } from '../parts/list.js';
import { Ago, Id, Took } from '../parts/show.js';
import { Status } from '../parts/status.js';

const STATUSES = ['running', 'queued', 'blocked', 'cancelling', 'failed', 'succeeded', 'cancelled', 'skipped'] as const;

const columnsOf = (withInstall: boolean): Column<Job>[] => [
  {
    name: 'Job',
    show: ({ id, kind, component }) => (
      <>
        <Text span fz="sm" fw={500}>
          {kind} {component.name}
        </Text>
        <br />
        <Id id={id} to={`/jobs/${id}`} />
      </>
    ),
  },
  {
    name: 'Status',
    show: (job) => (
      <>
        <Status value={job.hold !== undefined && job.status === 'queued' ? 'held' : job.status} />
        {!isFinal(job) && job.waiting_reason !== undefined && job.status !== 'running' && (
          <Text fz="xs" className="muted" maw={360}>
            {job.waiting_reason.detail}
          </Text>
        )}
        {job.error !== undefined && (
          <Text fz="xs" className="muted" maw={420} lineClamp={2}>
            {job.error.code}: {job.error.detail}
          </Text>
        )}
      </>
    ),
  },
  ...(withInstall
    ? [
        {
          name: 'Install',
          wide: true,
          show: ({ install_id: install }: Job) =>
            install === undefined ? <span className="muted">–</span> : <Id id={install} to={`/installs/${install}`} />,
        },
      ]
    : []),
  { name: 'Attempt', wide: true, align: 'right', show: ({ attempt }) => attempt },
  { name: 'Took', wide: true, align: 'right', show: (job) => <Took from={job.started_at} to={job.finished_at} /> },
  { name: 'Begun', wide: true, align: 'right', show: ({ created_at: at }) => <Ago at={at} /> },
];

/** Jobs that are all there. */
export function JobTable({ jobs, withInstall }: { readonly jobs: readonly Job[]; readonly withInstall: boolean }) {
  return (
    <List
      label="Jobs"
      pages={onePage(jobs)}
      columns={columnsOf(withInstall)}
      keyOf={({ id }) => id}
      empty="There is no job."
    />
  );
}

export function Jobs() {
  const [status, setStatus] = useState('');
  const pages = usePages(
    ['jobs', status],
    (cursor) =>
      ims.get('/v1/jobs', {
        params: { query: { cursor, ...(status === '' ? {} : { status: status as Job['status'] }) } },
      }),
    { live: (rows) => rows.some((job) => !isFinal(job)) },
  );
  return (
    <>
      <PageHead title="Jobs" />
      <Panel
        flush
        title="All jobs"
        aside={
          <NativeSelect
            size="xs"
            aria-label="Status"
            value={status}
            onChange={({ currentTarget }) => setStatus(currentTarget.value)}
            data={[{ value: '', label: 'any status' }, ...STATUSES]}
          />
        }
      >
        <List
          label="Jobs"
          pages={pages}
          columns={columnsOf(true)}
          keyOf={({ id }) => id}
          empty="There is no such job."
        />
      </Panel>
    </>
  );
}
