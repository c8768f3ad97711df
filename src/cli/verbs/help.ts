/** `shoal help [VERB]`: the texts of the help, made from the verbs themselves. */
import { controllerOptions, everywhere, hostOptions, optionsOf, type OptionModel, type Verb } from '../arguments.ts';
import { table, widthOf } from '../format.ts';
import type { Style } from '../terminal.ts';

const exitCodes = 'Exit codes: 0 done, 1 failed, 2 not understood. `shoal test` fails with 1.';

/** One line a verb, in the order they are registered; a blank line between groups. */
export function overview(verbs: readonly Verb[], style: Style): string {
  const width = Math.max(...verbs.map((verb) => widthOf(synopsis(verb))));
  const lines: string[] = [];
  let group = '';
  for (const verb of verbs) {
    const now = groupOf(verb);
    if (group !== '' && now !== group) lines.push('');
    group = now;
    lines.push(`  ${synopsis(verb).padEnd(width)}  ${style.dim(verb.summary)}`);
  }
  return [
    `${style.bold('shoal')} boots and steers thousands of tiny virtual machines on Xen hosts.`,
    '',
    ...lines,
    '',
    'Everywhere:',
    optionLines(everywhere, style),
    'Where a verb speaks to a host:',
    optionLines(hostOptions, style),
    'Where a verb speaks to the controller of a fleet:',
    optionLines(controllerOptions, style),
    '',
    `${exitCodes} More about a verb: shoal help VERB.`,
  ].join('\n');
}

/** What needs no host; a fleet; VMs; the rest of a host. */
const groupOf = (verb: Verb): string =>
  verb.speaksToHost === true
    ? verb.name.startsWith('vm ')
      ? 'vm'
      : 'host'
    : verb.speaksToController === true
      ? 'fleet'
      : 'here';

const synopsis = (verb: Verb): string => (verb.operands === undefined ? verb.name : `${verb.name} ${verb.operands}`);

export function helpOf(verb: Verb, style: Style): string {
  const own = verb.options ?? {};
  const parts = [
    `${style.bold(`shoal ${synopsis(verb)}`)}${Object.keys(own).length > 0 ? ' [OPTION...]' : ''}`,
    `  ${verb.summary}`,
  ];
  if (Object.keys(own).length > 0) parts.push('', optionLines(own, style));
  if (verb.readsItsWords !== true) {
    const rest = Object.fromEntries(Object.entries(optionsOf(verb)).filter(([name]) => !Object.hasOwn(own, name)));
    parts.push('', optionLines(rest, style));
  }
  if (verb.notes !== undefined) parts.push('', verb.notes);
  if (verb.examples !== undefined) parts.push('', ...verb.examples.map((example) => `  ${style.dim('$')} ${example}`));
  return parts.join('\n');
}

function optionLines(options: Readonly<Record<string, OptionModel>>, style: Style): string {
  const rows = Object.entries(options).map(([name, { value, short, help }]) => [
    `  ${short === undefined ? '' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`,
    style.dim(help),
  ]);
  return table([{ title: '' }, { title: '' }], rows)
    .split('\n')
    .slice(1)
    .join('\n');
}

/** The verb needs all others, so it is made from them. */
export function makeHelp(verbs: () => readonly Verb[], find: (words: readonly string[]) => Verb): Verb {
  return {
    name: 'help',
    summary: 'this text, or more about a verb',
    operands: '[VERB]',
    operandCount: [0, 3],
    async run(terminal, words) {
      if (words.operands.length === 0) {
        terminal.printJson(verbs().map(({ name, operands, summary, options }) => ({ name, operands, summary, options })));
        terminal.print(overview(verbs(), terminal.style));
        return;
      }
      const group = verbs().filter(({ name }) => name.startsWith(`${words.operands.join(' ')} `));
      const shown = group.length > 0 ? group : [find(words.operands)];
      terminal.printJson(shown.map(({ name, operands, summary, options }) => ({ name, operands, summary, options })));
      terminal.print(
        group.length > 0
          ? group.map((verb) => `${synopsis(verb)}  ${terminal.style.dim(verb.summary)}`).join('\n')
          : helpOf(shown[0]!, terminal.style),
      );
    },
  };
}
