import { isFinal, pause, type Schemas } from '#client';
import { CliError, codeOf } from './exit.js';
import { type Session } from './session.js';
import { cutTo, duration, padTo, symbolOf } from './terminal.js';

type Job = Schemas['Job'];

const LOOK_MS = 400;
const FRAME_MS = 100;
const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/** Reasons that only a person ends. A command that nobody watches leaves when there are no others. */
const NEEDS_A_YES: readonly string[] = ['awaiting_customer_approval', 'awaiting_approval', 'token_tampered'];
/** Of a log that failed, so many lines are shown. */
const LAST_LINES = 8;

export interface Watched {
  readonly title: string;
  /** The jobs as they are now. */
  readonly list: () => Promise<Job[]>;
  /** On `performance.now()`'s clock. */
  readonly deadline: number;
}

/**
 * Watches jobs to their end: a task list that is redrawn for people, a line for each change elsewhere. Answers the exit
 * code. Ctrl-C and a deadline leave the work as it is.
 */
export async function watchJobs(session: Session, watched: Watched): Promise<number> {
  const view = session.terminal.isLive ? new TaskList(session, watched.title) : new PlainLines(session, watched.title);
  const { signal } = session.interrupted;
  let jobs: Job[] = [];
  try {
    for (;;) {
      jobs = await watched.list();
      const steps = session.terminal.isLive ? await runningSteps(session, jobs) : new Map<string, string>();
      view.show(jobs, steps);
      if (jobs.length > 0 && jobs.every(isFinal)) break;
      if (!session.terminal.isLive && jobs.every((job) => isFinal(job) || waitsForYes(job))) {
        view.end();
        tellWhoIsAsked(session, jobs);
        return codeOf('waitsForApproval');
      }
      if (performance.now() >= watched.deadline) {
        throw new CliError('timedOut', `not done within the time of --timeout; it goes on`);
      }
      await pause(LOOK_MS, signal);
    }
  } finally {
    view.end();
  }
  const failed = jobs.filter(({ status }) => status === 'failed');
  for (const job of failed) await tellWhy(session, job);
  return jobs.every(({ status }) => status === 'succeeded') ? codeOf('ok') : codeOf('failed');
}

const waitsForYes = ({ waiting_reason: why }: Job): boolean =>
  why !== undefined && (NEEDS_A_YES.includes(why.code) || why.code === 'blocked_by_job');

function tellWhoIsAsked(session: Session, jobs: readonly Job[]): void {
  for (const { component, kind, waiting_reason: why } of jobs) {
    if (why === undefined || !NEEDS_A_YES.includes(why.code)) continue;
    session.terminal.tell(`${kind} ${component.name} waits: ${why.detail}`);
    if (why.unblock !== '') session.terminal.tell(`  ${why.unblock}`);
  }
}

/** The step that each running job is in; of a few only, it is one request each. */
async function runningSteps(session: Session, jobs: readonly Job[]): Promise<Map<string, string>> {
  const running = jobs.filter(({ status, attempt }) => status === 'running' && attempt > 0).slice(0, 6);
  const steps = await Promise.all(
    running.map(async ({ id }) => {
      const page = await session.client
        .get('/v1/jobs/{job_id}/attempts', { params: { path: { job_id: id } } })
        .catch(() => undefined);
      const step = page?.data[0]?.steps.at(-1);
      return [id, step?.status === 'started' ? step.name : ''] as const;
    }),
  );
  return new Map(steps);
}

/** What failed, why, the end of its log, and what to do next. */
async function tellWhy(session: Session, job: Job): Promise<void> {
  const { terminal, client } = session;
  const colour = terminal.errorColours;
  const { code = 'failed', detail = '' } = job.error ?? {};
  terminal.tell(`\n${colour.red('✗')} ${colour.bold(`${job.kind} ${job.component.name}`)}: ${code}: ${detail}`);
  const lines: string[] = [];
  try {
    for await (const { text } of client.readLogs(job.id)) {
      lines.push(text);
      if (lines.length > LAST_LINES) lines.shift();
    }
  } catch {
    // The log is away: the reason is told all the same.
  }
  for (const text of lines) terminal.tell(`  ${colour.dim('│')} ${cutTo(text, terminal.width - 4)}`);
  const entry = await client.get('/errors/{code}', { params: { path: { code } } }).catch(() => undefined);
  if (entry !== undefined) terminal.tell(`  ${entry.next}`);
  terminal.hint('the whole log:', `ims logs ${job.id}`);
}

interface JobsView {
  show(jobs: readonly Job[], steps: ReadonlyMap<string, string>): void;
  end(): void;
}

const labelOf = ({ kind, component }: Job): string => `${kind} ${component.name}`;
function timeOf({ started_at: from, finished_at: to }: Job): string {
  return from === undefined ? '' : duration((to === undefined ? Date.now() : Date.parse(to)) - Date.parse(from));
}

/** A block of lines on a terminal, redrawn in place. */
class TaskList implements JobsView {
  private readonly began = performance.now();
  private readonly timer: NodeJS.Timeout;
  private jobs: readonly Job[] = [];
  private steps: ReadonlyMap<string, string> = new Map();
  private drawn = 0;
  private frame = 0;
  private ended = false;

  constructor(
    private readonly session: Session,
    private readonly title: string,
  ) {
    this.timer = setInterval(() => this.draw(), FRAME_MS);
    process.stderr.write('\x1b[?25l');
  }

  show(jobs: readonly Job[], steps: ReadonlyMap<string, string>): void {
    // Oldest first: the order in which they were planned.
    this.jobs = [...jobs].sort((a, b) => (a.id < b.id ? -1 : 1));
    this.steps = steps;
    this.draw();
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    clearInterval(this.timer);
    this.draw();
    process.stderr.write('\x1b[?25h');
  }

  private draw(): void {
    const { terminal } = this.session;
    const colour = terminal.errorColours;
    const width = Math.max(12, ...this.jobs.map((job) => labelOf(job).length));
    const spin = SPINNER[this.frame++ % SPINNER.length] ?? '';
    const rows = this.jobs.map((job) => {
      const mark = job.status === 'running' ? colour.cyan(spin) : symbolOf(job.status, colour);
      const what = isFinal(job) ? job.status : job.status === 'running' ? (this.steps.get(job.id) ?? '') : '';
      const why = job.waiting_reason;
      const note = what !== '' || why === undefined ? what : `${why.code.replaceAll('_', ' ')}: ${why.detail}`;
      return `  ${mark} ${padTo(labelOf(job), width)}  ${padTo(timeOf(job), 9)} ${colour.dim(note)}`;
    });
    const room = Math.max(4, (process.stderr.rows ?? 40) - 3);
    const hidden = rows.length - room;
    // Too many for the screen: what has ended well gives way first.
    const shown = hidden > 0 ? [...rows.slice(hidden), `  ${colour.dim(`… and ${hidden} before`)}`] : rows;
    const done = this.jobs.filter(isFinal).length;
    const head = `${colour.bold(this.title)}  ${colour.dim(`${done}/${this.jobs.length}  ${duration(performance.now() - this.began)}`)}`;
    const lines = [head, ...shown].map((line) => cutTo(line, terminal.width - 1));
    const up = this.drawn > 0 ? `\x1b[${this.drawn}A` : '';
    process.stderr.write(`${up}${lines.map((line) => `\x1b[2K${line}`).join('\n')}\n\x1b[J`);
    this.drawn = lines.length;
  }
}

/** One line for each change: for CI and pipes. */
class PlainLines implements JobsView {
  private readonly told = new Map<string, string>();

  constructor(
    private readonly session: Session,
    title: string,
  ) {
    session.terminal.tell(title);
  }

  show(jobs: readonly Job[]): void {
    for (const job of [...jobs].sort((a, b) => (a.id < b.id ? -1 : 1))) {
      const why = isFinal(job) || job.status === 'running' ? undefined : job.waiting_reason;
      const state = `${job.status}${why === undefined ? '' : ` (${why.code})`}`;
      if (this.told.get(job.id) === state) continue;
      this.told.set(job.id, state);
      const note = isFinal(job) ? `in ${timeOf(job) || '0 ms'}` : (why?.detail ?? '');
      const time = new Date().toISOString().slice(11, 19);
      this.session.terminal.tell(`${time}  ${padTo(labelOf(job), 24)} ${state}${note === '' ? '' : `  ${note}`}`);
    }
  }

  end(): void {
    // Every line is out already.
  }
}
