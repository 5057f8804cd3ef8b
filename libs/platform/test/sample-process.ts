/** A service as a process, for the tests of signals and logs: started by process.spec.ts. */
import { Controller, Get, Module, Post } from '@nestjs/common';
import { createLogger, sleep, startService } from '#platform';
import { sampleConfig } from './config.js';

const config = sampleConfig();
const logger = createLogger('sample');

@Controller()
class SampleController {
  @Get('slow') async slow(): Promise<string> {
    logger.info('slow has begun');
    await sleep(500);
    return 'done';
  }
  @Get('hang') async hang(): Promise<string> {
    logger.info('hang has begun');
    await sleep(60_000);
    return 'never';
  }
  @Post('leak') leak(): string {
    const deep = { a: { b: { c: { d: { e: { api_key: 'zyxwvutsrq' } } } } } };
    logger.info({ deep, note: `it is ${config.SAMPLE_SECRET}` }, `really ${config.SAMPLE_SECRET}`);
    const failed = Object.assign(new Error(`query failed for ${config.SAMPLE_SECRET}`), {
      parameters: ['row-value-1'],
    });
    throw new Error('outer', { cause: failed });
  }
  @Get('crash') crash(): string {
    setImmediate(() => {
      throw new Error('nobody catches this');
    });
    return 'crashing';
  }
}
@Module({ controllers: [SampleController] })
class SampleModule {}

await startService({ name: 'gateway', module: SampleModule, http: { host: '127.0.0.1', port: config.HTTP_PORT } });
