import { Command, CommanderError, Option } from 'commander';
import { VERSION } from './config.js';
import { codeOf, explain, EXIT } from './exit.js';
import { Session, type GlobalOptions } from './session.js';
import { Terminal } from './terminal.js';

/** A command as its module has it; what it gets is what its declaration below says. */
type Action = (session: Session, args: never, options: never) => Promise<number>;

const collect = (line: string, before: string[] = []): string[] => [...before, line];
const pairs = (text: string, before: Record<string, string> = {}): Record<string, string> => {
  const at = text.indexOf('=');
  if (at < 1) throw new CommanderError(2, 'ims.pair', `error: ${text} is not NAME=VALUE`);
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
};

/**
 * All commands. Each loads its own module when it is run, so that `ims` starts fast: nothing but this file, commander
 * and the colours is read before.
 */
function declare(finish: (code: number) => void): Command {
  const program = new Command('ims')
    .description('Vendor Cloud from the command line: from source to running installs and back.')
    .version(VERSION, '-V, --version', 'print the version of ims')
    .option('--url <url>', 'where Vendor Cloud is (IMS_URL)')
    .option('--context <name>', 'which context to use (IMS_CONTEXT)')
    .option('-o, --output <format>', 'table, wide, json, yaml, ndjson or name', 'table')
    .option('--no-color', 'plain text (NO_COLOR)')
    .option('--no-prompt', 'never ask')
    .showHelpAfterError('(add --help for how it is used)')
    .configureHelp({ sortSubcommands: false, showGlobalOptions: false })
    .exitOverride();
  const lazy =
    (load: () => Promise<Action>) =>
    async (...given: unknown[]): Promise<void> => {
      const command = given.at(-1) as Command;
      const options = command.optsWithGlobals<GlobalOptions>();
      const session = new Session(options);
      finish(await interruptibly(session, await load(), given.slice(0, -2), options));
    };
  const setup = () => import('./commands/setup.js');
  const product = () => import('./commands/product.js');
  const installs = () => import('./commands/installs.js');
  const jobs = () => import('./commands/jobs.js');
  const agents = () => import('./commands/agents.js');
  const queue = () => import('./commands/queue.js');
  const app = ['--app <app>', 'id or name; default: that of vendor-cloud.yaml here, or the only one'] as const;
  const limit = ['--limit <n>', 'how many at most, or all (default 50)'] as const;
  const noWait = ['--no-wait', 'answer at once; the work goes on'] as const;
  const timeout = ['--timeout <time>', 'wait so long at most, e.g. 10m (exit code 7)'] as const;

  program.commandsGroup('Begin');
  program
    .command('login')
    .description('keep a URL and an API key (by standard input)')
    .option('--key-file <file>', 'read the key from a file')
    .action(lazy(async () => (await setup()).login));
  program
    .command('signup <name>')
    .description('for operators: sign up a vendor (IMS_OPERATOR_KEY)')
    .action(lazy(async () => (await setup()).signup));
  program
    .command('whoami')
    .description('whose key is used, and where')
    .action(lazy(async () => (await setup()).whoami));
  const context = program.command('context').description('the places that are known');
  context
    .command('list', { isDefault: true })
    .description('list them')
    .action(lazy(async () => (await setup()).contextList));
  context
    .command('use <name>')
    .description('make one current')
    .action(lazy(async () => (await setup()).contextUse));
  context
    .command('remove <name>')
    .description('forget one and its key')
    .action(lazy(async () => (await setup()).contextRemove));
  program
    .command('doctor')
    .description('look at everything between here and a running job')
    .action(lazy(async () => (await setup()).doctor));

  program.commandsGroup('Product');
  program
    .command('init')
    .description('write a vendor-cloud.yaml to begin with')
    .option('--app <name>', 'name of the app (default: the folder’s)')
    .option('--force', 'overwrite the one that is there')
    .action(lazy(async () => (await setup()).init));
  program
    .command('apply')
    .description('make app and components as vendor-cloud.yaml says; shows the difference first')
    .option('-f, --file <file>', 'the file', 'vendor-cloud.yaml')
    .option('--var <NAME=VALUE>', 'a value for ${NAME} in the file', pairs)
    .option('--dry-run', 'show the difference only')
    .option('--detailed-exitcode', 'with --dry-run: 2 when there are changes')
    .option('-y, --yes', 'do not ask')
    .action(lazy(async () => (await product()).apply));
  program
    .command('schema')
    .description('the JSON Schema of vendor-cloud.yaml')
    .action(lazy(async () => (await setup()).schema));
  program
    .command('apps [app]')
    .description('list apps, or the components of one')
    .option(...limit)
    .action(lazy(async () => (await product()).apps));
  program
    .command('build [components...]')
    .description('build components (default: all) and watch')
    .option(...app)
    .option(...noWait)
    .option(...timeout)
    .action(lazy(async () => (await product()).build));
  program
    .command('builds')
    .description('list builds')
    .option(...app)
    .option(...limit)
    .action(lazy(async () => (await product()).builds));
  program
    .command('release <version>')
    .description('make a release of the newest successful builds')
    .option(...app)
    .action(lazy(async () => (await product()).release));
  program
    .command('releases [version]')
    .description('list releases, or what is in one')
    .option(...app)
    .option(...limit)
    .action(lazy(async () => (await product()).releases));

  program.commandsGroup('Installs');
  program
    .command('install <name>')
    .description('make an install of an app: one customer’s copy')
    .option(...app)
    .option('-i, --input <NAME=VALUE>', 'an input; again for the next', pairs)
    .action(lazy(async () => (await installs()).install));
  program
    .command('installs [install]')
    .description('list installs, or one with its components and outputs')
    .option(...limit)
    .action(lazy(async () => (await installs()).installs));
  program
    .command('enrol <install>')
    .alias('enroll')
    .description('a one-use token for the agent of an install, or of an agent id')
    .action(lazy(async () => (await installs()).enrol));
  program
    .command('deploy <install> [version]')
    .description('take an install to a release (default: the latest) and watch')
    .option('--rollback', 'allow an older release than it has had')
    .option(...noWait)
    .option(...timeout)
    .action(lazy(async () => (await installs()).deploy));
  program
    .command('rollback <install> [version]')
    .description('take an install back (default: to the release before)')
    .option(...noWait)
    .option(...timeout)
    .action(lazy(async () => (await installs()).rollback));
  program
    .command('teardown <install>')
    .description('remove everything that was provisioned')
    .option('-y, --yes', 'do not ask for the name')
    .option(...noWait)
    .option(...timeout)
    .action(lazy(async () => (await installs()).teardown));
  program
    .command('deployments <install>')
    .description('list deployments of an install, or show one by id')
    .option(...limit)
    .action(lazy(async () => (await installs()).deployments));
  program
    .command('plan <id>')
    .description('what a job, a deployment, or the last deployment of an install changes')
    .option('--detailed-exitcode', '0 nothing, 1 error, 2 changes')
    .action(lazy(async () => (await installs()).plan));
  program
    .command('history <id>')
    .description('what happened to an install, a deployment or a job')
    .option(...limit)
    .action(lazy(async () => (await installs()).history));

  program.commandsGroup('Jobs');
  program
    .command('jobs [id]')
    .description('list jobs and why they wait; one with its steps, or those of a deployment')
    .option('--install <install>', 'of one install')
    .option('--deployment <id>', 'of one deployment')
    .option('--status <status>', 'in one status')
    .option(...limit)
    .action(lazy(async () => (await jobs()).jobs));
  program
    .command('logs <id>')
    .description('the log of a job, build or deployment')
    .option('-f, --follow', 'until it has ended')
    .option('--after <position>', 'go on after <attempt>.<line>')
    .option('-t, --timestamps', 'with the time of each line')
    .action(lazy(async () => (await jobs()).logs));
  program
    .command('watch <id>')
    .description('watch a deployment, build or job to its end')
    .option(...timeout)
    .action(lazy(async () => (await installs()).watch));
  program
    .command('cancel <id>')
    .description('cancel a job or a deployment')
    .option('--reason <text>', 'recorded')
    .option('--force', 'without the polite signals')
    .action(lazy(async () => (await jobs()).cancel));
  program
    .command('retry <id>')
    .description('begin again: a deployment, a job of one, or a build')
    .option('--from <job>', 'go on where the deployment stopped, with this job and what depends on it')
    .option('--skip <job>', 'go on where the deployment stopped, without this job; again for the next', collect)
    .option('--reason <text>', 'recorded')
    .action(lazy(async () => (await jobs()).retry));
  program
    .command('resume <job>')
    .description('let a job go on that is held because of a tampered token')
    .option('--reason <text>', 'recorded')
    .action(lazy(async () => (await jobs()).resume));

  program
    .command('skip <job>')
    .description('leave out a job that has not begun; what depends on it goes on')
    .option('--reason <text>', 'recorded')
    .action(lazy(async () => (await queue()).skip));
  program
    .command('locks')
    .description('who holds which lock, and how many wait for it')
    .option('--install <install>', 'of one install')
    .option(...limit)
    .action(lazy(async () => (await queue()).locks));
  program
    .command('unlock <job>')
    .description('take the lock of a running job away')
    .option('--reason <text>', 'recorded')
    .action(lazy(async () => (await queue()).unlock));
  program
    .command('dead-letters [id]')
    .description('messages that no service could take, and why')
    .option(...limit)
    .action(lazy(async () => (await queue()).deadLetters));
  program
    .command('redrive <id>')
    .description('send such a message again, once')
    .option('--reason <text>', 'recorded')
    .action(lazy(async () => (await queue()).redrive));

  program.commandsGroup('Agents and tokens');
  program
    .command('agents [id]')
    .description('list agents and whether they are there')
    .option(...limit)
    .action(lazy(async () => (await agents()).agents));
  program
    .command('pause-agent <id>')
    .description('let an agent take no jobs; what runs goes on')
    .option('--note <text>', 'shown with every job that waits for it')
    .action(lazy(async () => (await queue()).pauseAgent));
  program
    .command('resume-agent <id>')
    .description('let it take jobs again')
    .option('--note <text>', 'recorded')
    .action(lazy(async () => (await queue()).resumeAgent));
  program
    .command('drain-agent <id>')
    .description('let it take no jobs, and record when the last one has ended')
    .option('--note <text>', 'shown with every job that waits for it')
    .action(lazy(async () => (await queue()).drainAgent));
  program
    .command('revoke-agent <id>')
    .description('end an agent’s identity')
    .action(lazy(async () => (await agents()).revokeAgent));
  program
    .command('tokens <install>')
    .description('one-time pull tokens of an install')
    .option(...limit)
    .action(lazy(async () => (await agents()).tokens));
  program
    .command('revoke-token <id>')
    .description('end a pull token that is not redeemed')
    .action(lazy(async () => (await agents()).revokeToken));

  program.commandsGroup('Keys and audit');
  const keys = program.command('keys').description('API keys of this vendor');
  keys
    .command('list', { isDefault: true })
    .description('list them')
    .option(...limit)
    .action(lazy(async () => (await agents()).keys));
  keys
    .command('create <name>')
    .description('make one; it is shown once, alone on stdout with -o name')
    .requiredOption('--role <role>', 'owner, engineer, ci or read_only')
    .option('--expires <date>', 'when it ends, e.g. 2027-01-31 (default: in 90 days)')
    .action(lazy(async () => (await agents()).createKey));
  keys
    .command('revoke <id>')
    .description('end one')
    .action(lazy(async () => (await agents()).revokeKey));
  program
    .command('audit')
    .description('who changed what, from where; refusals too')
    .option('--actor <actor>', 'of one key: key:<id>')
    .option('--action <action>', 'of one kind, e.g. createDeployment')
    .option(...limit)
    .action(lazy(async () => (await agents()).audit));

  program.commandsGroup('More');
  program
    .command('open')
    .description('a link that opens the web page, signed in')
    .action(lazy(async () => (await agents()).open));
  program
    .command('api <method> <path>')
    .description('any call of the API as it is')
    .option('-d, --data <json>', 'the body; @FILE, or - for standard input')
    .option('-H, --header <line>', 'a header; again for the next', collect)
    .action(lazy(async () => (await setup()).api));
  program
    .command('version')
    .description('versions of ims and of the server')
    .action(lazy(async () => (await setup()).version));
  program
    .command('completion')
    .description('a completion script for your shell')
    .addOption(new Option('--shell <shell>', 'which').choices(['bash', 'zsh', 'fish']).default('bash'))
    .action(async (options: { shell: string }) => {
      const { completionScript } = await import('./completion.js');
      process.stdout.write(completionScript(options.shell, program));
    });
  program
    .command('exit-codes')
    .description('what a script can tell from the exit code')
    .action(() => {
      for (const [code, meaning] of Object.values(EXIT))
        process.stdout.write(`${String(code).padStart(3)}  ${meaning}\n`);
    });
  program.addHelpText('after', EXAMPLES);
  return program;
}

const EXAMPLES = `
From source to a running install:
  ims init && ims apply && ims build && ims release 1.0.0
  ims install acme --input region=eu-central-1
  ims enrol acme                 # its token, for the customer's host
  ims deploy acme && ims installs acme
`;

/** Ctrl-C leaves, it does not cancel: the work goes on. A second one ends at once. */
async function interruptibly(session: Session, action: Action, args: unknown[], options: object): Promise<number> {
  const left = new Error('interrupted');
  const onInterrupt = (): void => {
    if (session.interrupted.signal.aborted) process.exit(codeOf('interrupted'));
    session.interrupted.abort(left);
  };
  process.on('SIGINT', onInterrupt);
  const interrupted = new Promise<never>((_, reject) => {
    session.interrupted.signal.addEventListener('abort', () => reject(left), { once: true });
  });
  try {
    return await Promise.race([action(session, args as never, options as never), interrupted]);
  } catch (error) {
    if (!session.interrupted.signal.aborted) throw error;
    session.tellHowToGoOn();
    return codeOf('interrupted');
  } finally {
    process.off('SIGINT', onInterrupt);
  }
}

/** Runs one command line; answers the exit code. Nothing is thrown: each failure is told with its next step. */
export async function run(argv: readonly string[]): Promise<number> {
  let code = codeOf('ok');
  try {
    const program = declare((given) => (code = given));
    if (argv.length === 0) program.outputHelp();
    else await program.parseAsync(argv, { from: 'user' });
    return code;
  } catch (thrown) {
    if (thrown instanceof CommanderError) {
      if (thrown.code === 'ims.pair') process.stderr.write(`${thrown.message}\n`);
      return thrown.exitCode === 0 ? codeOf('ok') : codeOf('usage');
    }
    const terminal = new Terminal({ color: !argv.includes('--no-color'), prompt: false });
    const { message, next, requestId, exit } = explain(thrown);
    const c = terminal.errorColours;
    terminal.tell(`${c.red('✗')} ${message}`);
    for (const line of next) terminal.tell(`  ${c.cyan('→')} ${line}`);
    if (requestId !== undefined) terminal.tell(c.dim(`  request ${requestId}`));
    return codeOf(exit);
  }
}
