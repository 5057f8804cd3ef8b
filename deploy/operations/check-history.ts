import { createWriteStream, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { checkHistory } from '#domain';
import { RestClient } from '../local/rest.js';
import { drawReport } from './history/draw.js';
import { Gathered, linesOf, readAgentState, readDeployment, readFile } from './history/read.js';

const USAGE = `usage: npm run check-history -- <deployment id | file>… [--agent-state DIR]… [--demo]
Holds what happened against the promises of the job engine: nothing lost, nothing done twice, one attempt at a time.
Exit code 0: all hold, 1: a counterexample, 2: could not look.

  <deployment id>    read from the API at IMS_URL with the key in IMS_API_KEY
  <file>             an exported history (NDJSON: facts, resources, a customer's record)
  --agent-state DIR  the state directory of an agent: its journal and its customer's record are held against the rest
  --save FILE        write all that was read to FILE, to be checked again or sent to somebody
  --skew-ms N        how far the clocks of agents and server may be apart (default 1000)
  --cancel-ms N      how long after a cancel an agent may begin a step (default 11000)
  --demo             the running demo, instead of IMS_URL and IMS_API_KEY
  --dir DIR          where the demo is (default .demo)`;

function clientOf(demo: boolean, dir: string): RestClient {
  if (!demo) return new RestClient(process.env['IMS_URL'] ?? '', process.env['IMS_API_KEY'] ?? '');
  const { gateway } = JSON.parse(readFileSync(join(dir, 'ports.json'), 'utf8')) as { gateway: number };
  return new RestClient(`http://127.0.0.1:${gateway}`, readFileSync(join(dir, 'keys', 'api-key-acme'), 'utf8').trim());
}

async function main(): Promise<number> {
  const { values: flags, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      'agent-state': { type: 'string', multiple: true, default: [] },
      save: { type: 'string' },
      'skew-ms': { type: 'string', default: '1000' },
      'cancel-ms': { type: 'string', default: '11000' },
      demo: { type: 'boolean' },
      dir: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  const limits = { skewMs: Number(flags['skew-ms']), cancelMs: Number(flags['cancel-ms']) };
  if (flags.help === true || positionals.length === 0 || !Object.values(limits).every((ms) => ms >= 0)) {
    process.stderr.write(`${USAGE}\n`);
    return flags.help === true ? 0 : 2;
  }
  const gathered = new Gathered();
  for (const source of positionals) {
    if (existsSync(source)) await readFile(gathered, source);
    else if (source.startsWith('dep_')) {
      await readDeployment(gathered, clientOf(flags.demo === true, flags.dir ?? '.demo'), source);
    } else throw new Error(`${source} is neither a file nor the id of a deployment`);
  }
  for (const state of flags['agent-state']) await readAgentState(gathered, state);
  const { history } = gathered;
  if (flags.save !== undefined) {
    await pipeline(Readable.from(linesOf(history)), createWriteStream(flags.save, { mode: 0o600 }));
  }
  const reports = checkHistory(history, limits);
  if (reports.every(({ checked }) => checked === 0)) {
    process.stderr.write('nothing was found that could be checked\n');
    return 2;
  }
  process.stdout.write(drawReport(reports));
  return reports.some(({ faults }) => faults.length > 0) ? 1 : 0;
}

process.exitCode = await main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  return 2;
});
