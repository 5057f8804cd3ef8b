import 'reflect-metadata';
import { loadConfig } from '#platform';
import { TelemetryConfig } from './config.js';
import { startTelemetry } from './telemetry.module.js';

// A fault of the configuration, or of the start, has been logged by name; the exit code tells the supervisor.
await startTelemetry(loadConfig(TelemetryConfig, process.env));
