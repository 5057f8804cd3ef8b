import { Stack, Text } from '@mantine/core';
import { useNavigate, useParams } from 'react-router';
import { all, ims, isFinal, useResource, type Deployment, type Job } from '../api.js';
import { Act } from '../parts/act.js';
import { Events } from '../parts/events.js';
import { Failed, PageHead, Panel, Shown } from '../parts/frame.js';
import { Graph } from '../parts/graph.js';
import { PlansOf } from '../parts/plan.js';
import { Id, Took, Facts } from '../parts/show.js';
import { Status } from '../parts/status.js';
import { PageTabs } from '../parts/tabs.js';
import { JobTable } from './jobs.js';

export const jobsOfDeployment = (id: string): Promise<Job[]> =>
  all(ims.list('/v1/jobs', { params: { query: { deployment_id: id, limit: 200 } } }));

export const isOver = ({ status }: Deployment): boolean => isFinal({ status });

/** A deployment: what it is about, its jobs as a graph that turns, what waits and why. */
export function DeploymentPage() {
  const { id = '' } = useParams();
  const deployment = useResource(
    ['deployment', id],
    () => ims.get('/v1/deployments/{deployment_id}', { params: { path: { deployment_id: id } } }),
    { live: (value) => !isOver(value) },
  );
  return <Shown of={deployment}>{(value) => <DeploymentView deployment={value} />}</Shown>;
}

function DeploymentView({ deployment }: { readonly deployment: Deployment }) {
  const { id, install_id: installId, release_id: releaseId, kind, status } = deployment;
  const navigate = useNavigate();
  const path = { params: { path: { deployment_id: id } } };
  const install = useResource(['install', installId], () =>
    ims.get('/v1/installs/{install_id}', { params: { path: { install_id: installId } } }),
  );
  const release = useResource(
    ['release', releaseId],
    () => ims.get('/v1/releases/{release_id}', { params: { path: { release_id: releaseId ?? '' } } }),
    { enabled: releaseId !== undefined },
  );
  const jobs = useResource(['jobs', 'of', id], () => jobsOfDeployment(id), { live: () => !isOver(deployment) });
  const name = install.data?.name ?? '…';
  const what = kind === 'teardown' ? 'Tear down' : deployment.rollback === true ? 'Roll back to' : 'Deploy';
  return (
    <>
      <PageHead
        title={`${what} ${release.data?.version ?? ''}`.trim()}
        trail={[
          { label: 'Installs', to: '/installs' },
          { label: name, to: `/installs/${installId}` },
        ]}
        status={<Status value={status} />}
        actions={
          <>
            {!isOver(deployment) && (
              <Act
                label="Cancel"
                danger
                question="Every job that is not finished is cancelled. A running one ends when its agent has proven that its processes are gone; what it has done already stays."
                reason="Reason"
                act={(reason) => ims.post('/v1/deployments/{deployment_id}/cancel', { ...path, body: { reason } })}
              />
            )}
            {isOver(deployment) && status !== 'succeeded' && (
              <Act
                label="Try again"
                question="A new deployment of the same kind is begun. What is as it should be already is not touched."
                act={() =>
                  ims.post('/v1/installs/{install_id}/deployments', {
                    params: { path: { install_id: installId } },
                    body: {
                      kind: kind === 'teardown' ? 'teardown' : 'deploy',
                      release_id: releaseId,
                      rollback: deployment.rollback,
                    },
                  })
                }
                done={({ id: next }) => void navigate(`/deployments/${next}`)}
              />
            )}
          </>
        }
      />
      <Stack gap="md">
        <Panel>
          <Facts
            facts={{
              Install: <Id id={installId} to={`/installs/${installId}`} />,
              Release: releaseId === undefined ? undefined : <Id id={releaseId} to={`/releases/${releaseId}`} />,
              Jobs: `${deployment.jobs.succeeded} of ${deployment.jobs.total} done${deployment.jobs.failed > 0 ? `, ${deployment.jobs.failed} failed` : ''}`,
              Took: <Took from={deployment.created_at} to={deployment.finished_at} />,
              Id: <Id id={id} />,
            }}
          />
          {deployment.error !== undefined && (
            <Text fz="sm" mt="sm" c="red">
              {deployment.error.detail}
            </Text>
          )}
        </Panel>
        <Waiting jobs={jobs.data ?? []} />
        <PageTabs
          base={`/deployments/${id}`}
          tabs={[
            {
              name: 'graph',
              label: 'Graph',
              show: () => (
                <Panel flush>
                  <Shown of={jobs}>{(rows) => <JobGraph jobs={rows} />}</Shown>
                </Panel>
              ),
            },
            {
              name: 'jobs',
              label: 'Jobs',
              show: () => (
                <Panel flush>
                  <Shown of={jobs}>{(rows) => <JobTable jobs={rows} withInstall={false} />}</Shown>
                </Panel>
              ),
            },
            {
              name: 'plan',
              label: 'Plan',
              show: () => <Shown of={jobs}>{(rows) => <PlansOf jobs={rows} />}</Shown>,
            },
            {
              name: 'events',
              label: 'Events',
              show: () => (
                <Panel flush>
                  <Events
                    of={['deployment', id]}
                    live={!isOver(deployment)}
                    read={(cursor) =>
                      ims.get('/v1/deployments/{deployment_id}/events', {
                        params: { ...path.params, query: { cursor } },
                      })
                    }
                  />
                </Panel>
              ),
            },
          ]}
        />
        {install.error !== null && <Failed error={install.error} />}
      </Stack>
    </>
  );
}

/** What keeps the deployment from going on, where somebody can do something about it. */
function Waiting({ jobs }: { readonly jobs: readonly Job[] }) {
  const stuck = jobs.filter(
    ({ waiting_reason: reason }) =>
      reason !== undefined && !['running', 'blocked_by_job', 'awaiting_claim', 'cancelling'].includes(reason.code),
  );
  if (stuck.length === 0) return null;
  return (
    <Panel title="Waiting">
      <Stack gap="xs">
        {stuck.map(({ id, kind, component, waiting_reason: reason }) => (
          <div key={id} className="change" style={{ '--tone': 'var(--tone-wait)' } as object}>
            <Text fz="sm">
              <Id id={id} to={`/jobs/${id}`} /> {kind} {component.name}: {reason?.detail}
            </Text>
            <Text fz="sm" className="muted">
              {reason?.unblock}
            </Text>
          </div>
        ))}
      </Stack>
    </Panel>
  );
}

export function JobGraph({ jobs }: { readonly jobs: readonly Job[] }) {
  return (
    <Graph
      label="Jobs of the deployment"
      nodes={jobs
        .toSorted((a, b) => a.component.name.localeCompare(b.component.name))
        .map((job) => ({
          id: job.id,
          name: job.component.name,
          note: job.kind,
          status: job.hold !== undefined && job.status === 'queued' ? 'held' : job.status,
          after: job.depends_on,
          to: `/jobs/${job.id}`,
        }))}
    />
  );
}
