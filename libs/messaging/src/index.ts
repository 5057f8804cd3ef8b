export {
  accountJwt,
  createNkey,
  formatCreds,
  natsAuthenticator,
  nkeyFromSeed,
  nkeyKind,
  operatorJwt,
  parseCreds,
  readNatsJwt,
  userJwt,
  verifyNkey,
  withRevocations,
  type NatsCredentials,
  type NatsJwt,
  type NkeyKind,
  type NkeySigner,
  type Revocations,
  type ScopedSigningKey,
} from './nats-auth.js';
export { connectNats, type NatsOptions } from './connection.js';
export { Bus, RawPublisher } from './bus.js';
export { retryAfter, reject, type Outcome } from './settlement.js';
export { type MessageContext } from './wire.js';
export { Serves, Consumes, Hears, type TypedMethodDecorator } from './handlers.js';
export { Topology, ensureAgentConsumer, removeAgentConsumer } from './topology.js';
export { MessagingModule, NATS_CONNECTION, type MessagingOptions } from './messaging.module.js';
