/**
 * Which host a command means: the one its options name, the one the environment names, or host0 of the lab that is up. A host
 * needs three things: its address, the certificate to trust, the file with its password.
 */
import { readFileSync } from 'node:fs';
import { ShoalError } from '../model/errors.ts';
import { buildOf } from '../xenapi/build.ts';
import type { Words } from './arguments.ts';
import { Client } from './client.ts';
import type { Terminal } from './terminal.ts';

export interface Target {
  url: string;
  caFile: string;
  passwordFile: string;
  /** Name of the lab whose host it is. */
  lab?: string;
}

/** Throws USAGE when a part is missing, LAB_NOT_UP when no host is named and no lab is up. */
export async function targetOf(words: Words): Promise<Target> {
  const { env } = words;
  const named = words.text('lab');
  const url = words.text('host') ?? (named === undefined ? env['SHOAL_HOST'] : undefined);
  if (url === undefined || url === '') return labTarget(named ?? env['SHOAL_LAB'] ?? 'lab');
  if (named !== undefined) throw new ShoalError('USAGE', '--host and --lab name two hosts.', { hint: 'Give one of them.' });
  const part = (option: string, variable: string): string => {
    const value = words.text(option) ?? env[variable];
    if (value !== undefined && value !== '') return value;
    throw new ShoalError('USAGE', `--host needs --${option}.`, { hint: `Give --${option} FILE, or set ${variable}.` });
  };
  return { url, caFile: part('ca', 'SHOAL_CA'), passwordFile: part('password-file', 'SHOAL_PASSWORD_FILE') };
}

/** Of verbs that are about two hosts. */
export const otherHostOptions = {
  to: { value: 'HOST', help: 'the other host: LAB/HOST, or https://HOST with the two options below' },
  'to-ca': { value: 'FILE', help: 'its certificate; default: as of the first host' },
  'to-password-file': { value: 'FILE', help: 'its password; default: as of the first host' },
};

/** The host of these options: "lab/host2", or https://HOST with a certificate and a password, by default those of the first. Throws USAGE. */
export async function otherTarget(words: Words): Promise<Target> {
  const to = words.text('to');
  if (to === undefined) throw new ShoalError('USAGE', 'Where to?', { hint: 'Give --to LAB/HOST, or --to https://HOST.' });
  if (!to.startsWith('https://')) return labTarget(to);
  const { env } = words;
  const part = (option: string, variable: string): string => {
    const value = words.text(`to-${option}`) ?? words.text(option) ?? env[variable];
    if (value !== undefined && value !== '') return value;
    throw new ShoalError('USAGE', `--to needs --to-${option}.`, { hint: `Give --to-${option} FILE.` });
  };
  return { url: to, caFile: part('ca', 'SHOAL_CA'), passwordFile: part('password-file', 'SHOAL_PASSWORD_FILE') };
}

/** "lab", or "lab/host2". */
async function labTarget(name: string): Promise<Target> {
  const { labAttach } = await import('../lab/lab.ts');
  const [labName, hostName = 'host0'] = name.split('/');
  const lab = await labAttach(labName);
  const host = lab.hosts.find((candidate) => candidate.name === hostName);
  if (host === undefined) {
    throw new ShoalError('USAGE', `The lab "${labName}" has no ${hostName}.`, {
      hint: `It has ${lab.hosts.map((h) => h.name).join(', ')}.`,
    });
  }
  return { url: host.url, caFile: host.caFile, passwordFile: host.passwordFile, lab: name };
}

export function readTarget({ url, caFile, passwordFile }: Target): { url: string; ca: string; password: string } {
  const read = (file: string, what: string): string => {
    try {
      return readFileSync(file, 'utf8');
    } catch (error) {
      throw new ShoalError('USAGE', `The ${what} cannot be read: ${(error as Error).message}.`, {
        hint: 'Check the path and its permissions.',
        cause: error,
      });
    }
  };
  return { url, ca: read(caFile, 'certificate'), password: read(passwordFile, 'password file').replace(/\r?\n$/, '') };
}

/** Runs `work` with a client of the host that the words name; logs out after it. */
export async function withHost<T>(terminal: Terminal, words: Words, work: (client: Client) => Promise<T>): Promise<T> {
  const target = await targetOf(words);
  const client = new Client(readTarget(target));
  try {
    const result = await work(client);
    if (target.lab !== undefined) {
      const { agentBundle } = await import('../lab/build.ts');
      await noteOtherBuild(terminal, client, target.lab, agentBundle);
    }
    return result;
  } finally {
    await client.close();
  }
}

/** A lab that is up keeps the agent it was started with, whatever was built since: says so. Never fails. */
export async function noteOtherBuild(terminal: Terminal, client: Client, lab: string, bundle: string): Promise<void> {
  const running = await client.hostBuild().catch(() => undefined);
  const built = buildOf(bundle);
  if (running === undefined || built === '' || running === built) return;
  terminal.note(`The agent of the lab "${lab}" is of another build than this checkout's; \`shoal lab down\` makes way for it.`);
}
