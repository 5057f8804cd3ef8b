import { Module, type DynamicModule } from '@nestjs/common';
import { ServiceHealth } from './health.js';
import { Lifecycle } from './lifecycle.js';
import { Metrics } from './metrics.js';

/** The chassis as injectables, for every module of a process. `startService` adds it; tests may import it themselves. */
@Module({})
export class PlatformModule {
  static forRoot(): DynamicModule {
    return {
      module: PlatformModule,
      global: true,
      providers: [ServiceHealth, Lifecycle, Metrics],
      exports: [ServiceHealth, Lifecycle, Metrics],
    };
  }
}
