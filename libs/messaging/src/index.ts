export { createNkey, nkeyFromSeed, nkeyKind, verifyNkey, type NkeyKind, type NkeySigner } from './nkeys.js';
export {
  accountJwt,
  formatCreds,
  natsAuthenticator,
  operatorJwt,
  parseCreds,
  readNatsJwt,
  userJwt,
  withRevocations,
  type NatsCredentials,
  type NatsJwt,
  type Revocations,
  type ScopedSigningKey,
} from './nats-auth.js';
export { AccountClaims } from './account-claims.js';
export { connectNats, type NatsOptions } from './connection.js';
export { Bus, RawPublisher } from './bus.js';
export { retryAfter, reject, type Outcome } from './settlement.js';
export { type MessageContext } from './wire.js';
export { Serves, Consumes, Hears, type TypedMethodDecorator } from './handlers.js';
export { Topology, ensureAgentConsumer, removeAgentConsumer } from './topology.js';
export { MessagingModule, NATS_CONNECTION, type MessagingOptions } from './messaging.module.js';
