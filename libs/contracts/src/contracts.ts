import * as catalogue from './catalogue.js';
import * as deadLetters from './dead-letters.js';
import * as fleet from './fleet.js';
import * as drift from './drift.js';
import * as installs from './installs.js';
import * as jobs from './jobs.js';
import { type AnyContract } from './message.js';
import * as observe from './observe.js';
import * as plans from './plans.js';
import * as rollouts from './rollouts.js';
import * as telemetry from './telemetry.js';
import * as tokens from './tokens.js';
import * as work from './work.js';

const isContract = (value: unknown): value is AnyContract =>
  typeof value === 'object' && value !== null && 'subject' in value && 'body' in value && 'type' in value;

/** Every message there is. Permissions, consumers, boot checks and the reference page follow from this list. */
export const CONTRACTS: readonly AnyContract[] = [
  catalogue,
  installs,
  fleet,
  rollouts,
  drift,
  jobs,
  observe,
  plans,
  work,
  deadLetters,
  tokens,
  telemetry,
].flatMap((room) => Object.values(room).filter(isContract));
