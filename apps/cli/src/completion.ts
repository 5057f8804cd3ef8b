import { type Command } from 'commander';

const words = (command: Command): string[] => [
  ...command.commands.map((each) => each.name()),
  ...[...command.options, ...(command.parent?.options ?? [])]
    .map(({ long }) => long ?? '')
    .filter((long) => long !== ''),
];

/** A script that completes commands and options. Made from the commands themselves, so it cannot be older than they are. */
export function completionScript(shell: string, program: Command): string {
  const cases = program.commands.map((command) => [command.name(), words(command)] as const);
  const names = words(program).join(' ');
  if (shell === 'fish') {
    const top = program.commands.map(
      (command) =>
        `complete -c ims -n __fish_use_subcommand -f -a ${command.name()} -d ${JSON.stringify(command.description())}`,
    );
    const options = program.commands.flatMap((command) =>
      command.options.map(
        ({ long, description }) =>
          `complete -c ims -n "__fish_seen_subcommand_from ${command.name()}" -l ${(long ?? '').slice(2)} -d ${JSON.stringify(description)}`,
      ),
    );
    return `${[...top, ...options].join('\n')}\n`;
  }
  const branches = cases.map(([name, list]) => `    ${name}) words="${list.join(' ')}" ;;`).join('\n');
  const bash = `_ims() {
  local words
  case "\${COMP_WORDS[1]}" in
${branches}
    *) words="${names}" ;;
  esac
  [ "$COMP_CWORD" -eq 1 ] && words="${names}"
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _ims ims
`;
  return shell === 'zsh' ? `autoload -U +X bashcompinit && bashcompinit\n${bash}` : bash;
}
