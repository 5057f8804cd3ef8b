export { ImsClient, isFinal, type AnswerOf, type ItemOf, type Waiting } from './client.js';
export { type LogLine, type LogNews, type LogReading } from './logs.js';
export { ApiError, type ErrorCode, type FieldProblem, type Schemas } from './problem.js';
export { type paths } from './schema.js';
export { pause, type TransportOptions } from './transport.js';
