import { randomBytes, timingSafeEqual } from 'node:crypto';
import { AwsError } from './errors.js';
import { allows, MalformedPolicy, parsePolicy, type Policy } from './policy.js';
import { claimOf, isSignedWith, type SignedRequest } from './sigv4.js';

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}
/** Who calls, with everything that narrows it. Each list must allow an action by itself. */
export interface Principal {
  readonly arn: string;
  readonly policies: readonly (readonly Policy[])[];
  /** Of a role session: after it, requests are refused. */
  readonly endsAt?: Date;
  readonly isSession: boolean;
}
interface Role {
  readonly arn: string;
  readonly policy: Policy;
  readonly trusted: readonly string[];
}
interface Key {
  readonly principal: Principal;
  readonly credentials: Credentials;
}
interface EcrToken {
  readonly principal: Principal;
  readonly endsAt: Date;
}

export const TOKEN_LIFE_MS = 12 * 3_600_000;
const MIN_SESSION_SECONDS = 900;
const MAX_SESSION_SECONDS = 3_600;
const MAX_SESSION_POLICY = 2_048;
const SESSION_NAME = /^[\w+=,.@-]{2,64}$/;

/** Users, roles, sessions and registry tokens of one account, and what they may do. */
export class Identities {
  private readonly keys = new Map<string, Key>();
  private readonly roles = new Map<string, Role>();
  private readonly tokens = new Map<string, EcrToken>();

  constructor(
    private readonly account: string,
    private readonly now: () => Date,
  ) {}

  addUser(name: string, policy: Policy): Credentials & { readonly arn: string } {
    const arn = `arn:aws:iam::${this.account}:user/${name}`;
    const credentials = { accessKeyId: keyId('AKIA'), secretAccessKey: randomBytes(30).toString('base64') };
    const principal = { arn, policies: [[parsePolicy(JSON.stringify(policy))]], isSession: false };
    this.keys.set(credentials.accessKeyId, { principal, credentials });
    return { ...credentials, arn };
  }

  addRole(name: string, policy: Policy, trusted: readonly string[]): string {
    const arn = `arn:aws:iam::${this.account}:role/${name}`;
    this.roles.set(arn, { arn, policy: parsePolicy(JSON.stringify(policy)), trusted });
    return arn;
  }

  /** The signer of a request to one of the APIs. Throws the error that AWS answers with. */
  authenticate(request: SignedRequest, service: string): Principal {
    const claim = claimOf(request);
    if (claim?.service !== service) throw new AwsError('MissingAuthenticationTokenException', 403, 'no signature');
    const key = this.keys.get(claim.accessKeyId);
    if (!key) throw new AwsError('UnrecognizedClientException', 403, 'the access key is not known');
    const { credentials, principal } = key;
    // The signature's clock is the real one; `now` may have been advanced by a test.
    const signed = isSignedWith(credentials.secretAccessKey, claim, request, new Date());
    if (!signed || !same(claim.sessionToken ?? '', credentials.sessionToken ?? '')) {
      throw new AwsError('InvalidSignatureException', 403, 'the signature does not match');
    }
    if (principal.endsAt && principal.endsAt <= this.now()) {
      throw new AwsError('ExpiredTokenException', 403, 'the session has ended');
    }
    return principal;
  }

  may(principal: Principal, action: string, resource: string): boolean {
    const question = { action, resource, now: this.now() };
    return principal.policies.every((policies) => allows(policies, question));
  }

  require(principal: Principal, action: string, resource: string): void {
    if (this.may(principal, action, resource)) return;
    throw new AwsError('AccessDeniedException', 400, `${principal.arn} may not ${action} on ${resource}`);
  }

  assume(
    caller: Principal,
    asked: { roleArn: string; sessionName: string; seconds: number; policy: string | undefined },
  ): { credentials: Credentials; endsAt: Date; arn: string } {
    const { roleArn, sessionName, seconds, policy } = asked;
    const role = this.roles.get(roleArn);
    if (!role?.trusted.includes(caller.arn) || !this.may(caller, 'sts:AssumeRole', roleArn)) {
      throw new AwsError('AccessDenied', 403, `${caller.arn} may not sts:AssumeRole on ${roleArn}`);
    }
    if (!SESSION_NAME.test(sessionName)) throw new AwsError('ValidationError', 400, 'roleSessionName');
    if (!Number.isInteger(seconds) || seconds < MIN_SESSION_SECONDS || seconds > MAX_SESSION_SECONDS) {
      throw new AwsError('ValidationError', 400, 'durationSeconds is 900 to 3600');
    }
    if ((policy?.length ?? 0) > MAX_SESSION_POLICY)
      throw new AwsError('PackedPolicyTooLarge', 400, 'the policy is too large');
    const endsAt = new Date(this.now().getTime() + seconds * 1000);
    const arn = `arn:aws:sts::${this.account}:assumed-role/${roleArn.split('/').at(-1) ?? ''}/${sessionName}`;
    const credentials = {
      accessKeyId: keyId('ASIA'),
      secretAccessKey: randomBytes(30).toString('base64'),
      sessionToken: randomBytes(240).toString('base64'),
    };
    // A session policy only ever narrows: both the role and it must allow.
    const policies = [[role.policy], ...(policy === undefined ? [] : [[sessionPolicy(policy)]])];
    this.keys.set(credentials.accessKeyId, { credentials, principal: { arn, policies, endsAt, isSession: true } });
    return { credentials, endsAt, arn };
  }

  /**
   * A registry password for a principal: it lives for 12 h, also when the session that asked for it ends sooner, which
   * is the worst that AWS's documentation leaves possible.
   */
  issueToken(principal: Principal): { password: string; endsAt: Date } {
    const password = randomBytes(1_200).toString('base64');
    const endsAt = new Date(this.now().getTime() + TOKEN_LIFE_MS);
    this.tokens.set(password, { principal, endsAt });
    return { password, endsAt };
  }

  /** Who holds `Basic AWS:<password>`, or undefined. */
  holderOf(authorization: string | undefined): Principal | undefined {
    const encoded = /^Basic ([A-Za-z0-9+/=]+)$/.exec(authorization ?? '')?.[1] ?? '';
    const [user, password = ''] = Buffer.from(encoded, 'base64').toString('utf8').split(':');
    const token = this.tokens.get(password);
    return user === 'AWS' && token && token.endsAt > this.now() ? token.principal : undefined;
  }
}

function sessionPolicy(text: string): Policy {
  try {
    return parsePolicy(text);
  } catch (error) {
    if (!(error instanceof MalformedPolicy)) throw error;
    throw new AwsError('MalformedPolicyDocument', 400, error.message);
  }
}

function same(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const keyId = (prefix: string): string => prefix + [...randomBytes(16)].map((byte) => ALPHABET[byte & 31]).join('');
