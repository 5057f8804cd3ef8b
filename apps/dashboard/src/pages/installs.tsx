import { useEffect, useRef, useState } from 'react';
import { Group, NativeSelect, Text, TextInput } from '@mantine/core';
import { useDebouncedValue, useHotkeys } from '@mantine/hooks';
import { useVirtualizer } from '@tanstack/react-virtual';
import { Link } from 'react-router';
import { ims, usePages, type Schemas } from '../api.js';
import { Empty, Failed, Loading, PageHead } from '../parts/frame.js';
import { Ago } from '../parts/show.js';
import { Status } from '../parts/status.js';

type Row = Schemas['FleetInstall'];
const ROW_PX = 44;
const HEALTHS = ['healthy', 'deploying', 'degraded', 'failed', 'offline', 'absent'] as const;

/** Every install at a glance, found by typing: rows are read as one scrolls, and only those in sight are drawn. */
export function Installs() {
  const [text, setText] = useState('');
  const [q] = useDebouncedValue(text.trim(), 200);
  const [health, setHealth] = useState('');
  const search = useRef<HTMLInputElement>(null);
  useHotkeys([['/', () => search.current?.focus()]]);
  const pages = usePages(['fleet', q, health], (cursor) =>
    ims.get('/v1/fleet', {
      params: {
        query: {
          cursor,
          limit: 100,
          ...(q === '' ? {} : { q }),
          ...(health === '' ? {} : { health: health as Row['health'] }),
        },
      },
    }),
  );
  return (
    <>
      <PageHead title="Installs" />
      <Group gap="xs" mb="sm">
        <TextInput
          ref={search}
          placeholder="Search by name, app, version or id"
          aria-label="Search installs"
          value={text}
          onChange={({ currentTarget }) => setText(currentTarget.value)}
          style={{ flex: '1 1 240px' }}
          rightSection={<kbd className="muted">/</kbd>}
        />
        <NativeSelect
          aria-label="Health"
          value={health}
          onChange={({ currentTarget }) => setHealth(currentTarget.value)}
          data={[{ value: '', label: 'any health' }, ...HEALTHS]}
        />
      </Group>
      <div className="panel">
        {pages.error !== null && <Failed error={pages.error} />}
        {pages.loading ? (
          <Loading />
        ) : pages.rows.length === 0 ? (
          <Empty>
            {q === '' && health === ''
              ? 'No install yet. Create one for a customer with POST /v1/installs, or with `ims install create`.'
              : 'No install is like that.'}
          </Empty>
        ) : (
          <Rows rows={pages.rows} more={pages.more} loadMore={pages.loadMore} />
        )}
      </div>
      <Text fz="xs" className="muted" mt={6}>
        {pages.rows.length.toLocaleString()}
        {pages.more ? '+' : ''} installs
      </Text>
    </>
  );
}

function Rows({
  rows,
  more,
  loadMore,
}: {
  readonly rows: readonly Row[];
  readonly more: boolean;
  readonly loadMore: () => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const list = useVirtualizer({
    count: rows.length,
    getScrollElement: () => box.current,
    estimateSize: () => ROW_PX,
    overscan: 12,
  });
  const items = list.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (more && last >= rows.length - 20) loadMore();
  }, [last, more, rows.length, loadMore]);
  return (
    <>
      <div className="fleet-row muted" style={{ fontSize: 12, height: 34 }} aria-hidden>
        <span>Install</span>
        <span>Version</span>
        <span>Health</span>
        <span>Agent</span>
        <span>Last contact</span>
        <span>App</span>
      </div>
      <div
        ref={box}
        className="scroll"
        style={{ maxHeight: 'calc(100vh - 230px)' }}
        tabIndex={0}
        role="region"
        aria-label="Installs"
      >
        <div style={{ height: list.getTotalSize(), position: 'relative' }}>
          {items.map(({ index, start }) => {
            const row = rows[index];
            return row === undefined ? null : (
              <Link
                key={row.id}
                to={`/installs/${row.id}`}
                className="fleet-row"
                style={{ position: 'absolute', inset: '0 0 auto 0', transform: `translateY(${start}px)` }}
              >
                <Text span fw={500}>
                  {row.name}
                </Text>
                <span>
                  {row.version ?? <span className="muted">–</span>}
                  {row.behind > 0 && (
                    <span className="muted" title={`${row.behind} newer releases`}>
                      {' '}
                      −{row.behind}
                    </span>
                  )}
                </span>
                <Status value={row.health} />
                <Status value={row.presence} />
                <Ago at={row.last_seen_at} />
                <span className="muted">{row.app_name}</span>
              </Link>
            );
          })}
        </div>
      </div>
    </>
  );
}
