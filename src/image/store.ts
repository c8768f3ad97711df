/**
 * Images on disk, named by their content: `<folder>/<64 hex digits>.elf`. Bytes arrive in `incoming/`, and only when their digest
 * and their ELF structure are right does a rename make them visible, so that a kill at any instant leaves either the whole image
 * or none. Parsed kernels are kept in memory for the images last used; the parser is given, the store does not know ELF.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ShoalError } from '../model/errors.ts';
import { isDigest, type Digest } from '../model/ids.ts';
import type { KernelImage } from '../model/kernel.ts';

export interface StoredImage {
  digest: Digest;
  fileBytes: number;
  /** Milliseconds since 1970. */
  addedMs: number;
}

export interface ImageStoreOptions {
  /** Of bytes that have this digest. */
  parse: (bytes: Uint8Array, digest: Digest) => KernelImage;
  /** Largest image taken in; 64 MiB by default. */
  maxBytes?: number;
  /** Parsed kernels kept in memory; 8 by default. */
  cachedKernels?: number;
}

export class ImageStore {
  readonly #folder: string;
  readonly #parse: ImageStoreOptions['parse'];
  readonly #cachedKernels: number;
  readonly #images = new Map<Digest, StoredImage>();
  /** Least recently used first. A promise, so that two starts at once read the file once. */
  readonly #kernels = new Map<Digest, Promise<KernelImage>>();
  readonly maxBytes: number;

  private constructor(folder: string, options: ImageStoreOptions) {
    this.#folder = folder;
    this.#parse = options.parse;
    this.#cachedKernels = options.cachedKernels ?? 8;
    this.maxBytes = options.maxBytes ?? 64 * 1024 * 1024;
  }

  /** Opens or makes the folder and clears uploads that did not end. */
  static async open(folder: string, options: ImageStoreOptions): Promise<ImageStore> {
    await rm(join(folder, 'incoming'), { recursive: true, force: true });
    await mkdir(join(folder, 'incoming'), { recursive: true, mode: 0o700 });
    const store = new ImageStore(folder, options);
    for (const name of await readdir(folder)) {
      const digest = `sha256:${name.slice(0, -4)}`;
      if (!name.endsWith('.elf') || !isDigest(digest)) continue;
      const { size, mtimeMs } = await stat(join(folder, name));
      store.#images.set(digest, { digest, fileBytes: size, addedMs: Math.round(mtimeMs) });
    }
    return store;
  }

  has(digest: Digest): boolean {
    return this.#images.has(digest);
  }

  get(digest: Digest): StoredImage | undefined {
    return this.#images.get(digest);
  }

  list(): StoredImage[] {
    return [...this.#images.values()];
  }

  /**
   * The kernel, ready to be laid into memory. Throws IMAGE_UNKNOWN, IMAGE_DIGEST_MISMATCH (the file changed on disk), IMAGE_*.
   */
  kernel(digest: Digest): Promise<KernelImage> {
    const cached = this.#kernels.get(digest);
    if (cached !== undefined) {
      this.#kernels.delete(digest);
      this.#kernels.set(digest, cached);
      return cached;
    }
    if (!this.#images.has(digest)) return Promise.reject(unknown(digest));
    const loading = this.#load(digest);
    this.#cache(digest, loading);
    loading.catch(() => this.#kernels.delete(digest));
    return loading;
  }

  /**
   * Takes in an image whose bytes must have this digest; resolves when it is on disk. An image that is there already is read and
   * dropped. `chunks` may be all of it. Throws REQUEST_TOO_LARGE, IMAGE_DIGEST_MISMATCH, IMAGE_NOT_ELF, IMAGE_NO_XEN_NOTES, IMAGE_UNSUPPORTED.
   */
  async put(digest: Digest, chunks: AsyncIterable<Uint8Array> | Uint8Array): Promise<StoredImage> {
    const incoming = join(this.#folder, 'incoming', randomBytes(8).toString('hex'));
    const file = await open(incoming, 'wx', 0o600);
    try {
      const hash = createHash('sha256');
      let fileBytes = 0;
      try {
        for await (const chunk of chunks instanceof Uint8Array ? [chunks] : chunks) {
          fileBytes += chunk.length;
          if (fileBytes > this.maxBytes) throw tooLarge(this.maxBytes);
          hash.update(chunk);
          await file.writeFile(chunk);
        }
        await file.sync();
      } finally {
        await file.close();
      }
      const found = `sha256:${hash.digest('hex')}`;
      if (found !== digest) {
        throw new ShoalError('IMAGE_DIGEST_MISMATCH', `The ${fileBytes} bytes have the digest ${found}.`, {
          data: { expected: digest, found },
        });
      }
      const kernel = this.#parse(chunks instanceof Uint8Array ? chunks : await readFile(incoming), digest);
      await rename(incoming, this.#path(digest));
      await this.#syncFolder();
      const image = { digest, fileBytes, addedMs: Date.now() };
      this.#images.set(digest, image);
      this.#cache(digest, Promise.resolve(kernel));
      return image;
    } catch (error) {
      await unlink(incoming).catch(() => {});
      throw noRoom(error) ?? error;
    }
  }

  /** Where the file is, for whoever serves it. */
  file(digest: Digest): { path: string; bytes: number } | undefined {
    const image = this.#images.get(digest);
    return image === undefined ? undefined : { path: this.#path(digest), bytes: image.fileBytes };
  }

  /** Folder of what has arrived of images so far: it outlives a kill, so that a transfer goes on where it ended. */
  get partialFolder(): string {
    return join(this.#folder, 'partial');
  }

  /** The file itself, as it was put. Throws IMAGE_UNKNOWN. */
  async bytes(digest: Digest): Promise<Uint8Array> {
    if (!this.#images.has(digest)) throw new ShoalError('IMAGE_UNKNOWN', `There is no image ${digest}.`, { data: { image: digest } });
    return readFile(this.#path(digest));
  }

  /** The image must not be in use; who uses images is not known here. Throws IMAGE_UNKNOWN. */
  async remove(digest: Digest): Promise<void> {
    if (!this.#images.delete(digest)) throw unknown(digest);
    this.#kernels.delete(digest);
    await unlink(this.#path(digest));
    await this.#syncFolder();
  }

  #path(digest: Digest): string {
    return join(this.#folder, `${digest.slice('sha256:'.length)}.elf`);
  }

  #cache(digest: Digest, kernel: Promise<KernelImage>): void {
    this.#kernels.delete(digest);
    this.#kernels.set(digest, kernel);
    if (this.#kernels.size > this.#cachedKernels) this.#kernels.delete(this.#kernels.keys().next().value!);
  }

  async #load(digest: Digest): Promise<KernelImage> {
    const bytes = await readFile(this.#path(digest));
    const found = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    if (found !== digest) {
      throw new ShoalError('IMAGE_DIGEST_MISMATCH', 'The image on disk is not what its name says; it was damaged or replaced.', {
        data: { expected: digest, found },
      });
    }
    return this.#parse(bytes, digest);
  }

  async #syncFolder(): Promise<void> {
    const folder = await open(this.#folder, 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }
}

const unknown = (digest: Digest): ShoalError =>
  new ShoalError('IMAGE_UNKNOWN', `This host has no image ${digest}.`, { data: { image: digest } });

const tooLarge = (maxBytes: number): ShoalError =>
  new ShoalError('REQUEST_TOO_LARGE', `An image may have at most ${maxBytes} bytes.`, { data: { maxBytes } });

/** HOST_LIMIT, which `put` throws too, for a disk that is full; undefined for any other error. */
export const noRoom = (error: unknown): ShoalError | undefined =>
  (error as NodeJS.ErrnoException).code === 'ENOSPC' ? new ShoalError('HOST_LIMIT', 'The disk has no room for the image.', { hint: 'Make room in the folder of images.', cause: error }) : undefined;
