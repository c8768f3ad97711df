/**
 * Who changed what, when, from where, and how it ended: one JSON line a call, only ever appended, synced before the caller gets
 * his answer. Bodies are not in it, so no secret is. A file that grew beyond its bound is put aside under the time of its end.
 */
import { mkdir, open, readFile, rename, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface AuditLine {
  at: string;
  /** Id of the token; "" when there was no valid one. */
  token: string;
  role: string;
  tenant: string;
  from: string;
  method: string;
  path: string;
  status: number;
  /** Of the error, when it was refused. */
  code: string;
}

const maxBytes = 64 * 1024 * 1024;

export class AuditLog {
  readonly #path: string;
  #file: FileHandle;
  #bytes: number;
  #waiting: { text: string; done: () => void }[] = [];
  #writing: Promise<void> | undefined;
  readonly #log: (line: string) => void;

  private constructor(path: string, file: FileHandle, bytes: number, log: (line: string) => void) {
    this.#path = path;
    this.#file = file;
    this.#bytes = bytes;
    this.#log = log;
  }

  static async open(path: string, log: (line: string) => void): Promise<AuditLog> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(path, 'a', 0o600);
    const { size } = await file.stat();
    // A line that a crash cut short ends here, so that the next one begins on its own.
    const tail = size === 0 ? '\n' : (await readFile(path, 'utf8')).slice(-1);
    if (tail !== '\n') await file.write('\n');
    return new AuditLog(path, file, size, log);
  }

  /** Resolves when the line is on disk. A disk that is full is logged, and does not stop the fleet. */
  append(line: AuditLine): Promise<void> {
    return new Promise((done) => {
      this.#waiting.push({ text: `${JSON.stringify(line)}\n`, done });
      this.#writing ??= this.#drain();
    });
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      try {
        const text = batch.map((each) => each.text).join('');
        await this.#file.write(text);
        await this.#file.datasync();
        this.#bytes += Buffer.byteLength(text);
        if (this.#bytes > maxBytes) await this.#putAside();
      } catch (error) {
        this.#log(`the audit log could not be written: ${(error as Error).message}`);
      }
      for (const { done } of batch) done();
    }
    this.#writing = undefined;
  }

  async #putAside(): Promise<void> {
    await this.#file.close();
    await rename(this.#path, `${this.#path}.${new Date().toISOString().replaceAll(':', '')}`);
    this.#file = await open(this.#path, 'a', 0o600);
    this.#bytes = 0;
  }

  /** The last lines, newest last. */
  async last(count: number): Promise<AuditLine[]> {
    await this.#writing;
    const lines = (await readFile(this.#path, 'utf8')).split('\n').filter((line) => line !== '');
    return lines.slice(-count).flatMap((line) => {
      try {
        return [JSON.parse(line) as AuditLine];
      } catch {
        return [];
      }
    });
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }
}
