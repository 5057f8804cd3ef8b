import { readFileSync } from 'node:fs';
import os from 'node:os';

const swc = JSON.parse(readFileSync(new URL('./.swcrc', import.meta.url), 'utf8'));

/**
 * Nest 12 is ESM only, hence --experimental-vm-modules (set by scripts/run.mjs) and the `.js` mapper. What jest is made to
 * do otherwise is in test/jest.
 */
export default {
  rootDir: '.',
  roots: ['<rootDir>/apps', '<rootDir>/libs', '<rootDir>/test'],
  testMatch: ['**/*.spec.ts'],
  extensionsToTreatAsEsm: ['.ts'],
  transform: { '^.+\\.ts$': ['@swc/jest', swc] },
  moduleNameMapper: {
    '^#(contracts|domain|platform|messaging|persistence|oci|agent-kit|stack|client)$': '<rootDir>/libs/$1/src/index.ts',
    '^(\\.{1,2}/.*)\\.js$': '$1',
  },
  runtime: '<rootDir>/test/jest/runtime.mjs',
  testEnvironment: '<rootDir>/test/jest/environment.mjs',
  testSequencer: '<rootDir>/test/jest/sequencer.mjs',
  // Tests wait for conditions; this is for the slowest of machines, with all of it under way at once.
  testTimeout: 180_000,
  // Each worker may start servers of its own; more workers than cores only makes them wait for one another.
  maxWorkers: Math.max(2, Math.min(4, os.availableParallelism())),
};
