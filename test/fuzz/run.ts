import { headers as natsHeaders } from '@nats-io/transport-node';
import {
  CONTRACTS,
  HEADERS,
  ID_PREFIX,
  newId,
  subjectOf,
  type IdKind,
  type Install,
  type VendorAccount,
} from '#contracts';
import { RestClient } from '../../deploy/local/rest.js';
import { type PlatformAccess } from '../../deploy/local/platform.js';
import { type ScriptedAgent } from '../e2e/scripted-agent.js';
import { Random } from '../random.js';
import { idsIn, Inputs, type ApiDocument, type FuzzRequest } from './inputs.js';

/** In every name and value of the other vendor, and in no input: an answer that holds it has told too much. */
const MARK = 'zq9-of-another';
/** An answer that takes so long is a fault too. */
const ANSWER_WITHIN_MS = 60_000;
const MOST_FAULTS = 20;

export interface FuzzReport {
  readonly requests: number;
  readonly payloads: number;
  /** How often each status was answered. */
  readonly statuses: ReadonlyMap<number, number>;
  /** What should not be, each with the input that did it. */
  readonly faults: readonly string[];
}

/** A vendor with one of each thing that needs no agent; the ids of all that it made. */
async function furnish(rest: RestClient, mark: string): Promise<{ ids: Map<IdKind, string[]>; install: Install }> {
  const ids = new Map<IdKind, string[]>();
  const make = async <T extends { id: string }>(path: string, body: object): Promise<T> => {
    const made = await rest.post<T>(path, body);
    learn(ids, JSON.stringify(made));
    return made;
  };
  const app = await make('/v1/apps', { name: mark });
  const source = { url: `/src/${mark}` };
  await make(`/v1/apps/${app.id}/components`, { name: mark, kind: 'terraform-module', source, values: { mark } });
  await make(`/v1/apps/${app.id}/channels`, { name: mark });
  const install = await make<Install>('/v1/installs', { app_id: app.id, name: mark });
  const hook = await make('/v1/webhooks', { url: `https://${mark}.invalid/`, description: mark });
  await make(`/v1/webhooks/${hook.id}/test`, {});
  await rest.post('/v1/api-keys', { name: mark, role: 'read_only' });
  return { ids, install };
}

function learn(ids: Map<IdKind, string[]>, text: string): void {
  for (const id of idsIn(text)) {
    const kind = (Object.keys(ID_PREFIX) as IdKind[]).find((each) => ID_PREFIX[each] === id.slice(0, 3));
    if (kind === undefined) continue;
    const known = ids.get(kind) ?? [];
    if (known.length < 500 && !known.includes(id)) ids.set(kind, [...known, id]);
  }
}

/**
 * Sends inputs drawn from the seed to every route as a vendor of its own, beside another vendor's things, and to every
 * subject that an agent may use. Nothing may answer 5xx (but 503 with a code), end, or say a word of the other vendor.
 */
export async function fuzz(
  platform: PlatformAccess,
  options: {
    readonly seed: number;
    readonly requests: number;
    readonly payloads: number;
    /** Enrols the agent of an install of the vendor that attacks. */
    readonly enrol: (rest: RestClient, install: Install) => Promise<ScriptedAgent>;
    readonly tell?: (done: number) => void;
  },
): Promise<FuzzReport> {
  const random = new Random(options.seed);
  const operator = new RestClient(platform.gatewayUrl, platform.operatorKey);
  const [mine, other] = await Promise.all(
    [`fuzz-${newId('job').slice(-8)}`, `${MARK}-${newId('job').slice(-8)}`].map((name) =>
      operator.post<VendorAccount>('/v1/vendors', { name }),
    ),
  );
  const rest = new RestClient(platform.gatewayUrl, mine?.api_key ?? '');
  const own = await furnish(rest, 'mine');
  const foreign = await furnish(new RestClient(platform.gatewayUrl, other?.api_key ?? ''), MARK);
  const document = await rest.get<ApiDocument>('/openapi.json');
  const inputs = new Inputs(random, document, own.ids, foreign.ids);
  const statuses = new Map<number, number>();
  const faults: string[] = [];
  const blame = (what: string, input: object): void => {
    if (faults.length < MOST_FAULTS) faults.push(`${what}: ${JSON.stringify(input).slice(0, 600)}`);
  };

  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < options.requests && faults.length < MOST_FAULTS) {
      const request = inputs.request(next++);
      const answer = await send(rest, request);
      if ('error' in answer) {
        blame(answer.error, request);
        continue;
      }
      const { status, text } = answer;
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      const code = codeOf(text);
      if (status >= 500 && !(status === 503 && code !== undefined)) blame(`${status} ${text.slice(0, 300)}`, request);
      if (status >= 400 && code === undefined) blame(`${status} without a code`, request);
      if (text.includes(MARK)) blame('a word of another vendor', request);
      if (status === 201) learn(own.ids, text);
      if (next % 1000 === 0) options.tell?.(next);
    }
  };
  await Promise.all(Array.from({ length: 8 }, lane));

  const agent = await options.enrol(rest, own.install);
  const { connection } = agent.bus;
  const me = agent.enrolment.agent_id;
  const spoken = CONTRACTS.filter(({ from }) => from.includes('install'));
  for (let sent = 0; sent < options.payloads; sent++) {
    const contract = random.pick(spoken);
    const label = natsHeaders();
    if (random.chance(0.9)) label.set(HEADERS.contract, `${contract.name}/${contract.version}`);
    if (random.chance(0.1)) label.set(HEADERS.contract, random.pick(['x', 'job.result/99', '']));
    const subject = subjectOf(contract, { agent: me, job: random.chance(0.5) ? newId('job') : '_' });
    const schema = document.components.schemas[contract.body.name];
    const payload = inputs.body(schema).slice(0, 100_000);
    const reply = contract.type === 'call' ? { reply: `_INBOX.${me}.fuzz` } : {};
    connection.publish(subject, payload, { headers: label, ...reply });
    if (sent % 200 === 0) await connection.flush();
  }
  await connection.flush();
  await agent.close();

  for (const name of ['gateway', 'job-scheduler', 'telemetry', 'registry-token'] as const) {
    const ready = await fetch(`http://127.0.0.1:${platform.ports[name]}/readyz`).catch(() => undefined);
    if (ready?.ok !== true) faults.push(`${name} is not ready any more: ${ready?.status ?? 'it does not answer'}`);
  }
  return { requests: next, payloads: options.payloads, statuses, faults };
}

async function send(
  { baseUrl, apiKey }: RestClient,
  { method, path, headers, body }: FuzzRequest,
): Promise<{ status: number; text: string } | { error: string }> {
  try {
    const response = await fetch(baseUrl + path, {
      method,
      headers: { authorization: `Bearer ${apiKey}`, ...printable(headers) },
      ...(body === undefined ? {} : { body }),
      redirect: 'manual',
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
    return { status: response.status, text: await response.text() };
  } catch (error) {
    return {
      error: `no answer: ${error instanceof Error ? `${error.message} ${error.cause instanceof Error ? error.cause.message : ''}` : ''}`,
    };
  }
}

/** Only what fetch agrees to send. */
const printable = (headers: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.replace(/[^\x20-\xff]/g, '?')]));

function codeOf(text: string): string | undefined {
  try {
    const { code } = JSON.parse(text) as { code?: unknown };
    return typeof code === 'string' ? code : undefined;
  } catch {
    return undefined;
  }
}
