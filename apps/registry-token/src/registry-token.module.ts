import { Module, type DynamicModule } from '@nestjs/common';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import { MessagingModule } from '#messaging';
import { PersistenceModule } from '#persistence';
import { startService, tlsFiles } from '#platform';
import { AgentRequestsController } from './agent-requests.controller.js';
import { Authorisation } from './authorisation.js';
import { RegistryTokenConfig } from './config.js';
import { MIGRATIONS } from './migrations.js';
import { Presentations } from './presentations.js';
import { PullTokens } from './pull-tokens.js';
import { chooseRegistry } from './registries/choose.js';
import { VendorRegistry } from './registries/port.js';
import { TamperedJobs } from './tampering.js';
import { TokenCalls } from './token-calls.js';
import { TokenController } from './token.controller.js';

@Module({})
export class RegistryTokenModule {
  static with(config: RegistryTokenConfig): DynamicModule {
    return {
      module: RegistryTokenModule,
      imports: [
        PersistenceModule.forService({ service: 'registry-token', url: config.DATABASE_URL, migrations: MIGRATIONS }),
        MessagingModule.forService({
          service: 'registry-token',
          servers: config.NATS_URLS,
          jwt: config.NATS_JWT,
          seed: config.NATS_SEED,
          ...(config.NATS_CA_FILE === undefined ? {} : { caFile: config.NATS_CA_FILE }),
          callerKeys: config.CALLER_KEYS,
        }),
      ],
      providers: [
        { provide: RegistryTokenConfig, useValue: config },
        { provide: VendorRegistry, useValue: chooseRegistry(config) },
        Authorisation,
        Presentations,
        PullTokens,
        TamperedJobs,
        TokenCalls,
      ],
      controllers: [AgentRequestsController, TokenController],
    };
  }
}

/** Starts registry-token; `ownsProcess: false` inside another process. */
export function startRegistryToken(
  config: RegistryTokenConfig,
  options: { readonly ownsProcess?: boolean } = {},
): Promise<NestFastifyApplication> {
  return startService({
    name: 'registry-token',
    module: RegistryTokenModule.with(config),
    http: { host: config.HTTP_HOST, port: config.HTTP_PORT, ...tlsFiles(config) },
    ...options,
  });
}
