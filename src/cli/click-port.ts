/**
 * The admin port of a `click` guest (docs/formats/click.md): a configuration goes there in pieces and is installed by its digest, handlers are
 * read and written. Every request is bounded in time, and the guest keeps what runs until the next one is whole and sound.
 */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShoalError, type ErrorCode } from '../model/errors.ts';

/** What a guest takes in one request, and of a configuration in all. */
export const pieceBytes = 16_384;
export const configurationBytes = 262_144;
const requestMs = 10_000;
const attempts = 4;
const retryMs = 300;

export interface ClickPort {
  /** "10.64.1.7" */
  address: string;
  port: number;
  secret: string;
}

export interface Installed {
  sha256: string;
  elements: number;
  installed: boolean;
}

export interface Status {
  /** Digest of the configuration that runs. */
  running: string | null;
  elements: number;
  bytes: number;
  uptimeMs: number;
  staged: number;
  packets: { inUse: number; limit: number; refused: number; cut: number };
  freeBytes: number;
}

interface Answer {
  status: number;
  text: string;
}

async function once(to: ClickPort, method: string, path: string, body?: Uint8Array): Promise<Answer> {
  const response = await fetch(`http://${to.address}:${to.port}${path}`, {
    method,
    headers: { authorization: `Bearer ${to.secret}`, connection: 'close' },
    signal: AbortSignal.timeout(requestMs),
    ...(body === undefined ? {} : { body }),
  });
  return { status: response.status, text: await response.text() };
}

const reasonOf = (error: unknown): string => {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message || String((cause as NodeJS.ErrnoException).code) : message;
};

/** Safe to do again: reads, and pieces that say where they belong. Throws CONNECTION_FAILED. */
async function ask(to: ClickPort, method: string, path: string, body?: Uint8Array, again = true): Promise<Answer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await once(to, method, path, body);
    } catch (error) {
      if (again && attempt < attempts) {
        await sleep(retryMs * attempt);
        continue;
      }
      throw new ShoalError('CONNECTION_FAILED', `The admin port of the guest, ${to.address}:${to.port}, does not answer: ${reasonOf(error)}.`, {
        hint: 'Check that the VM runs the image click, has an address (ip=), and is reached from here (`shoal lab inside -- shoal click …`).',
        cause: error,
      });
    }
  }
}

function refuse({ status, text }: Answer, code: ErrorCode): never {
  const message = text.trim() === '' ? `The guest answered with ${status}.` : text.trim();
  if (status === 401) {
    throw new ShoalError('TOKEN_INVALID', 'The guest does not take this secret.', {
      hint: 'Start the VM with --args "secret=…", or give --secret-file with that secret.',
    });
  }
  throw new ShoalError(code, message);
}

/** What the guest said of a mistake, as data. */
const mistakesOf = (text: string): { line: number; column: number; message: string }[] =>
  [...text.matchAll(/^(\d+):(\d+): (.*)$/gm)].map(([, line, column, message]) => ({ line: Number(line), column: Number(column), message: message! }));

/**
 * Puts `text` in place of what runs; with `check`, only says whether the guest would take it. Throws CLICK_REFUSED with the places of all
 * mistakes, REQUEST_TOO_LARGE, CONFLICT when another writes at the same time, CONNECTION_FAILED.
 */
export async function installConfiguration(to: ClickPort, text: string, check = false): Promise<Installed> {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length > configurationBytes) throw new ShoalError('REQUEST_TOO_LARGE', `The configuration has ${bytes.length} bytes; a guest takes ${configurationBytes}.`);
  for (let at = 0; at === 0 || at < bytes.length; at += pieceBytes) {
    const answer = await ask(to, 'PUT', `/configuration?at=${at}`, bytes.subarray(at, at + pieceBytes));
    // A piece whose answer was lost is there already: the digest tells in the end.
    if (answer.status !== 200 && answer.status !== 409) refuse(answer, 'REQUEST_INVALID');
  }
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const answer = await ask(to, 'POST', `/install?sha256=${sha256}${check ? '&dry=1' : ''}`, undefined, false);
  if (answer.status === 200) return JSON.parse(answer.text) as Installed;
  if (answer.status === 409) refuse(answer, 'CONFLICT');
  if (answer.status !== 422) refuse(answer, 'REQUEST_INVALID');
  throw new ShoalError('CLICK_REFUSED', answer.text.trim(), { data: { mistakes: mistakesOf(answer.text) } });
}

/** "element.handler", or one of the whole: config, flatconfig, list, classes, packets. Throws NOT_FOUND. */
export async function readHandler(from: ClickPort, name: string): Promise<string> {
  const answer = await ask(from, 'GET', `/read?handler=${encodeURIComponent(name)}`);
  return answer.status === 200 ? answer.text : refuse(answer, 'NOT_FOUND');
}

/** Throws REQUEST_INVALID with what the element said. */
export async function writeHandler(to: ClickPort, name: string, value: string): Promise<void> {
  const answer = await ask(to, 'POST', `/write?handler=${encodeURIComponent(name)}`, Buffer.from(value, 'utf8'), false);
  if (answer.status !== 200) refuse(answer, 'REQUEST_INVALID');
}

export async function readStatus(from: ClickPort): Promise<Status> {
  const answer = await ask(from, 'GET', '/status');
  return answer.status === 200 ? (JSON.parse(answer.text) as Status) : refuse(answer, 'REQUEST_INVALID');
}
