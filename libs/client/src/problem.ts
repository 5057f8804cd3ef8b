import { type components } from './schema.js';

/** Every resource and request shape of the API by its name, e.g. `Schemas['Job']`. */
export type Schemas = components['schemas'];
type ProblemDocument = Schemas['ProblemDocument'];

export type ErrorCode = ProblemDocument['code'];
export interface FieldProblem {
  readonly pointer: string;
  readonly message: string;
}

/** An answer that is no success, or no answer at all. Decide by `code`; show `detail` and `next`. */
export class ApiError extends Error {
  override readonly name = 'ApiError';

  constructor(
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
    /** A code of the catalogue; `unreachable` when no answer came, `not_ims` when something else answered. */
    readonly code: ErrorCode | 'unreachable' | 'not_ims',
    readonly detail: string,
    /** What to do next, one sentence. */
    readonly next: string,
    readonly requestId?: string,
    readonly errors: readonly FieldProblem[] = [],
    options?: ErrorOptions,
  ) {
    super(`${code}: ${detail}`, options);
  }

  /** The error that a response carries. What is no problem+json comes from a proxy, or from another server. */
  static async of(response: Response): Promise<ApiError> {
    const text = await response.text().catch(() => '');
    const problem = parseProblem(text);
    if (problem === undefined) {
      const what = response.headers.get('content-type') ?? 'no content type';
      return new ApiError(
        response.status,
        'not_ims',
        `${response.url || 'the server'} answered ${response.status} with ${what}`,
        'Check the URL: this is not an answer of Vendor Cloud (a proxy in between, perhaps).',
      );
    }
    const { code, detail, next, request_id: requestId, errors } = problem;
    return new ApiError(response.status, code, detail, next, requestId, errors ?? []);
  }

  static unreachable(url: string, cause: unknown): ApiError {
    return new ApiError(
      0,
      'unreachable',
      `no answer from ${new URL(url).origin}: ${reasonOf(cause)}`,
      'Check the URL, and that the gateway is up.',
      undefined,
      [],
      { cause },
    );
  }
}

/** `fetch failed` says nothing; the reason is in the chain of causes. */
function reasonOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const { cause } = thrown;
  if (cause instanceof AggregateError && cause.errors.length > 0) return reasonOf(cause.errors[0]);
  return cause instanceof Error ? reasonOf(cause) : thrown.message;
}

function parseProblem(text: string): ProblemDocument | undefined {
  try {
    const value = JSON.parse(text) as Partial<ProblemDocument> | null;
    return typeof value?.code === 'string' && typeof value.detail === 'string' ? (value as ProblemDocument) : undefined;
  } catch {
    return undefined;
  }
}
