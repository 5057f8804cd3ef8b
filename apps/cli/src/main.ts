#!/usr/bin/env node
import { enableCompileCache } from 'node:module';

// Half of the start is compiling what does not change.
enableCompileCache();
// A reader that has enough (`ims jobs | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});
const { run } = await import('./program.js');
process.exitCode = await run(process.argv.slice(2));
