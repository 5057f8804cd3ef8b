import { Injectable, Scope } from '@nestjs/common';
import { DiscoveryModule, DiscoveryService, MetadataScanner, NestFactory } from '@nestjs/core';
import {
  CONTRACTS,
  getJob,
  jobResult,
  listPullTokens,
  revokeJobTokens,
  type JobResult,
  type ListTokens,
  type PullTokenPage,
  type RevokeJobTokens,
} from '#contracts';
import { checkHandlers, Consumes, findHandlers, Hears, Serves, type BoundHandler } from './handlers.js';

@Injectable()
class Tokens {
  readonly page: PullTokenPage = { data: [] };
  @Serves(listPullTokens) list(_body: ListTokens): Promise<PullTokenPage> {
    return Promise.resolve(this.page);
  }
  @Serves(revokeJobTokens) revoke(_body: RevokeJobTokens): Promise<PullTokenPage> {
    return Promise.resolve(this.page);
  }
}

async function handlersOf(...providers: (new () => object)[]): Promise<BoundHandler[]> {
  class App {}
  const app = await NestFactory.createApplicationContext(
    { module: App, imports: [DiscoveryModule], providers: [...providers, MetadataScanner] },
    { logger: false },
  );
  try {
    return findHandlers(app.get(DiscoveryService), app.get(MetadataScanner));
  } finally {
    await app.close();
  }
}

test('decorated methods are found, bound to their provider, inherited ones too', async () => {
  @Injectable()
  class MoreTokens extends Tokens {
    get trap(): never {
      throw new Error('a getter was read');
    }
  }
  const found = await handlersOf(MoreTokens);
  expect(found.map(({ contract, at }) => [contract.name, at])).toEqual([
    ['registry_token.list', 'MoreTokens.list'],
    ['registry_token.revoke', 'MoreTokens.revoke'],
  ]);
  const context = { parts: {}, requestId: 'r', traceparent: 't', deliveries: 1 };
  await expect(found[0]?.invoke({}, context)).resolves.toEqual({ data: [] });
  expect(() => checkHandlers('registry-token', found, [listPullTokens, revokeJobTokens])).not.toThrow();
});

test('a service with missing handlers refuses to boot, naming each contract and its decorator', () => {
  let message = '';
  try {
    checkHandlers('telemetry', [], CONTRACTS);
  } catch (error) {
    message = String(error);
  }
  expect(message).toContain('telemetry cannot start');
  expect(message).toContain('log.frame/1 (body LogFrame) has no handler: add @Consumes to a method');
  expect(message).toContain('telemetry.logs/1 (body ReadLogs) has no handler: add @Serves to a method');
  expect(() => checkHandlers('job-scheduler', [], CONTRACTS)).toThrow(
    'agent.beat/1 (body Beat) has no handler: add @Hears',
  );
});

test('what is listed as unhandled needs no handler', () => {
  const served = CONTRACTS.filter((contract) => contract.type === 'call' && contract.servedBy === 'registry-token');
  expect(() => checkHandlers('registry-token', [], CONTRACTS, served)).not.toThrow();
  expect(() => checkHandlers('registry-token', [], CONTRACTS, served.slice(1))).toThrow();
});

test('two handlers of one contract are refused, both named', async () => {
  @Injectable()
  class Again {
    @Serves(listPullTokens) again(): Promise<PullTokenPage> {
      return Promise.resolve({ data: [] });
    }
  }
  const found = await handlersOf(Tokens, Again);
  expect(() => checkHandlers('registry-token', found, CONTRACTS)).toThrow(
    'registry_token.list/1 (body ListTokens) has 2 handlers, keep one @Serves: Tokens.list, Again.again',
  );
});

test('a handler for a contract of another service, or of no list, is refused', async () => {
  const found = await handlersOf(Tokens);
  expect(() => checkHandlers('gateway', found, CONTRACTS)).toThrow('which does not name gateway: remove the decorator');
  expect(() => checkHandlers('registry-token', found, [])).toThrow('which is not in CONTRACTS');
});

test('a request-scoped provider cannot handle messages', async () => {
  @Injectable({ scope: Scope.REQUEST })
  class Scoped {
    @Serves(listPullTokens) list(): Promise<PullTokenPage> {
      return Promise.resolve({ data: [] });
    }
  }
  await expect(handlersOf(Scoped)).rejects.toThrow('Scoped.list handles messages, so its class must be a singleton');
});

/** Checked by the compiler: each line below is an error without its mark, and the mark is one without its error. */
export class DoesNotCompile {
  // @ts-expect-error -- the body of job.result is a JobResult
  @Consumes(jobResult) wrongBody(_body: ListTokens): Promise<void> {
    return Promise.resolve();
  }
  // @ts-expect-error -- the reply of get_job is a Job
  @Serves(getJob) wrongReply(): Promise<PullTokenPage> {
    return Promise.resolve({ data: [] });
  }
  // @ts-expect-error -- a consumer returns an Outcome
  @Consumes(jobResult) wrongOutcome(_body: JobResult): Promise<string> {
    return Promise.resolve('done');
  }
  // @ts-expect-error -- a stream message is consumed, not heard
  @Hears(jobResult) wrongKind(_body: JobResult): void {
    return;
  }
}
