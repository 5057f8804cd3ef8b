import { randomUUID } from 'node:crypto';
import { AwsError } from './errors.js';
import { type Identities, type Principal } from './identities.js';

/** The two calls of STS's query API that registry-token, or somebody who looks after it, makes; answers in XML. */
export function answerSts(form: URLSearchParams, caller: Principal, identities: Identities, account: string): string {
  const action = form.get('Action') ?? '';
  switch (action) {
    case 'GetCallerIdentity':
      return wrap(action, { Arn: caller.arn, UserId: caller.arn.split('/').at(-1) ?? '', Account: account });
    case 'AssumeRole': {
      const { credentials, endsAt, arn } = identities.assume(caller, {
        roleArn: form.get('RoleArn') ?? '',
        sessionName: form.get('RoleSessionName') ?? '',
        seconds: Number(form.get('DurationSeconds') ?? 3_600),
        policy: form.get('Policy') ?? undefined,
      });
      return wrap(action, {
        Credentials: {
          AccessKeyId: credentials.accessKeyId,
          SecretAccessKey: credentials.secretAccessKey,
          SessionToken: credentials.sessionToken ?? '',
          Expiration: endsAt.toISOString(),
        },
        AssumedRoleUser: { Arn: arn, AssumedRoleId: `AROA:${arn.split('/').at(-1) ?? ''}` },
      });
    }
    default:
      throw new AwsError('InvalidAction', 400, action);
  }
}

export function stsError({ code, message }: AwsError): string {
  const error = xml({ Error: { Type: 'Sender', Code: code, Message: message }, RequestId: randomUUID() });
  return `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">${error}</ErrorResponse>`;
}

type Tree = { readonly [name: string]: string | Tree };

function wrap(action: string, result: Tree): string {
  const body = xml({ [`${action}Result`]: result, ResponseMetadata: { RequestId: randomUUID() } });
  return `<${action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">${body}</${action}Response>`;
}

const xml = (tree: Tree): string =>
  Object.entries(tree)
    .map(([name, value]) => `<${name}>${typeof value === 'string' ? escape(value) : xml(value)}</${name}>`)
    .join('');
const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
