import 'reflect-metadata';
import { loadConfig } from '#platform';
import { SchedulerConfig } from './config.js';
import { startScheduler } from './scheduler.module.js';

// A fault of the configuration, or of the start, has been logged by name; the exit code tells the supervisor.
await startScheduler(loadConfig(SchedulerConfig, process.env));
