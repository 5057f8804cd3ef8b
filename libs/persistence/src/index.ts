export { Database, type Tx } from './database.js';
export { checkChains, findChainBreak, type ChainHead, type CheckedChain } from './chains.js';
export { eventOfRow, type NewEvent, type Query } from './events.js';
export { type Publisher } from './outbox.js';
export { openDataSource, type MigrationClass, type PersistenceOptions } from './open.js';
export { PersistenceModule } from './persistence.module.js';
export { isUniqueViolation } from './pg-errors.js';
export { decodeCursor, limitOf, pageOf } from './cursor.js';
export { storableJson, storableText } from './storable.js';
