import { Injectable, Module, type DynamicModule, type OnApplicationBootstrap } from '@nestjs/common';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import { MessagingModule, RawPublisher } from '#messaging';
import { Database, PersistenceModule } from '#persistence';
import { startService } from '#platform';
import { Agents } from './agents/agents.js';
import { Enrolments } from './agents/enrolment.js';
import { AgentIdentity } from './agents/identity.js';
import { Intake } from './agents/intake.js';
import { Presence } from './agents/presence.js';
import { Revocations } from './agents/revocations.js';
import { Vendors } from './agents/vendors.js';
import { Apps } from './catalogue/apps.js';
import { Builds } from './catalogue/builds.js';
import { AppRow, ComponentRow, ReleaseRow, VendorRow } from './catalogue/entities.js';
import { Releases } from './catalogue/releases.js';
import { SchedulerConfig } from './config.js';
import { Cancel } from './engine/cancel.js';
import { Census } from './engine/census.js';
import { Claims } from './engine/claims.js';
import { DeadLetters } from './engine/dead-letters.js';
import { Holds } from './engine/holds.js';
import { Jobs } from './engine/jobs.js';
import { Plans } from './engine/plans.js';
import { Locks } from './engine/locks.js';
import { Offers } from './engine/offers.js';
import { Results } from './engine/results.js';
import { Statements } from './engine/statements.js';
import { Sweep } from './engine/sweep.js';
import { Transitions } from './engine/transitions.js';
import { Deprovision } from './installs/deprovision.js';
import { Drift } from './installs/drift.js';
import { Deployments } from './installs/deployments.js';
import { Fleet } from './installs/fleet.js';
import { Installs } from './installs/installs.js';
import { Advance } from './rollouts/advance.js';
import { Channels } from './rollouts/channels.js';
import { Rollouts } from './rollouts/rollouts.js';
import { Retries } from './installs/retries.js';
import { Work } from './installs/work.js';
import { MIGRATIONS } from './schema.js';

/** Publishes what transactions have left in the outbox, also those of an earlier process. */
@Injectable()
class Relay implements OnApplicationBootstrap {
  constructor(
    private readonly database: Database,
    private readonly publisher: RawPublisher,
  ) {}

  onApplicationBootstrap(): void {
    this.database.startRelay(this.publisher);
  }
}

const CATALOGUE = [Vendors, Apps, Builds, Releases, Installs, Fleet, Deployments, Work, Retries];
const ROLLOUTS = [Channels, Rollouts, Advance, Drift, Deprovision];
const AGENTS = [AgentIdentity, Enrolments, Agents, Intake, Presence, Revocations];
const ENGINE = [
  Transitions,
  Offers,
  Statements,
  Claims,
  Results,
  Cancel,
  Holds,
  Locks,
  DeadLetters,
  Jobs,
  Plans,
  Sweep,
  Census,
];

@Module({})
export class SchedulerModule {
  static with(config: SchedulerConfig): DynamicModule {
    return {
      module: SchedulerModule,
      imports: [
        PersistenceModule.forService({
          service: 'job-scheduler',
          url: config.DATABASE_URL,
          entities: [VendorRow, AppRow, ComponentRow, ReleaseRow],
          migrations: MIGRATIONS,
          poolSize: config.DATABASE_POOL,
        }),
        MessagingModule.forService({
          service: 'job-scheduler',
          servers: config.NATS_URLS,
          jwt: config.NATS_JWT,
          seed: config.NATS_SEED,
          ...(config.NATS_CA_FILE === undefined ? {} : { caFile: config.NATS_CA_FILE }),
          callerKeys: config.CALLER_KEYS,
          ...(config.NATS_STREAM_REPLICAS === undefined ? {} : { replicas: config.NATS_STREAM_REPLICAS }),
        }),
      ],
      providers: [
        { provide: SchedulerConfig, useValue: config },
        Relay,
        ...CATALOGUE,
        ...AGENTS,
        ...ENGINE,
        ...ROLLOUTS,
      ],
    };
  }
}

/** Starts the job-scheduler; `ownsProcess: false` for one inside another process. */
export function startScheduler(
  config: SchedulerConfig,
  options: { readonly ownsProcess?: boolean } = {},
): Promise<NestFastifyApplication> {
  return startService({
    name: 'job-scheduler',
    module: SchedulerModule.with(config),
    http: { host: config.HTTP_HOST, port: config.HTTP_PORT },
    ...options,
  });
}
