/**
 * What the caller should do with a failure:
 * `retry` the same call again with back-off; `wait` until something else changes; `fix` the input or the state first;
 * `human` an operator has to look.
 */
export type RetryClass = 'retry' | 'wait' | 'fix' | 'human';

interface ErrorEntry {
  readonly status: number;
  readonly retry: RetryClass;
  /** One sentence: what went wrong, the same for every occurrence. */
  readonly title: string;
  /** One sentence: what to do next. */
  readonly next: string;
}

/** The one catalogue of error codes. Each edge (HTTP, agents, job results) maps from here and from nowhere else. */
export const ERRORS = {
  // Requests
  invalid_request: {
    status: 422,
    retry: 'fix',
    title: 'The request has invalid fields.',
    next: 'Correct the fields named in `errors` and send it again.',
  },
  malformed_body: {
    status: 400,
    retry: 'fix',
    title: 'The body is not valid JSON.',
    next: 'Send a JSON object with Content-Type: application/json.',
  },
  unauthenticated: {
    status: 401,
    retry: 'fix',
    title: 'No valid API key was given.',
    next: 'Send `Authorization: Bearer <API key>`; the key is shown once, at sign-up.',
  },
  forbidden: { status: 403, retry: 'fix', title: 'This key may not do that.', next: 'Use a key whose role allows it.' },
  not_found: {
    status: 404,
    retry: 'fix',
    title: 'There is no such thing.',
    next: 'Check the id; ids of another vendor answer the same.',
  },
  already_exists: {
    status: 409,
    retry: 'fix',
    title: 'That name is taken.',
    next: 'Choose another name, or use the one that exists.',
  },
  conflict: {
    status: 409,
    retry: 'fix',
    title: 'The state does not allow this now.',
    next: 'Read the current state and decide again.',
  },
  idempotency_mismatch: {
    status: 422,
    retry: 'fix',
    title: 'This Idempotency-Key was used with another body.',
    next: 'Use a new key for a new request.',
  },
  idempotency_in_progress: {
    status: 409,
    retry: 'retry',
    title: 'The first request with this Idempotency-Key is still running.',
    next: 'Send it again in a moment.',
  },
  precondition_required: {
    status: 428,
    retry: 'fix',
    title: 'This change needs If-Match.',
    next: 'Read the resource and send its ETag as If-Match.',
  },
  precondition_failed: {
    status: 412,
    retry: 'fix',
    title: 'The resource has changed since you read it.',
    next: 'Read it again and repeat the change on the new version.',
  },
  payload_too_large: { status: 413, retry: 'fix', title: 'The body is too large.', next: 'Send at most 1 MiB.' },
  unsupported_media_type: {
    status: 415,
    retry: 'fix',
    title: 'That content type is not accepted.',
    next: 'Send application/json.',
  },
  method_not_allowed: {
    status: 405,
    retry: 'fix',
    title: 'That method is not allowed here.',
    next: 'See /openapi.json for the methods of this path.',
  },
  rate_limited: { status: 429, retry: 'wait', title: 'Too many requests.', next: 'Wait for the time in Retry-After.' },
  unavailable: {
    status: 503,
    retry: 'retry',
    title: 'A service behind this one does not answer.',
    next: 'Try again; /readyz names what is missing.',
  },
  internal: {
    status: 500,
    retry: 'retry',
    title: 'Something went wrong on our side.',
    next: 'Try again; if it stays, report the request id.',
  },
  // Catalogue of a vendor
  dependency_cycle: {
    status: 422,
    retry: 'fix',
    title: 'The components depend on one another in a circle.',
    next: 'Break the circle that `detail` names.',
  },
  unknown_component: {
    status: 422,
    retry: 'fix',
    title: 'A component that is referred to does not exist in this app.',
    next: 'Create it first, or correct the name.',
  },
  unknown_reference: {
    status: 422,
    retry: 'fix',
    title: 'A template refers to something that does not exist.',
    next: 'Correct the reference named in `detail`.',
  },
  invalid_template: {
    status: 422,
    retry: 'fix',
    title: 'A template cannot be parsed.',
    next: 'Correct it at the place named in `detail`.',
  },
  missing_input: {
    status: 422,
    retry: 'fix',
    title: 'A required input has no value.',
    next: 'Give the input named in `detail`.',
  },
  nothing_built: {
    status: 409,
    retry: 'fix',
    title: 'A component has no successful build.',
    next: 'Build it: POST /v1/apps/{app_id}/builds.',
  },
  deployment_in_progress: {
    status: 409,
    retry: 'wait',
    title: 'Another deployment of this install is not finished.',
    next: 'Wait for it, or cancel it.',
  },
  release_required: {
    status: 409,
    retry: 'fix',
    title: 'A release in between must not be skipped.',
    next: 'Deploy the required release that `detail` names first.',
  },
  release_bad: {
    status: 409,
    retry: 'human',
    title: 'This release was marked bad.',
    next: 'Deploy another release; or take the mark back: POST /v1/releases/{release_id}/mark-good.',
  },
  rollback_refused: {
    status: 409,
    retry: 'human',
    title: 'This install cannot go back that far.',
    next: 'Go back to the version that `detail` names, or to a newer one.',
  },
  // Agents and enrolment
  enrolment_refused: {
    status: 401,
    retry: 'fix',
    title: 'This enrolment token is not valid.',
    next: 'Make a new one: POST /v1/installs/{id}/enrolment-tokens. Tokens work once and for a short time.',
  },
  agent_revoked: {
    status: 403,
    retry: 'human',
    title: 'This agent has been revoked.',
    next: 'Enrol it again with a new token.',
  },
  agent_too_old: {
    status: 409,
    retry: 'human',
    title: 'This agent is older than the server supports.',
    next: 'Update the agent.',
  },
  // Attempts
  job_not_claimable: {
    status: 409,
    retry: 'wait',
    title: 'The job is not offered to this agent now.',
    next: 'Drop the offer; it is offered again when it is due.',
  },
  stale_attempt: {
    status: 409,
    retry: 'fix',
    title: 'A later attempt has taken over, or the lease has ended.',
    next: 'Stop the work of this attempt at once.',
  },
  lease_expired: {
    status: 409,
    retry: 'retry',
    title: 'The agent did not renew its lease in time.',
    next: 'Nothing to do: the job is offered again.',
  },
  cancelled: {
    status: 409,
    retry: 'fix',
    title: 'The job was cancelled.',
    next: 'Start it again if it is still wanted.',
  },
  timed_out: {
    status: 504,
    retry: 'human',
    title: 'The step took longer than it may.',
    next: 'Read the log; raise the time limit if the work is sound.',
  },
  job_replaced: {
    status: 409,
    retry: 'fix',
    title: 'A newer job of the same singleton has taken its place.',
    next: 'Look at the job named in `detail`.',
  },
  job_skipped: {
    status: 409,
    retry: 'fix',
    title: 'A person has left this job out.',
    next: 'Retry its deployment from this job if it is wanted after all.',
  },
  job_expired: {
    status: 409,
    retry: 'fix',
    title: 'The job did not begin in the time that was set for it.',
    next: 'Read what it waited for in its history; ask for it again.',
  },
  dependency_failed: {
    status: 409,
    retry: 'fix',
    title: 'A job that this one depends on did not succeed.',
    next: 'Mend the failed job and deploy again.',
  },
  statement_refused: {
    status: 403,
    retry: 'human',
    title: 'The signed job statement was refused by the agent.',
    next: 'Look at the reason in the job; if nobody changed keys, treat it as an attack.',
  },
  // Builds
  source_unavailable: {
    status: 502,
    retry: 'fix',
    title: 'The source cannot be checked out.',
    next: 'Check URL, ref and directory of the component.',
  },
  source_invalid: {
    status: 422,
    retry: 'fix',
    title: 'The source does not pass the checks of its kind.',
    next: 'Correct the file named in `detail` and build again.',
  },
  image_build_failed: {
    status: 422,
    retry: 'fix',
    title: 'The image build failed.',
    next: 'Read the build log; correct the Dockerfile and build again.',
  },
  external_image_unavailable: {
    status: 502,
    retry: 'fix',
    title: 'The external image cannot be fetched.',
    next: 'Check its reference and that the build agent may pull it.',
  },
  external_reference: {
    status: 422,
    retry: 'fix',
    title: 'The source names an image, a file or a chart that is neither in it nor in the vendor registry.',
    next: 'Make an image a component of kind external-image and refer to its output; put files and charts into the source.',
  },
  tool_missing: {
    status: 500,
    retry: 'human',
    title: 'A program that this job needs is not installed at the agent.',
    next: 'Install the program named in `detail`.',
  },
  // Artifacts and registries
  artifact_missing: {
    status: 404,
    retry: 'human',
    title: 'The artifact is not in the registry.',
    next: 'Build the component again and make a new release.',
  },
  digest_mismatch: {
    status: 409,
    retry: 'human',
    title: 'The bytes do not have the digest that was asked for.',
    next: 'Treat the registry as damaged or tampered with.',
  },
  signature_missing: {
    status: 403,
    retry: 'human',
    title: 'The artifact has no signature.',
    next: 'Build it again; if it was built here, find out who removed its signature from the registry.',
  },
  signature_untrusted: {
    status: 403,
    retry: 'human',
    title: 'The artifact is signed with a key that is not the vendor’s.',
    next: 'Do not deploy it; if the vendor has a new build agent, enrol the install agent again to pin its key.',
  },
  signature_invalid: {
    status: 403,
    retry: 'human',
    title: 'The signature does not belong to what it says.',
    next: 'Do not deploy it: treat the registry as tampered with, and build it again.',
  },
  signature_swapped: {
    status: 403,
    retry: 'human',
    title: 'The signature is about another artifact.',
    next: 'Do not deploy it: treat the registry as tampered with.',
  },
  provenance_refused: {
    status: 403,
    retry: 'human',
    title: 'The vendor signed it, but it was not built as this job needs it.',
    next: 'Read what differs in `detail`; build the component again and make a new release.',
  },
  registry_unavailable: {
    status: 503,
    retry: 'retry',
    title: 'A registry does not answer.',
    next: 'It is tried again; check that the registry is up.',
  },
  registry_denied: {
    status: 403,
    retry: 'human',
    title: 'A registry refused the credential.',
    next: 'Check the registry credential of the agent.',
  },
  pull_token_refused: {
    status: 401,
    retry: 'fix',
    title: 'The pull token was refused.',
    next: 'Ask for a new one within the job.',
  },
  // Provisioning
  plan_failed: {
    status: 422,
    retry: 'fix',
    title: 'The plan failed.',
    next: 'Read the log, correct the component and deploy again.',
  },
  apply_failed: {
    status: 422,
    retry: 'human',
    title: 'Applying the plan failed.',
    next: 'Read the log; deploy again when the cause is mended.',
  },
  destroy_failed: {
    status: 422,
    retry: 'human',
    title: 'Removing the component failed.',
    next: 'Read the log; tear down again when the cause is mended.',
  },
  stale_plan: {
    status: 409,
    retry: 'fix',
    title: 'What was planned is not what would be applied now.',
    next: 'Deploy again to make a new plan.',
  },
  plan_unapproved: {
    status: 409,
    retry: 'wait',
    title: 'The plan needs a yes first.',
    next: 'Read it at GET /v1/jobs/{job_id}/plan, then approve or reject it.',
  },
  plan_rejected: {
    status: 409,
    retry: 'human',
    title: 'The vendor has said no to this plan.',
    next: 'Read who rejected it and why; change the release or the inputs, and deploy again.',
  },
  release_downgraded: {
    status: 409,
    retry: 'fix',
    title: 'This release is older than one that this install has had.',
    next: 'Deploy the newest release; or say `rollback: true` if going back is what you want.',
  },
  policy_refused: {
    status: 403,
    retry: 'human',
    title: 'The customer does not allow this job.',
    next: 'Ask the customer to change the policy on the agent’s host; nobody else can.',
  },
  held_by_customer: {
    status: 409,
    retry: 'human',
    title: 'The customer holds this job back.',
    next: 'Ask the customer: the hold ends on the agent’s host, or at the time it names.',
  },
  agent_error: {
    status: 500,
    retry: 'human',
    title: 'The agent failed in a way it did not expect.',
    next: 'Read the log of the job and the agent.',
  },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;
export const ERROR_CODES = Object.keys(ERRORS) as ErrorCode[];

/** One field of a request that was refused. `pointer` is an RFC 6901 JSON Pointer into the body. */
export interface FieldError {
  readonly pointer: string;
  readonly message: string;
}

/** A failure as it crosses a wire: in a svc reply, an rpc reply, a job result. */
export interface WireError {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly errors?: readonly FieldError[];
}

/** An expected failure, by code. Anything thrown that is not one of these is a fault of ours (`internal`). */
export class ImsError extends Error {
  override readonly name = 'ImsError';
  constructor(
    readonly code: ErrorCode,
    /** What happened this time, with names; never a secret. Empty: the title says it all. */
    readonly detail: string = ERRORS[code].title,
    readonly errors: readonly FieldError[] = [],
    options?: ErrorOptions,
  ) {
    super(`${code}: ${detail}`, options);
  }

  get entry(): ErrorEntry {
    return ERRORS[this.code];
  }

  toWire(): WireError {
    return { code: this.code, detail: this.detail, ...(this.errors.length > 0 ? { errors: this.errors } : {}) };
  }

  /** The error of a wire reply. A code that this build does not know (a newer peer) becomes `internal`. */
  static fromWire(wire: WireError): ImsError {
    const known = Object.hasOwn(ERRORS, wire.code);
    return new ImsError(
      known ? wire.code : 'internal',
      known ? wire.detail : `${wire.code}: ${wire.detail}`,
      wire.errors ?? [],
    );
  }

  /** Any thrown value as an ImsError; unknown ones become `internal` with the cause kept for the log. */
  static of(thrown: unknown): ImsError {
    if (thrown instanceof ImsError) return thrown;
    return new ImsError('internal', ERRORS.internal.title, [], { cause: thrown });
  }
}
