/** How the words of a command are read, and what is said when they are not understood. */
import test from 'tape';
import { findVerb, readWords, type Verb, type Words } from '../../../src/cli/arguments.ts';
import { verbs } from '../../../src/cli/main.ts';
import { ShoalError } from '../../../src/model/errors.ts';

const verb: Verb = {
  name: 'vm make',
  summary: 'for this test',
  operands: 'NAME',
  operandCount: [1, 1],
  options: { count: { value: 'N', help: '' }, force: { help: '' } },
  speaksToHost: true,
  run: () => Promise.resolve(),
};

function refusal(argv: string[], work: (words: Words) => unknown = () => {}): ShoalError {
  try {
    work(readWords(verb, argv));
  } catch (error) {
    if (error instanceof ShoalError) return error;
    throw error;
  }
  return new ShoalError('INTERNAL_ERROR', 'nothing was refused');
}

test('options and operands are read in any order', (t) => {
  const words = readWords(verb, ['--count', '7', 'web', '--force', '--host=https://h']);
  t.deepEqual(
    [words.operands, words.number('count', 1, 1, 10), words.flag('force'), words.text('host'), words.flag('json')],
    [['web'], 7, true, 'https://h', false],
  );
  t.deepEqual(readWords(verb, ['--', '--odd']).operands, ['--odd'], 'after -- everything is an operand');
  t.equal(readWords(verb, ['web', '--password-file=']).text('password-file'), '', 'an empty value is a value');
  t.ok(readWords(verb, ['--help']).flag('help'), 'help needs no operand');
  t.end();
});

test('what is not understood is refused with what to do', (t) => {
  const cases: [string[], string, RegExp][] = [
    [['web', '--cuont', '7'], 'unknown option', /^Did you mean --count\?/],
    [['web', '-x'], 'unknown short option', /shoal help vm make/],
    [['web', '--count'], 'no value', /--count N/],
    [['web', '--count', '--force'], 'an option is no value', /--count N/],
    [['web', '--force=yes'], 'a value too many', /shoal help vm make/],
    [['web', '--force', '--force'], 'twice', /shoal help vm make/],
    [[], 'no operand', /shoal help vm make/],
    [['web', 'more'], 'an operand too many', /shoal help vm make/],
  ];
  for (const [argv, what, hint] of cases) {
    const error = refusal(argv);
    t.equal(error.code, 'USAGE', what);
    t.match(error.hint, hint, `${what}: hint`);
  }
  for (const bad of ['0', '11', '1.5', '-1', 'many', '']) {
    t.equal(
      refusal(['web', `--count=${bad}`], (words) => words.number('count', 1, 1, 10)).hint,
      'Give a whole number, 1 to 10.',
      `--count=${bad}`,
    );
  }
  t.end();
});

test('verbs are found by one word or two, and misspelt ones get a suggestion', (t) => {
  t.equal(findVerb(verbs, ['vm', 'list', '--json']).verb.name, 'vm list');
  t.deepEqual(findVerb(verbs, ['demo', '--vms', '3']).rest, ['--vms', '3']);
  const hint = (...argv: string[]): string => {
    try {
      findVerb(verbs, argv);
      return '';
    } catch (error) {
      return (error as ShoalError).hint;
    }
  };
  t.match(hint('vm', 'lst'), /shoal vm list/);
  t.match(hint('vm'), /create, .*list, show/);
  t.match(hint('dmeo'), /shoal demo/);
  t.match(hint('xyzzyxyzzy'), /shoal help/);
  t.end();
});

test('every verb says what it is, and takes its operands if it names any', (t) => {
  t.equal(new Set(verbs.map(({ name }) => name)).size, verbs.length, 'names are unique');
  for (const { name, summary, operands, operandCount, readsItsWords } of verbs) {
    t.ok(summary.length > 10 && summary.length < 80, `${name}: a summary of one line`);
    t.equal(
      operandCount !== undefined,
      operands !== undefined && readsItsWords !== true,
      `${name}: operands are named and counted`,
    );
  }
  t.end();
});
