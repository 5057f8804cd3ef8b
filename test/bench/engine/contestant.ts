/**
 * A queue with workers that serve so many installs, one job at a time each, and record each completion durably: the same
 * PostgreSQL with fsync, or a store that flushes before it answers.
 */
export interface Contestant {
  readonly name: string;
  /** Enqueues one job of the install; resolves with its key when it is stored. */
  enqueue(install: number): Promise<string>;
  /** Jobs that are stored and not yet recorded as completed. Asked by a poll, so that watching costs all the same. */
  open(): Promise<number>;
  stop(): Promise<void>;
}
/** `started` is called with the key of a job when its worker begins. */
export type Start = (installs: number, started: (key: string) => void) => Promise<Contestant>;
