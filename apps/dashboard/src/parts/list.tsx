import { type ReactNode } from 'react';
import { Button, Group, Table } from '@mantine/core';
import { type Pages } from '../api.js';
import { Empty, Failed, Loading } from './frame.js';

export interface Column<T> {
  readonly name: string;
  readonly show: (row: T) => ReactNode;
  /** Left out on narrow screens. */
  readonly wide?: boolean;
  readonly align?: 'right';
}

/** A list as a table, page by page. */
export function List<T extends object>({
  label,
  pages,
  columns,
  keyOf,
  empty,
}: {
  readonly label: string;
  readonly pages: Pages<T>;
  readonly columns: readonly Column<T>[];
  readonly keyOf: (row: T) => string;
  readonly empty: ReactNode;
}) {
  if (pages.rows.length === 0 && pages.error !== null) return <Failed error={pages.error} />;
  if (pages.loading) return <Loading />;
  if (pages.rows.length === 0) return <Empty>{empty}</Empty>;
  return (
    <>
      {pages.error !== null && <Failed error={pages.error} />}
      <div className="scroll" tabIndex={0} role="region" aria-label={`${label}, rows`}>
        <Table highlightOnHover>
          <Table.Thead>
            <Table.Tr>
              {columns.map(({ name, wide, align }) => (
                <Table.Th
                  key={name}
                  fz="xs"
                  fw={500}
                  className="muted nowrap"
                  ta={align}
                  visibleFrom={wide ? 'sm' : undefined}
                >
                  {name}
                </Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {pages.rows.map((row) => (
              <Table.Tr key={keyOf(row)}>
                {columns.map(({ name, show, wide, align }) => (
                  <Table.Td key={name} ta={align} visibleFrom={wide ? 'sm' : undefined}>
                    {show(row)}
                  </Table.Td>
                ))}
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </div>
      {pages.more && (
        <Group justify="center" p="xs">
          <Button variant="subtle" onClick={pages.loadMore} loading={pages.loadingMore}>
            Show more
          </Button>
        </Group>
      )}
    </>
  );
}
