/** `shoal completion`: a script for bash, made from the verbs themselves, so that it never knows less than they do. */
import { optionsOf, type Verb } from '../arguments.ts';

export function completionScript(verbs: readonly Verb[]): string {
  const first = [...new Set(verbs.map(({ name }) => name.split(' ')[0]!))];
  const lines = verbs.map((verb) => {
    const options = Object.keys(optionsOf(verb)).map((name) => `--${name}`);
    return `    '${verb.name}') words='${options.join(' ')}' ;;`;
  });
  const groups = new Map<string, string[]>();
  for (const { name } of verbs) {
    const [group, word] = name.split(' ');
    if (word !== undefined) groups.set(group!, [...(groups.get(group!) ?? []), word]);
  }
  const seconds = [...groups].map(([group, words]) => `      ${group}) words='${words.join(' ')}' ;;`);
  return `# shoal completion >> ~/.bashrc
_shoal() {
  local words='' at=\${COMP_WORDS[COMP_CWORD]} verb=\${COMP_WORDS[1]:-}
  if [ "$COMP_CWORD" = 1 ]; then
    words='${first.join(' ')}'
  else
    if [ "$COMP_CWORD" = 2 ]; then case $verb in
${seconds.join('\n')}
      *) ;;
    esac; fi
    [ -n "$words" ] || case "$verb \${COMP_WORDS[2]:-}" in
${[...groups.keys()].map((group) => `      ${group}\\ *) verb="$verb \${COMP_WORDS[2]}" ;;`).join('\n')}
      *) ;;
    esac
    [ -n "$words" ] || case $verb in
${lines.join('\n')}
      *) ;;
    esac
  fi
  case $at in
    -*|'') COMPREPLY=($(compgen -W "$words" -- "$at")) ;;
    *) COMPREPLY=($(compgen -W "$words" -- "$at")); [ \${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$at")) ;;
  esac
}
complete -F _shoal shoal ./shoal
`;
}

/** The verb needs all others, so it is made from them. */
export const makeCompletion = (verbs: () => readonly Verb[]): Verb => ({
  name: 'completion',
  summary: 'print what completes these words in bash',
  async run(terminal) {
    const script = completionScript(verbs());
    terminal.printJson({ bash: script });
    terminal.print(script.trimEnd());
  },
});
