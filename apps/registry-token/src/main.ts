import 'reflect-metadata';
import { loadConfig } from '#platform';
import { RegistryTokenConfig } from './config.js';
import { startRegistryToken } from './registry-token.module.js';

// A fault of the configuration, or of the start, has been logged by name; the exit code tells the supervisor.
await startRegistryToken(loadConfig(RegistryTokenConfig, process.env));
