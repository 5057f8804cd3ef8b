import { jest } from '@jest/globals';

// On a build machine a test that fails is tried once more, with the first failure in the output: hundreds of tests here
// start, kill and restart real servers, and a machine that pauses for seconds should not look like a fault of the code.
if (process.env.CI) jest.retryTimes(1, { logErrorsBeforeRetry: true });
