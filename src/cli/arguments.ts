/**
 * What a verb is, and how its words are read: options by node:util's parser, checked here so that a wrong one gets the nearest
 * right one as its hint. Nothing is run before everything typed was understood.
 */
import { parseArgs } from 'node:util';
import { ShoalError } from '../model/errors.ts';
import { nearest } from './format.ts';
import type { Terminal } from './terminal.ts';

export interface OptionModel {
  /** Name of the value in the help; an option without one is a switch. */
  value?: string;
  /** One letter that stands for it. */
  short?: string;
  help: string;
}

export interface Verb {
  /** Words that name it: "vm create". */
  name: string;
  summary: string;
  /** What comes after the name, but options: "NAME...". */
  operands?: string;
  /** Least and most of them; none by default. */
  operandCount?: readonly [number, number];
  options?: Readonly<Record<string, OptionModel>>;
  /** It speaks to a host: takes --host, --ca, --password-file, --lab. */
  speaksToHost?: boolean;
  /** It speaks to the controller of a fleet: takes --controller, --controller-ca, --token-file. */
  speaksToController?: boolean;
  /** Everything after its name is its own to read, options included. */
  readsItsWords?: boolean;
  /** Sentences under the options in the help. */
  notes?: string;
  examples?: readonly string[];
  /** An exit code; 0 when there is none. */
  run(terminal: Terminal, words: Words): Promise<number | void>;
}

export const hostOptions: Readonly<Record<string, OptionModel>> = {
  host: { value: 'URL', help: 'address of the host agent, https://…; default $SHOAL_HOST, then host0 of the lab' },
  ca: { value: 'FILE', help: 'certificate to trust for it; default $SHOAL_CA' },
  'password-file': { value: 'FILE', help: 'file with its password; default $SHOAL_PASSWORD_FILE' },
  lab: { value: 'NAME', help: "use a lab's host: NAME, or NAME/HOST for another than host0" },
};

export const controllerOptions: Readonly<Record<string, OptionModel>> = {
  controller: {
    value: 'URL',
    help: 'address of the controller, https://…; default $SHOAL_CONTROLLER, then https://127.0.0.1:7443',
  },
  'controller-ca': { value: 'FILE', help: 'certificate to trust for it; default $SHOAL_CONTROLLER_CA' },
  'token-file': { value: 'FILE', help: 'file with a token; default $SHOAL_TOKEN_FILE' },
};

export const everywhere: Readonly<Record<string, OptionModel>> = {
  json: { help: 'results as JSON on standard output' },
  help: { help: 'this text' },
};

export const optionsOf = (verb: Verb): Readonly<Record<string, OptionModel>> => ({
  ...verb.options,
  ...(verb.speaksToHost === true ? hostOptions : {}),
  ...(verb.speaksToController === true ? controllerOptions : {}),
  ...everywhere,
});

const usage = (message: string, hint: string): ShoalError => new ShoalError('USAGE', message, { hint });

/** The options and operands of a call, with what they must be. */
export class Words {
  readonly operands: readonly string[];
  /** As typed, after the verb's name. */
  readonly raw: readonly string[];
  readonly env: Record<string, string | undefined>;
  readonly #values: ReadonlyMap<string, string | true>;

  constructor(
    operands: readonly string[],
    values: ReadonlyMap<string, string | true>,
    raw: readonly string[],
    env: Words['env'] = {},
  ) {
    this.operands = operands;
    this.#values = values;
    this.raw = raw;
    this.env = env;
  }

  flag(name: string): boolean {
    return this.#values.has(name);
  }

  text(name: string): string | undefined {
    const value = this.#values.get(name);
    return value === true ? undefined : value;
  }

  /** A whole number from min to max. */
  number(name: string, otherwise: number, min: number, max: number): number {
    const text = this.text(name);
    if (text === undefined) return otherwise;
    const value = /^\d{1,12}$/.test(text) ? Number(text) : NaN;
    if (!(value >= min && value <= max)) throw usage(`--${name} is ${text}.`, `Give a whole number, ${min} to ${max}.`);
    return value;
  }
}

/** Throws USAGE. */
export function readWords(verb: Verb, argv: readonly string[], env: Words['env'] = {}): Words {
  const values = new Map<string, string | true>();
  const operands: string[] = [];
  if (verb.readsItsWords === true) return new Words(argv, values, argv, env);
  const known = optionsOf(verb);
  const see = `See \`shoal help ${verb.name}\`.`;
  const { tokens } = parseArgs({
    args: [...argv],
    options: Object.fromEntries(
      Object.entries(known).map(([name, { value, short }]) => [
        name,
        { type: value === undefined ? 'boolean' : 'string', ...(short === undefined ? {} : { short }) } as const,
      ]),
    ),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  for (const token of tokens) {
    if (token.kind === 'positional') operands.push(token.value);
    if (token.kind !== 'option') continue;
    const model = Object.hasOwn(known, token.name) ? known[token.name] : undefined;
    if (model === undefined) {
      const meant = nearest(token.name, Object.keys(known));
      throw usage(
        `\`shoal ${verb.name}\` has no option ${token.rawName}.`,
        meant === undefined ? see : `Did you mean --${meant}? ${see}`,
      );
    }
    if (model.value === undefined && token.value !== undefined) throw usage(`--${token.name} takes no value.`, see);
    if (model.value !== undefined && (token.value === undefined || (!token.inlineValue && token.value.startsWith('--')))) {
      throw usage(`--${token.name} needs a value.`, `Give it as --${token.name} ${model.value}.`);
    }
    if (values.has(token.name)) throw usage(`--${token.name} is given twice.`, see);
    values.set(token.name, token.value ?? true);
  }
  const [least, most] = verb.operandCount ?? [0, 0];
  if (operands.length < least && !values.has('help')) throw usage(`\`shoal ${verb.name}\` needs ${verb.operands}.`, see);
  if (operands.length > most) throw usage(`\`shoal ${verb.name}\` does not take "${operands[most]}".`, see);
  return new Words(operands, values, argv, env);
}

/** The verb that argv begins with, and the words after its name. Throws USAGE. */
export function findVerb(verbs: readonly Verb[], argv: readonly string[]): { verb: Verb; rest: readonly string[] } {
  const [first, second] = argv;
  const two = verbs.find(({ name }) => name === `${first} ${second}`);
  if (two !== undefined) return { verb: two, rest: argv.slice(2) };
  const one = verbs.find(({ name }) => name === first);
  if (one !== undefined) return { verb: one, rest: argv.slice(1) };
  const group = verbs.filter(({ name }) => name.startsWith(`${first} `)).map(({ name }) => name.split(' ')[1]!);
  if (group.length > 0) {
    const meant = second === undefined ? undefined : nearest(second, group);
    throw usage(
      second === undefined ? `\`shoal ${first}\` needs to know what to do.` : `\`shoal ${first}\` has no "${second}".`,
      meant === undefined
        ? `There are: ${group.join(', ')}.`
        : `Did you mean \`shoal ${first} ${meant}\`? There are: ${group.join(', ')}.`,
    );
  }
  const meant = nearest(first ?? '', new Set(verbs.map(({ name }) => name.split(' ')[0]!)));
  throw usage(
    `There is no verb "${first}".`,
    meant === undefined ? 'See `shoal help`.' : `Did you mean \`shoal ${meant}\`? See \`shoal help\`.`,
  );
}
