import { statSync } from 'node:fs';
import TestSequencer from '@jest/test-sequencer';

/** Seconds on two cores of the files that wait longest. A run ends with its last file, so these come first. */
const SECONDS = {
  'test/e2e/faults.spec.ts': 250,
  'test/e2e/drills.spec.ts': 110,
  'test/e2e/story.spec.ts': 100,
  'test/e2e/readme.spec.ts': 80,
  'test/faults/faults.spec.ts': 60,
  'apps/install-agent/test/kubernetes.spec.ts': 70,
  'test/e2e/isolation.spec.ts': 55,
  'test/races/redemption.spec.ts': 50,
  'libs/persistence/test/faults.spec.ts': 40,
  'test/e2e/refusals.spec.ts': 35,
  'libs/agent-kit/test/job-loop.spec.ts': 30,
  'apps/build-agent/test/builds.spec.ts': 25,
};

/** The longest first; of the others the largest, which is the best guess on a machine that has run nothing yet. */
export default class Sequencer extends TestSequencer {
  sort(tests) {
    const weight = ({ path, context }) => {
      const name = path.slice(context.config.rootDir.length + 1);
      return (SECONDS[name] ?? 0) * 1e6 + statSync(path).size;
    };
    return [...tests].sort((a, b) => weight(b) - weight(a));
  }
}
