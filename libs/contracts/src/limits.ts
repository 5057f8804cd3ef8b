/** Every limit and period of the product, once. A value that an operator may change is only the default here. */
export const LIMITS = {
  /**
   * A lease, from the grant or the last renewal. Lost agent to re-offered is at most lease + sweep = 12.5 s, below the
   * promised 15 s; two beats may be lost before an agent has to stop its work.
   */
  leaseMs: 12_000,
  /** An agent renews all its leases with one message this often. */
  beatMs: 4_000,
  /** An agent kills its own process groups when so little of a lease is left: SIGKILL needs well under a second. */
  selfFenceMarginMs: 2_000,
  /** How often each scheduler replica looks for ended leases and offers that nobody claimed. */
  sweepMs: 500,
  /** An offer that nobody claims is published again after this time, any number of times. */
  reofferMs: 10_000,
  /** An agent without a beat for this long is shown as offline (3 beats). */
  offlineAfterMs: 12_000,
  /** A result without a receipt is sent again after this time. */
  resultResendMs: 3_000,
  /** SIGINT (terraform unlocks), then SIGTERM, then SIGKILL: gone within 11 s of the cancel at the latest. */
  cancelSigtermMs: 5_000,
  cancelSigkillMs: 9_000,
  /** Jobs that one agent runs at the same time, unless its settings say otherwise. */
  agentSlots: 4,
  agentSlotsMax: 64,
  /** A step of priority is worth so much waiting; the steps go from -priorityMax to priorityMax. */
  priorityStepMs: 10_000,
  priorityMax: 100,
  /** How far ahead a job may be scheduled by a delay: 30 days. */
  delaySecondsMax: 30 * 24 * 60 * 60,
  jobsPerGraph: 500,
  /** What an agent of this version can do, as one number; it goes up with each thing that the server relies on. */
  agentProtocol: 1,
  /** Agents below this get no work any more (`agent_too_old`): raised when the server stops to serve what they do. */
  agentProtocolMin: 1,
  enrolmentTokenMs: 60 * 60_000,
  agentJwtMs: 4 * 60 * 60_000,
  jobStatementMs: 60 * 60_000,
  pullTokenMs: 5 * 60_000,
  /** The same agent key repeating the same redemption within this time gets the same answer (its reply was lost). */
  redeemRetryMs: 10_000,
  /**
   * A registry token cannot be recalled, so a redeemed one lives no longer than the last blob needs to begin: the
   * minimum and the time for the artifact's bytes at the slowest rate reckoned with, at most registryTokenMs.
   * distribution allows 60 s of leeway on top.
   */
  registryTokenMs: 15 * 60_000,
  registryTokenMinMs: 60_000,
  pullBytesPerMs: 2_000,
  requestSkewMs: 60_000,
  /** A download plan: as many manifests as a copy reads, and blobs for a whole index of large images. */
  planManifests: 256,
  planBlobs: 2_000,
  /** Bytes of all manifests of a plan together; with 2,000 URLs of 2 KB an answer stays below 16 MiB. */
  planManifestBytes: 8 * 1024 * 1024,
  vitalsMs: 15_000,
  logFrameLines: 200,
  logFrameBytes: 128 * 1024,
  logLineBytes: 16 * 1024,
  bodyBytes: 1024 * 1024,
  pageDefault: 50,
  pageMax: 200,
  /** A sign-in at the web page: a working day. */
  sessionMs: 12 * 60 * 60_000,
  signInCodeMs: 10 * 60_000,
  /** A key that a vendor makes for itself, unless it says otherwise. The first one, of sign-up, does not end. */
  apiKeyMs: 90 * 24 * 60 * 60_000,
  /**
   * Requests that the gateway takes in one window. An operator may set others: `RATE_REQUESTS` (of one API key, or of
   * one address where no key is needed; counted by each replica alone), `RATE_EXPENSIVE` (of one key, of what reads a
   * lot), and over all replicas together `RATE_SIGN_INS` (sign-ins, and wrong keys, of one address) and
   * `RATE_ENROLMENTS` (of agents behind one address).
   */
  rateWindowMs: 60_000,
  rateRequests: 6_000,
  rateExpensive: 300,
  rateSignIns: 300,
  rateEnrolments: 600,
  webhooksPerVendor: 20,
  /** An endpoint that has not answered by then is tried again later. */
  webhookTimeoutMs: 15_000,
  /** A webhook at which nothing has arrived for so long is turned off. */
  webhookOffAfterMs: 24 * 60 * 60_000,
  webhookKeptMs: 30 * 24 * 60 * 60_000,
  idempotencyMs: 24 * 60 * 60_000,
  /** Messages are refused by NATS above 1 MiB; leave room for headers. */
  messageBytes: 1_000_000,
  componentsPerApp: 100,
  /** A plan as it travels: so many changes, so many fields of each, and all of it in so many bytes of JSON. */
  planChanges: 500,
  planFields: 40,
  planBytes: 200 * 1024,
  rolloutGroups: 20,
} as const;
