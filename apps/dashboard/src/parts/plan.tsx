import { Group, Stack, Text } from '@mantine/core';
import { ApiError, ims, isFinal, useResource, type Job, type Schemas } from '../api.js';
import { Empty, Failed, Loading, Panel } from './frame.js';
import { Ago, DigestOf, Id } from './show.js';
import { toneStyle, type Tone } from './status.js';

type Plan = Schemas['JobPlan'];
type Change = Plan['changes'][number];

/** What takes something away comes first, whatever order the plan has. */
const ORDER = ['delete', 'replace', 'update', 'create', 'run'] as const;
const TONES: Readonly<Record<Change['action'], Tone>> = {
  delete: 'bad',
  replace: 'bad',
  update: 'wait',
  create: 'good',
  run: 'busy',
};

/** The plan of a job's newest attempt that made one; null: there is none yet. Asked for only where a step made one. */
async function readPlan(jobId: string): Promise<Plan | null> {
  const path = { params: { path: { job_id: jobId } } };
  const { data: attempts } = await ims.get('/v1/jobs/{job_id}/attempts', path);
  const made = attempts.some(({ steps }) => steps.some(({ name, status }) => name === 'plan' && status === 'done'));
  if (!made) return null;
  return ims.get('/v1/jobs/{job_id}/plan', path).catch((error: unknown) => {
    if (error instanceof ApiError && error.code === 'not_found') return null;
    throw error;
  });
}

/** What a job changes, or would change, thing by thing. */
export function PlanOf({ job }: { readonly job: Job }) {
  const plans = job.kind === 'apply' || job.kind === 'destroy';
  const plan = useResource(['plan', job.id, job.attempt], () => readPlan(job.id), {
    enabled: plans && job.attempt > 0,
    live: (value) => value === null && !isFinal(job),
  });
  if (!plans) return <Empty>A {job.kind} changes nothing of the product.</Empty>;
  if (job.attempt === 0) return <Empty>It is planned when an agent begins it.</Empty>;
  if (plan.error !== null) return <Failed error={plan.error} />;
  if (plan.data === undefined) return <Loading />;
  if (plan.data === null) return <Empty>No plan was made yet.</Empty>;
  return <PlanView plan={plan.data} />;
}

function PlanView({ plan }: { readonly plan: Plan }) {
  const changes = plan.changes.toSorted((a, b) => ORDER.indexOf(a.action) - ORDER.indexOf(b.action));
  return (
    <Stack gap="sm">
      <Group gap="lg">
        <Text fz="sm" fw={500}>
          {plan.changed
            ? `${plan.deleted} to delete, ${plan.updated} to change, ${plan.created} to create`
            : 'Nothing changes'}
        </Text>
        <Text fz="xs" className="muted">
          planned <Ago at={plan.planned_at} /> by attempt {plan.attempt}, <DigestOf digest={plan.digest} />
        </Text>
      </Group>
      <div>
        {changes.map((change) => (
          <ChangeView key={`${change.action} ${change.namespace ?? ''} ${change.resource}`} change={change} />
        ))}
      </div>
      {plan.omitted > 0 && (
        <Text fz="xs" className="muted">
          {plan.omitted} more had no room; the job’s log has all of it.
        </Text>
      )}
    </Stack>
  );
}

function ChangeView({ change: { action, resource, namespace, fields = [] } }: { readonly change: Change }) {
  return (
    <div className="change" style={toneStyle(TONES[action])}>
      <Text fz="sm">
        <Text span fw={600} fz="sm">
          {action}
        </Text>{' '}
        <span className="mono">{resource}</span>
        {namespace !== undefined && <span className="muted"> in {namespace}</span>}
      </Text>
      {fields.map(({ path, before, after, hidden }) => (
        <Text key={path} fz="xs">
          <span className="mono">{path}</span>{' '}
          {hidden === true ? (
            <span className="muted">changes (sensitive, not shown)</span>
          ) : (
            <>
              <span className="mono muted">{before ?? 'nothing'}</span> →{' '}
              <span className="mono">{after ?? 'nothing'}</span>
            </>
          )}
        </Text>
      ))}
    </div>
  );
}

/** All plans of a deployment, those that delete first. */
export function PlansOf({ jobs }: { readonly jobs: readonly Job[] }) {
  const planned = jobs.filter(({ kind }) => kind === 'apply' || kind === 'destroy');
  if (planned.length === 0) return <Empty>Nothing to plan.</Empty>;
  return (
    <Stack gap="md">
      {planned.map((job) => (
        <Panel
          key={job.id}
          title={`${job.kind} ${job.component.name}`}
          aside={<Id id={job.id} to={`/jobs/${job.id}/plan`} />}
        >
          <PlanOf job={job} />
        </Panel>
      ))}
    </Stack>
  );
}
