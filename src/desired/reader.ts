/**
 * isomorphic-git as a reader of objects by id. It keeps a pack that it read from whole in memory: its cache is dropped when more was read
 * through it than a bound, and the repository keeps images out of the packs that are read here (docs/design/0052-deployment-repository.md).
 */
import * as fs from 'node:fs';
import { readObject } from 'isomorphic-git';
import { broken, type Objects } from './objects.ts';

const mostReads = 4096;

export class IsoObjects implements Objects {
  readonly #gitdir: string;
  /** One for all reads: isomorphic-git keeps indexes and packs in it. */
  #cache: object = {};
  #reads = 0;

  constructor(gitdir: string) {
    this.#gitdir = gitdir;
  }

  /** After packs came or went. */
  forget(): void {
    this.#cache = {};
    this.#reads = 0;
  }

  async read(oid: string, type: 'commit' | 'tree' | 'blob', mostBytes: number): Promise<Buffer> {
    if (++this.#reads > mostReads) this.forget();
    const found = await readObject({ fs, dir: this.#gitdir, gitdir: this.#gitdir, oid, format: 'content', cache: this.#cache }).catch((error: Error) => {
      this.forget();
      throw broken(`The ${type} ${oid} cannot be read: ${error.message.slice(0, 300)}`);
    });
    if (found.type !== type || !(found.object instanceof Uint8Array)) throw broken(`${oid} is a ${found.type}, not a ${type}.`);
    if (found.object.length > mostBytes) throw broken(`The ${type} ${oid} has ${found.object.length} bytes; ${mostBytes} are the most.`);
    return Buffer.from(found.object.buffer, found.object.byteOffset, found.object.length);
  }
}
