import { Code, Group, Stack, Text } from '@mantine/core';
import { useParams } from 'react-router';
import { ims, isFinal, useResource, type Attempt, type Job } from '../api.js';
import { Act } from '../parts/act.js';
import { Events } from '../parts/events.js';
import { Empty, PageHead, Panel, Shown } from '../parts/frame.js';
import { Log } from '../parts/log.js';
import { PlanOf } from '../parts/plan.js';
import { Ago, duration, Facts, Id, plain, Took } from '../parts/show.js';
import { Status, toneOf, toneStyle } from '../parts/status.js';
import { PageTabs } from '../parts/tabs.js';

/** A job: why it waits, its attempts and their steps, its log as it grows. */
export function JobPage() {
  const { id = '' } = useParams();
  const job = useResource(['job', id], () => ims.get('/v1/jobs/{job_id}', { params: { path: { job_id: id } } }), {
    live: (value) => !isFinal(value),
  });
  return <Shown of={job}>{(value) => <JobView job={value} />}</Shown>;
}

function JobView({ job }: { readonly job: Job }) {
  const { id, kind, component, status } = job;
  const path = { params: { path: { job_id: id } } };
  const attempts = useResource(['attempts', id], () => ims.get('/v1/jobs/{job_id}/attempts', path), {
    live: () => !isFinal(job),
  });
  const tampered = job.hold?.code === 'token_tampered';
  return (
    <>
      <PageHead
        title={`${kind} ${component.name}`}
        trail={[
          ...(job.install_id === undefined ? [] : [{ label: 'Install', to: `/installs/${job.install_id}` }]),
          ...(job.deployment_id === undefined
            ? []
            : [{ label: 'Deployment', to: `/deployments/${job.deployment_id}` }]),
          ...(job.install_id === undefined && job.deployment_id === undefined ? [{ label: 'Jobs', to: '/jobs' }] : []),
        ]}
        status={<Status value={job.hold !== undefined && status === 'queued' ? 'held' : status} />}
        actions={
          !isFinal(job) && (
            <>
              {tampered && (
                <Act
                  label="Resume"
                  question="A token of this job was presented by somebody else, so it is held. Resume it when you know what happened: it gets a new token."
                  reason="What was found"
                  act={(reason) => ims.post('/v1/jobs/{job_id}/resume', { ...path, body: { reason } })}
                />
              )}
              <Act
                label="Cancel"
                danger
                question="A running job ends when its agent has proven that its processes are gone; what it has done already stays."
                reason="Reason"
                act={(reason) => ims.post('/v1/jobs/{job_id}/cancel', { ...path, body: { reason } })}
              />
            </>
          )
        }
      />
      <Stack gap="md">
        <Panel>
          <Facts
            facts={{
              Component: (
                <>
                  {component.name} <span className="muted">{component.kind}</span>
                </>
              ),
              Attempt: job.attempt === 0 ? 'none yet' : String(job.attempt),
              Agent: <Id id={job.agent_id} to="/agents" />,
              Took: <Took from={job.started_at} to={job.finished_at} />,
              Begun: <Ago at={job.created_at} />,
              Id: <Id id={id} />,
            }}
          />
        </Panel>
        {!isFinal(job) && job.waiting_reason !== undefined && status !== 'running' && (
          <Panel>
            <div className="change" style={toneStyle('wait')}>
              <Text fz="sm">{job.waiting_reason.detail}</Text>
              <Text fz="sm" className="muted">
                {job.waiting_reason.unblock}
              </Text>
            </div>
          </Panel>
        )}
        {job.error !== undefined && (
          <Panel>
            <div className="change" style={toneStyle('bad')}>
              <Text fz="sm" style={{ whiteSpace: 'pre-wrap' }}>
                {job.error.detail}
              </Text>
              <a className="link" href={`/errors/${job.error.code}`}>
                {job.error.code}
              </a>
            </div>
          </Panel>
        )}
        <PageTabs
          base={`/jobs/${id}`}
          tabs={[
            {
              name: 'log',
              label: 'Log',
              show: () => (
                <Panel flush>
                  <Log jobId={id} />
                </Panel>
              ),
            },
            {
              name: 'steps',
              label: 'Attempts and steps',
              show: () => (
                <Shown of={attempts}>
                  {({ data }) =>
                    data.length === 0 ? (
                      <Panel>
                        <Empty>No agent has begun it yet.</Empty>
                      </Panel>
                    ) : (
                      <Stack gap="md">
                        {data
                          .toSorted((a, b) => b.number - a.number)
                          .map((attempt) => (
                            <AttemptView key={attempt.number} attempt={attempt} />
                          ))}
                      </Stack>
                    )
                  }
                </Shown>
              ),
            },
            {
              name: 'plan',
              label: 'Plan',
              show: () => (
                <Panel>
                  <PlanOf job={job} />
                </Panel>
              ),
            },
            {
              name: 'result',
              label: 'Result',
              show: () => (
                <Panel>
                  {job.result === undefined ? (
                    <Empty>There is none yet.</Empty>
                  ) : (
                    <Code block fz="xs">
                      {JSON.stringify(job.result, null, 2)}
                    </Code>
                  )}
                </Panel>
              ),
            },
            {
              name: 'events',
              label: 'Events',
              show: () => (
                <Panel flush>
                  <Events
                    of={['job', id]}
                    live={!isFinal(job)}
                    read={(cursor) =>
                      ims.get('/v1/jobs/{job_id}/events', { params: { ...path.params, query: { cursor } } })
                    }
                  />
                </Panel>
              ),
            },
          ]}
        />
      </Stack>
    </>
  );
}

/** The steps of an attempt, each as long as it took: who waits sees for what. */
function AttemptView({ attempt }: { readonly attempt: Attempt }) {
  const longest = Math.max(1, ...attempt.steps.map(({ duration_ms: ms }) => ms ?? 0));
  return (
    <Panel
      title={`Attempt ${attempt.number}`}
      aside={
        <Group gap="md">
          <Status value={attempt.status} />
          <Text fz="sm" className="muted">
            <Took from={attempt.granted_at} to={attempt.ended_at} />
          </Text>
        </Group>
      }
    >
      <Stack gap={10}>
        {attempt.error !== undefined && (
          <div className="change" style={toneStyle('bad')}>
            <Text fz="sm">
              {attempt.error.code}: {attempt.error.detail}
            </Text>
          </div>
        )}
        {attempt.steps.map((step) => (
          <div key={step.name}>
            <Group justify="space-between" gap="xs" mb={4}>
              <Group gap="sm">
                <Status value={step.status}>{step.name}</Status>
                <Text fz="xs" className="muted" lineClamp={1}>
                  {Object.entries(step.detail ?? {})
                    .filter(([, value]) => typeof value !== 'object')
                    .map(([name, value]) => `${name} ${plain(value).slice(0, 80)}`)
                    .join(' · ')}
                </Text>
              </Group>
              <Text fz="xs" className="nowrap">
                {step.duration_ms === undefined ? (
                  <Took from={step.started_at} to={undefined} />
                ) : (
                  duration(step.duration_ms)
                )}
              </Text>
            </Group>
            <div
              className="bar"
              style={{
                ...toneStyle(toneOf(step.status)),
                width: `${((step.duration_ms ?? longest) / longest) * 100}%`,
              }}
            />
          </div>
        ))}
        {attempt.steps.length === 0 && <Empty>No step was reported yet.</Empty>}
      </Stack>
    </Panel>
  );
}
