/**
 * Files as they are wanted below a root folder, and making them so. Each is written beside its place, synced and renamed: a kill leaves
 * the old one or the new one, and another run does the rest.
 */
import { chmodSync, closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface WantedFile {
  /** Without the first slash. */
  path: string;
  mode: number;
  /** Its bytes, or the file they are in. */
  content: string | { from: string };
  /** One that is there stays as it is: a secret, or what people change. */
  keep?: boolean;
  /** The one before is kept beside it, with `.old` at its end. */
  old?: boolean;
}

export interface FileChange {
  path: string;
  what: 'made' | 'changed' | 'mode';
}

const bytesOf = ({ content }: WantedFile): Buffer => (typeof content === 'string' ? Buffer.from(content) : readFileSync(content.from));

/** What is not yet as wanted. */
export function difference(root: string, wanted: WantedFile): FileChange | undefined {
  const { path, keep = false, mode } = wanted;
  const place = join(root, path);
  if (!existsSync(place)) return { path, what: 'made' };
  if (!keep && !readFileSync(place).equals(bytesOf(wanted))) return { path, what: 'changed' };
  return (statSync(place).mode & 0o777) === mode ? undefined : { path, what: 'mode' };
}

/** Makes one file as it is wanted. */
export function makeSo(root: string, wanted: WantedFile, { what }: FileChange): void {
  const place = join(root, wanted.path);
  if (what === 'mode') return chmodSync(place, wanted.mode);
  mkdirSync(dirname(place), { recursive: true, mode: wanted.mode === 0o600 ? 0o700 : 0o755 });
  if (what === 'changed' && wanted.old === true) writeWhole(`${place}.old`, readFileSync(place), statSync(place).mode & 0o777);
  writeWhole(place, bytesOf(wanted), wanted.mode);
}

function writeWhole(place: string, bytes: Buffer, mode: number): void {
  const part = `${place}.part`;
  rmSync(part, { force: true });
  const fd = openSync(part, 'wx', mode);
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  chmodSync(part, mode);
  renameSync(part, place);
}
