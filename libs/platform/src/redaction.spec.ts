import fc from 'fast-check';
import { redactText, registerSecret } from './redaction.js';

describe('redactText', () => {
  it.each([
    ['an API key', 'key ims_ven_01h455vb4pex_4mAbCdEfGhIjKlMnOpQrStUv0 used', '4mAbCdEfGhIjKlMnOpQrStUv0'],
    ['a pull token', 'tok_01h455vb4pex5vsknk084sn02q.abcdefghijkl', 'abcdefghijkl'],
    ['a NATS seed', `seed SUAGX2P4VQ5NUHZ7A3KS6XW2YBCDEFGHIJKLMNOPQRSTUVWXYZ234567AB`, 'SUAGX2P4'],
    ['a JWT', 'jwt eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJ4In0.c2lnbmF0dXJl', 'c2lnbmF0dXJl'],
    ['a bearer header', 'authorization: Bearer abcdefgh12345', 'abcdefgh12345'],
    ['a URL password', 'connect postgres://ims:pa55word@db:5432/ims', 'pa55word'],
    ['an assignment', 'run with DB_PASSWORD=letmein now', 'letmein'],
    ['a field at any depth', '{"a":{"b":[{"client_secret":"s3cr3t"}]}}', 's3cr3t'],
    ['a field with an escaped quote', '{"password":"a\\"bcd"}', 'bcd'],
    ['a field in a JSON text', JSON.stringify({ body: '{"api_key":"zyxw"}' }), 'zyxw'],
    ['a private key', '-----BEGIN PRIVATE KEY-----\\nMC4CAQ\\n-----END PRIVATE KEY-----', 'MC4CAQ'],
  ])('cuts %s', (_, text, secret) => {
    expect(redactText(text)).not.toContain(secret);
    expect(redactText(text)).toContain('[redacted');
  });

  it.each([
    '{"token_id":"tok_01h455vb4pex5vsknk084sn02q","prev_hash":"ab"}',
    '{"msg":"ready","port":3000}',
    'the token was refused: it is used',
    'see https://example.com/a?b=c@d',
    '{"seq":1,"job_id":"job_01h455vb4pex5vsknk084sn02q"}',
  ])('leaves %s', (text) => {
    expect(redactText(text)).toBe(text);
  });

  it('cuts any known secret, also JSON-escaped, and keeps the line JSON', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 8, maxLength: 40 }), fc.string(), fc.string(), (secret, before, after) => {
        registerSecret(secret);
        const line = redactText(JSON.stringify({ msg: `${before}${secret}${after}` }));
        // A secret that is all backslashes and quotes may end up cut differently, never in clear.
        expect(line).not.toContain(JSON.stringify(secret).slice(1, -1));
      }),
      { numRuns: 200 },
    );
  });
});
