import type { ServerResponse } from 'node:http';
import { apiVersionOf, type Kind } from './kinds.js';
import type { Fields, KubeObject } from './objects.js';
import { type Form, renderOne } from './render.js';
import type { Match } from './selectors.js';
import { expired } from './status.js';
import type { Store, StoreEvent } from './store.js';

export interface Selection {
  kind: Kind;
  namespace: string | undefined;
  match: Match;
}

/** Bookmarks tell a quiet client how far it has seen, so that it need not list again after a break. */
const BOOKMARK_EVERY_MS = 5_000;
const INITIAL_EVENTS_END = { 'k8s.io/initial-events-end': 'true' };

/**
 * Streams the changes of a selection until the client goes, `timeoutSeconds` are over or the server stops. Starts from
 * `resourceVersion`, or from the whole selection (none, `0`, or `sendInitialEvents`); a revision that is too old, or
 * unknown after a restart without state, ends in an ERROR event with code 410, after which clients list again.
 */
export function serveWatch(
  store: Store,
  selection: Selection,
  query: URLSearchParams,
  form: Form,
  response: ServerResponse,
): void {
  const { kind } = selection;
  const bookmarks = query.get('allowWatchBookmarks') === 'true';
  const write = (type: string, object: Fields): void => {
    response.write(`${JSON.stringify({ type, object })}\n`);
  };
  const bookmark = (annotations: Fields = {}): void => {
    const metadata = { resourceVersion: String(store.revision), annotations };
    write('BOOKMARK', { kind: kind.kind, apiVersion: apiVersionOf(kind), metadata });
  };
  const deliver = (event: StoreEvent): void => {
    const type = changeFor(event, selection);
    if (type !== undefined) write(type, renderOne(kind, event.object, form));
  };

  response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' });
  response.flushHeaders();
  const from = query.get('resourceVersion') ?? '';
  const initial = query.get('sendInitialEvents') === 'true';
  if (initial || from === '' || from === '0') {
    const chosen = store.list(kind.key, selection.namespace).filter(selection.match);
    for (const object of chosen) write('ADDED', renderOne(kind, object, form));
    if (initial && bookmarks) bookmark(INITIAL_EVENTS_END);
  } else {
    const missed = store.eventsSince(Number(from));
    if (missed === undefined) {
      write('ERROR', expired(`too old resource version: ${from} (${String(store.revision)})`).toStatus());
      response.end();
      return;
    }
    for (const event of missed) deliver(event);
  }

  const unsubscribe = store.subscribe(deliver);
  const ticker = bookmarks ? setInterval(() => bookmark(), BOOKMARK_EVERY_MS) : undefined;
  const stop = (): void => {
    unsubscribe();
    clearInterval(ticker);
    clearTimeout(limit);
  };
  const end = (): void => {
    stop();
    response.end();
  };
  const seconds = Number(query.get('timeoutSeconds') ?? 0);
  const limit = seconds > 0 ? setTimeout(end, seconds * 1_000) : undefined;
  response.once('close', stop);
}

/** What a change means for a selection: an object that leaves it was deleted as far as the watcher can see. */
function changeFor(event: StoreEvent, { kind, namespace, match }: Selection): StoreEvent['type'] | undefined {
  if (event.key !== kind.key) return undefined;
  const selects = (object: KubeObject): boolean =>
    (namespace === undefined || object.metadata.namespace === namespace) && match(object);
  const was = event.previous !== undefined && selects(event.previous);
  const is = event.type !== 'DELETED' && selects(event.object);
  if (is) return was ? 'MODIFIED' : 'ADDED';
  return was ? 'DELETED' : undefined;
}
