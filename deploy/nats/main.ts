import { parseArgs } from 'node:util';
import { Keys, KEY_NAMES } from './keys.js';

const USAGE = `Usage: npm run keys -- <command> --dir DIR
  init                          make what is missing, write the server's configuration
  show                          public keys, files, settings; no secret
  rotate NAME                   a new key beside the old one; both are valid from now on
  retire NAME [--force]         end the old one
  apply --nats URL [--ca-file]  give the running servers the present statement
NAME: ${KEY_NAMES.join(', ')}
Order: rotate, apply, restart the services one by one; after four hours retire, apply, restart again.
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dir: { type: 'string' },
    force: { type: 'boolean' },
    nats: { type: 'string', multiple: true },
    'ca-file': { type: 'string' },
  },
});
const [command, name = ''] = positionals;
if (values.dir === undefined || command === undefined) {
  process.stderr.write(USAGE);
  process.exit(2);
}
const keys = new Keys(values.dir);
try {
  if (command === 'init') await keys.init();
  else if (command === 'rotate') await keys.rotate(name);
  else if (command === 'retire') await keys.retire(name, values.force === true);
  else if (command === 'apply')
    process.stdout.write(`${await keys.apply(values.nats ?? [], values['ca-file'])} servers have it\n`);
  else if (command !== 'show') throw new Error(`there is no command ${command}`);
  if (command !== 'apply') process.stdout.write(`${(await keys.show()).join('\n')}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
