import 'reflect-metadata';
import { readConfig } from './config.js';
import { startGateway } from './gateway.module.js';

try {
  await startGateway(readConfig());
} catch (error) {
  // A faulty configuration is known only here; other failed starts have been logged with their cause, too.
  process.stderr.write(`the gateway cannot start: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
