import 'reflect-metadata';
import { readConfig } from './config.js';
import { startGateway } from './gateway.module.js';

// What is wrong with the configuration or the start is named on the way out; the exit code tells the supervisor.
await startGateway(readConfig());
