import {
  keepPreviousData,
  QueryCache,
  QueryClient,
  useInfiniteQuery,
  useMutation,
  useQuery,
  type UseMutationResult,
  type UseQueryResult,
} from '@tanstack/react-query';
import { ApiError, ImsClient, isFinal, type Schemas } from '#client';

export { ApiError, isFinal, type Schemas };
export type Install = Schemas['Install'];
export type Deployment = Schemas['Deployment'];
export type Job = Schemas['Job'];
export type Attempt = Schemas['Attempt'];
export type Release = Schemas['Release'];
export type Event = Schemas['Event'];
export type App = Schemas['App'];

/** The API of the gateway that served this page. The header tells its requests from those of other sites. */
export const ims = new ImsClient({
  baseUrl: window.location.origin,
  headers: { 'x-ims-page': '1' },
  retryForMs: 4_000,
});

/** How often something is read again: while work goes on, and while nothing is expected to happen. */
export const LIVE_MS = 1_500;
export const QUIET_MS = 15_000;
const BACK_OFF_MAX_MS = 60_000;

/** Set while a session is believed to be open: without it nothing is asked that would be refused. */
const SIGNED_IN = 'ims.signed-in';
export const believesSignedIn = (): boolean => window.localStorage.getItem(SIGNED_IN) !== null;
export function rememberSignedIn(signedIn: boolean): void {
  if (signedIn) window.localStorage.setItem(SIGNED_IN, 'yes');
  else window.localStorage.removeItem(SIGNED_IN);
}

const isRefusal = (error: unknown): boolean => error instanceof ApiError && error.status >= 400 && error.status < 500;

export const queries: QueryClient = new QueryClient({
  queryCache: new QueryCache({
    onError: (error) => {
      if (!(error instanceof ApiError) || error.code !== 'unauthenticated') return;
      rememberSignedIn(false);
      queries.setQueryData(['session'], null);
    },
  }),
  defaultOptions: {
    queries: {
      // The client has sent it again for a while already.
      retry: false,
      staleTime: 1_000,
      placeholderData: keepPreviousData,
    },
  },
});

/** Asks at this pace, slower with each failure in a row; not in a tab that nobody looks at. */
function paced(paceMs: number, failures: number): number {
  return Math.min(paceMs * 2 ** failures, Math.max(paceMs, BACK_OFF_MAX_MS));
}

/** One resource, read again as long as it is shown. `live` says whether something is going on in it. */
export function useResource<T>(
  key: readonly unknown[],
  read: () => Promise<T>,
  { live, enabled = true }: { live?: (value: T) => boolean; enabled?: boolean } = {},
): UseQueryResult<T> {
  return useQuery({
    queryKey: key,
    queryFn: read,
    enabled,
    placeholderData: undefined,
    refetchInterval: ({ state }) => {
      if (isRefusal(state.error)) return false;
      const busy = state.data !== undefined && live?.(state.data) === true;
      return paced(busy ? LIVE_MS : QUIET_MS, state.fetchFailureCount);
    },
  });
}

interface Page<T> {
  readonly data: T[];
  readonly next_cursor?: string;
}
export interface Pages<T> {
  readonly rows: readonly T[];
  readonly error: Error | null;
  readonly loading: boolean;
  readonly more: boolean;
  readonly loadingMore: boolean;
  readonly loadMore: () => void;
}

/** Rows that came with their resource: all of them are there. */
export const onePage = <T>(rows: readonly T[]): Pages<T> => ({
  rows,
  error: null,
  loading: false,
  more: false,
  loadingMore: false,
  loadMore: () => undefined,
});

/** A list, page by page, its loaded pages read again as long as they are shown. */
export function usePages<T>(
  key: readonly unknown[],
  read: (cursor: string | undefined) => Promise<Page<T>>,
  { live, enabled = true }: { live?: (rows: readonly T[]) => boolean; enabled?: boolean } = {},
): Pages<T> {
  const query = useInfiniteQuery({
    queryKey: key,
    queryFn: ({ pageParam }) => read(pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: ({ next_cursor: next }) => next,
    enabled,
    refetchInterval: ({ state }) => {
      if (isRefusal(state.error)) return false;
      const pages = state.data?.pages ?? [];
      // Every page is read again, so the more there are the rarer.
      const busy = live?.(pages.flatMap(({ data }) => data)) === true;
      return paced((busy ? LIVE_MS : QUIET_MS) * Math.max(1, pages.length), state.fetchFailureCount);
    },
  });
  return {
    rows: query.data?.pages.flatMap(({ data }) => data) ?? [],
    error: query.error,
    loading: query.isPending && enabled,
    more: query.hasNextPage,
    loadingMore: query.isFetchingNextPage,
    loadMore: () => void (query.hasNextPage && !query.isFetchingNextPage && query.fetchNextPage()),
  };
}

/** A change; whatever is shown is read again when it was made. */
export function useChange<A, R>(
  change: (argument: A) => Promise<R>,
  done?: (result: R) => void,
): UseMutationResult<R, Error, A> {
  return useMutation({
    mutationFn: change,
    onSuccess: (result) => {
      done?.(result);
      return queries.invalidateQueries();
    },
  });
}

/** Every row of a list that is known to be short (the jobs of one deployment). */
export async function all<T>(rows: AsyncIterable<T>, most = 1_000): Promise<T[]> {
  const found: T[] = [];
  for await (const row of rows) {
    found.push(row);
    if (found.length >= most) break;
  }
  return found;
}
