import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { type KubeObject, sameJson } from './objects.js';

export interface StoreEvent {
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  key: string;
  object: KubeObject;
  /** the object before the change: a watch with a selector must see an object leave its selection */
  previous?: KubeObject;
  revision: number;
}

/** How many events a watch can resume over; older ones answer 410 and the client lists again, as with a real server. */
const HISTORY = 2_000;

/** A burst of writes becomes one file; a killed process loses at most this much. */
const SAVE_DELAY_MS = 25;

interface State {
  revision: number;
  objects: Record<string, KubeObject[]>;
}

const placeOf = (namespace: string | undefined, name: string): string => `${namespace ?? ''}/${name}`;

/**
 * Objects by resource key (`deployments.apps`), with one revision counter, the events since, and an optional JSON file
 * that keeps them over a restart (mode 0600: it holds Secrets). Returned objects are shared: never change them.
 */
export class Store {
  private readonly tables = new Map<string, Map<string, KubeObject>>();
  private readonly listeners = new Set<(event: StoreEvent) => void>();
  private history: StoreEvent[] = [];
  private current = 0;
  /** the revision from which `history` is complete */
  private oldest = 0;
  private saving: NodeJS.Timeout | undefined;

  constructor(private readonly file?: string) {
    if (file !== undefined) this.load(file);
  }

  get revision(): number {
    return this.current;
  }

  get(key: string, namespace: string | undefined, name: string): KubeObject | undefined {
    return this.tables.get(key)?.get(placeOf(namespace, name));
  }

  /** Sorted by namespace and name, the order in which lists are paged. */
  list(key: string, namespace?: string): KubeObject[] {
    const all = [...(this.tables.get(key)?.entries() ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
    return all.map(([, object]) => object).filter((o) => namespace === undefined || o.metadata.namespace === namespace);
  }

  everything(): { key: string; object: KubeObject }[] {
    return [...this.tables.keys()].flatMap((key) => this.list(key).map((object) => ({ key, object })));
  }

  /** Stores a new object or a new version; a version that says nothing new is not an event and keeps its revision. */
  put(key: string, object: KubeObject): KubeObject {
    const { namespace, name } = object.metadata;
    const previous = this.get(key, namespace, name);
    if (previous !== undefined && sameJson(withRevision(object, previous.metadata.resourceVersion), previous)) {
      return previous;
    }
    this.current += 1;
    const stored = withRevision(object, String(this.current));
    const table = this.tables.get(key) ?? new Map<string, KubeObject>();
    this.tables.set(key, table.set(placeOf(namespace, name), stored));
    const type = previous === undefined ? 'ADDED' : 'MODIFIED';
    this.emit({ type, key, object: stored, ...(previous === undefined ? {} : { previous }), revision: this.current });
    return stored;
  }

  remove(key: string, object: KubeObject): void {
    const { namespace, name } = object.metadata;
    if (this.tables.get(key)?.delete(placeOf(namespace, name)) !== true) return;
    this.current += 1;
    const last = withRevision(object, String(this.current));
    this.emit({ type: 'DELETED', key, object: last, previous: object, revision: this.current });
  }

  /** Events after a revision, or undefined when they are not all known any more. */
  eventsSince(revision: number): StoreEvent[] | undefined {
    if (revision < this.oldest || revision > this.current) return undefined;
    return this.history.filter((event) => event.revision > revision);
  }

  subscribe(listener: (event: StoreEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Writes the file now. */
  flush(): void {
    clearTimeout(this.saving);
    this.saving = undefined;
    if (this.file === undefined) return;
    const objects = Object.fromEntries([...this.tables.keys()].map((key) => [key, this.list(key)]));
    const state: State = { revision: this.current, objects };
    mkdirSync(dirname(this.file), { recursive: true });
    writeFileSync(`${this.file}.new`, JSON.stringify(state), { mode: 0o600 });
    renameSync(`${this.file}.new`, this.file);
  }

  private emit(event: StoreEvent): void {
    this.history.push(event);
    if (this.history.length > HISTORY) {
      this.history = this.history.slice(HISTORY / 2);
      this.oldest = (this.history[0]?.revision ?? this.current) - 1;
    }
    if (this.file !== undefined) this.saving ??= setTimeout(() => this.flush(), SAVE_DELAY_MS);
    for (const listener of this.listeners) listener(event);
  }

  private load(file: string): void {
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
    const state = JSON.parse(text) as State;
    for (const [key, objects] of Object.entries(state.objects)) {
      const entries = objects.map((o): [string, KubeObject] => [placeOf(o.metadata.namespace, o.metadata.name), o]);
      this.tables.set(key, new Map(entries));
    }
    this.current = state.revision;
    this.oldest = state.revision;
  }
}

function withRevision(object: KubeObject, resourceVersion: string): KubeObject {
  return { ...object, metadata: { ...object.metadata, resourceVersion } };
}
