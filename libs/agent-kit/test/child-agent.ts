import { AgentRuntime, Identity, untilStopped, type AgentOptions } from '../src/index.js';
import { ScriptHandler } from './script-handler.js';

/** An agent process for tests that kill it: `node child-agent.js '<AgentOptions as JSON>'`. */
const options = JSON.parse(process.argv[2] ?? '{}') as AgentOptions;
const identity = await Identity.load(options.stateDir);
if (identity === undefined) throw new Error('not enrolled');
const stopped = untilStopped();
const runtime = new AgentRuntime(options, identity, [new ScriptHandler('apply')]);
await runtime.start();
process.stdout.write('ready\n');
await stopped;
await runtime.drain();
process.stdout.write('drained\n');
process.exit(0);
