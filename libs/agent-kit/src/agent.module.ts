import {
  Module,
  type BeforeApplicationShutdown,
  type DynamicModule,
  type ModuleMetadata,
  type OnApplicationBootstrap,
  type Provider,
  type Type,
} from '@nestjs/common';
import { readFileSync } from 'node:fs';
import { AgentRuntime, type AgentOptions } from './agent-runtime.js';
import { type JobHandler } from './handler.js';
import { Identity } from './identity.js';
import { NoopHandler } from './noop-handler.js';
import { RegistryTokens } from './agent-request.js';
import { AgentClock } from './session.js';

export interface AgentModuleOptions {
  readonly agent: AgentOptions;
  readonly identity: Identity;
  /** Classes of the handlers beside that of `noop`, which each agent has; made by Nest, so that they may inject Identity, RegistryTokens and what `imports` offers. */
  readonly handlers: readonly Type<JobHandler>[];
  readonly imports?: ModuleMetadata['imports'];
  readonly providers?: readonly Provider[];
}

/** Starts the runtime when the application has been made, drains it before the application closes. */
class RuntimeHooks implements OnApplicationBootstrap, BeforeApplicationShutdown {
  constructor(private readonly runtime: AgentRuntime) {}
  onApplicationBootstrap(): Promise<void> {
    return this.runtime.start();
  }
  beforeApplicationShutdown(): Promise<void> {
    return this.runtime.drain();
  }
}

/** The parts of an agent as Nest providers: Identity, RegistryTokens, AgentClock, AgentRuntime, and the handlers. */
@Module({})
export class AgentModule {
  static forAgent(options: AgentModuleOptions): DynamicModule {
    const { agent, identity, handlers } = options;
    const caFile = agent.caFile ?? identity.caFile;
    const ca = caFile === undefined ? undefined : readFileSync(caFile, 'utf8');
    return {
      module: AgentModule,
      imports: options.imports ?? [],
      providers: [
        AgentClock,
        { provide: Identity, useValue: identity },
        {
          provide: RegistryTokens,
          inject: [AgentClock],
          useFactory: (clock: AgentClock) =>
            new RegistryTokens(identity, { now: () => clock.now(), ...(ca === undefined ? {} : { ca }) }),
        },
        ...(options.providers ?? []),
        ...handlers,
        {
          provide: AgentRuntime,
          inject: [AgentClock, ...handlers],
          useFactory: (clock: AgentClock, ...made: JobHandler[]) =>
            new AgentRuntime(agent, identity, [...made, new NoopHandler()], clock),
        },
        {
          provide: RuntimeHooks,
          inject: [AgentRuntime],
          useFactory: (runtime: AgentRuntime) => new RuntimeHooks(runtime),
        },
      ],
      exports: [AgentRuntime],
    };
  }
}
