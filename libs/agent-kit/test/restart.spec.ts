import { jetstreamManager } from '@nats-io/jetstream';
import { Injectable } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { offersOf, type JsonObject } from '#contracts';
import { startNats } from '#stack';
import { AgentModule, AgentRuntime, Identity, RegistryTokens } from '../src/index.js';
import { type FakeScheduler } from './fake-scheduler.js';
import { FAST, Lab, STUBBORN, alive, stubbornPids } from './lab.js';
import { ScriptHandler } from './script-handler.js';
import { waitFor } from './wait.js';

let lab: Lab;
let scheduler: FakeScheduler;
beforeAll(async () => {
  lab = await Lab.open(startNats);
  ({ scheduler } = lab);
});
afterAll(() => lab.close());
beforeEach(() => lab.begin());
afterEach(() => lab.end());

describe('a restart', () => {
  it('after kill -9 in a step: the tool is gone at once, the first step is not repeated, the second is', async () => {
    // A start takes seconds on a busy machine; the lease is not what is tested.
    scheduler.leaseMs = 60_000;
    const { child } = await lab.spawnAgent();
    const mark = join(lab.stateDir, 'firsts');
    const job = await scheduler.offer(
      { name: 'first', script: `echo x >> ${mark}` },
      { name: 'second', script: `[ -n "$CRASHED" ] && { echo back; exit 0; }; ${STUBBORN}` },
      { name: 'third', script: 'echo last' },
    );
    const pids = await stubbornPids(scheduler, job);
    const from = performance.now();
    child.kill('SIGKILL');
    await waitFor(() => !pids.some(alive));
    expect(performance.now() - from).toBeLessThan(2_000);
    expect(await lab.journals()).toHaveLength(1);
    await lab.spawnAgent();
    await waitFor(() => scheduler.resultOf(job) !== undefined);
    expect(scheduler.resultOf(job)).toMatchObject({ attempt: 1, outcome: 'succeeded' });
    expect(scheduler.resumes.at(-1)).toMatchObject({ job_id: job, attempt: 1 });
    expect(await readFile(mark, 'utf8')).toBe('x\n');
    await waitFor(() => scheduler.logEnded(job));
    expect(scheduler.linesOf(job)).toEqual(expect.arrayContaining(['step second again', 'back', 'last']));
    await lab.settled();
  });

  it('finds that another attempt has taken over: leftovers go, nothing is reported', async () => {
    const { child, ended } = await lab.spawnAgent();
    const job = await scheduler.offer({ name: 'first', script: STUBBORN });
    await waitFor(() => scheduler.stepsOf(job).length === 1);
    child.kill('SIGKILL');
    await ended;
    scheduler.takeAway(job);
    await lab.startAgent();
    await lab.settled();
    expect(scheduler.resultOf(job)).toBeUndefined();
    await waitFor(async () => (await readdir(join(lab.stateDir, 'work'))).length === 0);
  });

  it('sends a result that had no receipt', async () => {
    scheduler.dropReceipts = 1_000;
    const { child, ended } = await lab.spawnAgent();
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await waitFor(() => scheduler.resultOf(job) !== undefined);
    child.kill('SIGKILL');
    await ended;
    const before = scheduler.results.length;
    scheduler.dropReceipts = 0;
    await lab.startAgent();
    await waitFor(() => scheduler.results.length > before);
    await lab.settled();
    expect(scheduler.stepsOf(job).at(-1)).toBe('first:done');
  });

  it('by SIGTERM: what ends in time is finished, the rest is left to the next start, exit code 0', async () => {
    scheduler.leaseMs = 60_000;
    const { child, ended, output } = await lab.spawnAgent({ finishMs: 2_500 });
    const long = await scheduler.offer({ name: 'first', script: '[ -n "$CRASHED" ] || sleep 300' });
    await waitFor(() => scheduler.stepsOf(long).length === 1);
    const short = await scheduler.offer({ name: 'first', script: 'sleep 0.1' });
    await waitFor(() => scheduler.stepsOf(short).length === 1);
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(output()).toContain('drained');
    expect(scheduler.resultOf(short)?.outcome).toBe('succeeded');
    expect(scheduler.resultOf(long)).toBeUndefined();
    await lab.startAgent();
    await waitFor(() => scheduler.resultOf(long)?.outcome === 'succeeded');
    expect(scheduler.resultOf(long)!.attempt).toBe(1);
  });

  it('is refused while another process works with the same state', async () => {
    await lab.spawnAgent();
    const second = new AgentRuntime({ ...FAST, stateDir: lab.stateDir }, lab.identity, []);
    await expect(second.start()).rejects.toThrow('is in use by the agent with pid');
  });
});

describe('the credential', () => {
  it('is renewed before it ends, and the connection lives on with the new one', async () => {
    const lives = [3_000, 3_600_000];
    scheduler.welcome = () => lab.mint(scheduler.agent.agentId, scheduler.agent.publicKey, lives.shift() ?? 3_600_000);
    await lab.startAgent();
    const ends = Date.parse(lab.identity.enrolment.nats_jwt_expires_at);
    expect(ends).toBeLessThan(Date.now() + 3_000);
    const hellos = scheduler.hellos.length;
    await waitFor(() => scheduler.hellos.length > hellos && Date.now() > ends + 500);
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await waitFor(() => scheduler.resultOf(job)?.outcome === 'succeeded');
  });
});

describe('a Nest application', () => {
  it('makes the handlers, starts with the context and drains when it closes', async () => {
    @Injectable()
    class Handler extends ScriptHandler {
      constructor(
        private readonly tokens: RegistryTokens,
        private readonly own: Identity,
      ) {
        super('apply');
      }
      override result(): { result: JsonObject } {
        return { result: { tokens: typeof this.tokens.requestPullToken, agent: this.own.agentId } };
      }
    }
    const module = AgentModule.forAgent({
      agent: { ...FAST, stateDir: lab.stateDir },
      identity: lab.identity,
      handlers: [Handler],
    });
    const app = await NestFactory.createApplicationContext(module, { logger: false });
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await waitFor(() => scheduler.resultOf(job) !== undefined);
    expect(scheduler.resultOf(job)!.result).toEqual({ tokens: 'function', agent: scheduler.agent.agentId });
    await app.close();
    await lab.startAgent();
  });
});

describe('NATS', () => {
  it('restarts in the middle of a job: the log has no gap and no duplicate, the result arrives', async () => {
    scheduler.leaseMs = 60_000;
    await lab.startAgent();
    const script =
      'i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); [ $((i % 100)) = 0 ] && sleep 0.05; done';
    const job = await scheduler.offer({ name: 'first', script });
    await waitFor(() => scheduler.linesOf(job).length > 300);
    await lab.broker.kill();
    await lab.broker.restart();
    await waitFor(() => scheduler.resultOf(job) !== undefined && scheduler.logEnded(job), 30_000);
    expect(scheduler.resultOf(job)!.outcome).toBe('succeeded');
    const wanted = Array.from({ length: 3000 }, (_, i) => `line ${i}`);
    expect(scheduler.linesOf(job)).toEqual(['step first', ...wanted]);
    await lab.settled();
  });

  it('loses this agent’s consumer: a hello makes it again and offers come', async () => {
    await lab.startAgent();
    const { stream } = offersOf(scheduler.agent.agentId);
    const before = scheduler.hellos.length;
    await (await jetstreamManager(lab.connection)).streams.delete(stream);
    await waitFor(() => scheduler.hellos.length > before, 20_000);
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await waitFor(() => scheduler.resultOf(job)?.outcome === 'succeeded', 20_000);
  });
});
