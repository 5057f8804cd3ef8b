import { type ImsError, type RetryClass } from '#contracts';

/** The answer to a failed request: RFC 9457, plus our code, what to do next and the request's id. */
export interface ProblemBody {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly instance: string;
  readonly code: string;
  readonly retry: RetryClass;
  readonly next: string;
  readonly request_id: string;
  readonly errors?: readonly { readonly pointer: string; readonly message: string }[];
}

export const PROBLEM_TYPE = 'application/problem+json';

/** `type` is a relative reference, as RFC 9457 allows: the page about the code is served beside the API. */
export function toProblem(error: ImsError, at: { instance: string; requestId: string }): ProblemBody {
  const { title, status, retry, next } = error.entry;
  return {
    type: `/errors/${error.code}`,
    title,
    status,
    detail: error.detail,
    instance: at.instance,
    code: error.code,
    retry,
    next,
    request_id: at.requestId,
    ...(error.errors.length > 0 ? { errors: error.errors } : {}),
  };
}
