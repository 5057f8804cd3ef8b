import { usePages, type Event } from '../api.js';
import { List } from './list.js';
import { Actor, Ago, Id, plain } from './show.js';

type EventPage = Promise<{ data: Event[]; next_cursor?: string }>;

const toneless = ['status', 'attempt', 'session_id'];
/** What of an event's data says more than its type does. */
const detailOf = ({ data }: Event): string =>
  Object.entries(data)
    .filter(([name, value]) => !toneless.includes(name) && value !== null && value !== '')
    .map(([name, value]) => `${name.replaceAll('_', ' ')} ${plain(value).slice(0, 160)}`)
    .join(' · ');

/** Facts, newest first, as the services recorded them. */
export function Events({
  of,
  read,
  live,
}: {
  readonly of: readonly unknown[];
  readonly read: (cursor: string | undefined) => EventPage;
  readonly live?: boolean;
}) {
  const pages = usePages(['events', ...of], read, { live: () => live === true });
  return (
    <List
      label="Events"
      pages={pages}
      keyOf={({ id }) => id}
      empty="Nothing has happened yet."
      columns={[
        { name: 'When', show: ({ at }) => <Ago at={at} /> },
        { name: 'What', show: ({ type }) => <span className="nowrap">{type}</span> },
        {
          name: 'Of',
          show: ({ job_id: job, deployment_id: deployment }) =>
            job !== undefined ? (
              <Id id={job} to={`/jobs/${job}`} />
            ) : deployment !== undefined ? (
              <Id id={deployment} to={`/deployments/${deployment}`} />
            ) : (
              ''
            ),
          wide: true,
        },
        { name: 'By', show: ({ actor }) => <Actor actor={actor} />, wide: true },
        { name: 'Detail', show: (event) => <span className="muted">{detailOf(event)}</span>, wide: true },
      ]}
    />
  );
}
