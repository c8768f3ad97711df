/** Every command that the README and the walkthroughs show is one that the command understands: its verb, its options, its operands. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { findVerb, readWords } from '../../src/cli/arguments.ts';
import { verbs } from '../../src/cli/main.ts';
import { asShoalError } from '../../src/model/errors.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';

const folders = ['docs/walkthroughs', 'docs/formats'];
const files = ['README.md', 'deploy-repo/README.md', ...folders.flatMap((folder) => readdirSync(join(repositoryRoot, folder)).filter((name) => name.endsWith('.md')).map((name) => `${folder}/${name}`))];

/** Words of a shell; undefined for what is no command but a pattern of one. */
export function wordsOf(text: string): string[] | undefined {
  const words = [...text.matchAll(/(?:'[^']*'|"(?:[^"\\]|\\.)*"|\$\([^)]*\)|[^\s'"])+/g)].map(([word]) => word.replace(/^(['"])(.*)\1$/s, '$2'));
  const isPattern = words.some((word) => /…|^\[|\]$|^[a-z]+\|[a-z|]+$|\.\.\.$/.test(word));
  return isPattern ? undefined : words;
}

/** What a document tells its reader to type, without comments, prompts and what comes before or after in a pipe. */
export function commandsIn(document: string): string[] {
  const blocks = [...document.matchAll(/^ *```\w*\n([\s\S]*?)^ *```/gm)].map(([, block]) => block!.replace(/\\\n/g, ' ').split('\n')).flat();
  const inline = [...document.replace(/^ *```[\s\S]*?^ *```/gm, '').matchAll(/`([^`]+)`/g)].map(([, code]) => code!.replace(/\n/g, ' '));
  const lines = [...blocks.map((line) => line.replace(/(^|\s)#.*$/, '')), ...inline].map((line) => line.replace(/\$\([^)]*\)/g, '$X').trimEnd());
  return lines
    .flatMap((line) => line.split(/&&|\|\||;|\s\|\s|\s>>?\s|\s2?>\s*&?|\s&$/))
    .flatMap((part) => {
      const found = /^\s*(?:[-$] +)?(?:[A-Z_]+=\S+ +)*(?:\$inside +|(?:\.\/)?shoal lab inside -- +)?(?:\.\/|\.\.\/shoal\/)?shoal +(\S.*?)\s*$/.exec(part);
      return found === null ? [] : [found[1]!];
    });
}

test('commands in documents are understood', (t) => {
  let understood = 0;
  for (const file of files)
    for (const command of commandsIn(readFileSync(join(repositoryRoot, file), 'utf8'))) {
      const words = wordsOf(command);
      if (words === undefined) continue;
      // The name of a verb, or of several: no command.
      if (words.length <= 2 && verbs.some(({ name }) => name === words.join(' ') || name.startsWith(`${words[0]} `))) continue;
      try {
        const { verb, rest } = findVerb(verbs, words);
        readWords(verb, rest);
        understood++;
      } catch (error) {
        t.fail(`${file}: shoal ${command}: ${asShoalError(error).message}`);
      }
    }
  t.ok(understood > 60, `${understood} commands`);
  t.end();
});

test('a command that is wrong is found', (t) => {
  const found = commandsIn('a\n```\n./shoal vm list && ./shoal vm crate x # not this: shoal none\n$inside ./shoal event end a/b &\n```\nand `shoal get vms`, `make`');
  t.deepEqual(found, ['vm list', 'vm crate x', 'event end a/b', 'get vms']);
  t.throws(() => findVerb(verbs, wordsOf('vm crate x')!), /no "crate"/);
  t.deepEqual(wordsOf(`a 'b c' "d $(e)" --f='g h'`), ['a', 'b c', 'd $(e)', `--f='g h'`]);
  t.equal(wordsOf('vm suspend|resume'), undefined);
  t.end();
});
