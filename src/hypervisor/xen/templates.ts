/**
 * Template domains: the read-only pages of each image, once a host, shared by all its guests (native/template.h). Xen is the only memory:
 * which templates there are is read off the domains, and one is made when the first guest of an image is built.
 */
import type { Digest } from '../../model/ids.ts';
import type { KernelImage } from '../../model/kernel.ts';
import { templateUuid, templateUuidPrefix } from '../../model/uuid.ts';
import { mostTemplatePages, type Native, type NativeDomain } from './native.ts';

const pageBytes = 4096;
/** Not worth a domain of its own, which costs Xen about as much. */
const leastPages = 4;

export class Templates {
  private readonly native: Native;
  /** Domids by handle, as found at the start; each is looked at when its image is first used. */
  private readonly found = new Map<string, number>();
  private readonly made = new Map<Digest, number>();

  constructor(native: Native) {
    this.native = native;
  }

  start(domains: readonly NativeDomain[]): void {
    for (const { domid, handle } of domains) {
      const name = handle.toString('hex');
      if (name.startsWith(templateUuidPrefix)) this.found.set(name, domid);
    }
  }

  /** The template for a guest of this image; 0 when the guest is to have all pages to itself. */
  of(image: KernelImage): number {
    const pages = Math.min(Math.floor(image.sharedBytes / pageBytes), mostTemplatePages);
    if (pages < leastPages) return 0;
    let domid = this.made.get(image.digest);
    if (domid === undefined) {
      domid = this.find(image, pages) ?? this.native.makeTemplate(handleOf(image.digest), digestBytes(image.digest), image.pages.subarray(0, pages * pageBytes));
      this.made.set(image.digest, domid);
    }
    return domid;
  }

  /** Xen keeps the pages for as long as a guest maps them. */
  async forget(digest: Digest): Promise<void> {
    const domid = this.made.get(digest) ?? this.found.get(handleOf(digest).toString('hex'));
    this.made.delete(digest);
    this.found.delete(handleOf(digest).toString('hex'));
    if (domid !== undefined) await this.native.destroy(domid, false);
  }

  /** One of an earlier agent; a half made one is taken away. */
  private find(image: KernelImage, pages: number): number | undefined {
    const name = handleOf(image.digest).toString('hex');
    const domid = this.found.get(name);
    this.found.delete(name);
    if (domid === undefined) return undefined;
    if (this.native.findTemplate(domid, digestBytes(image.digest)) === pages) return domid;
    void this.native.destroy(domid, false);
    return undefined;
  }
}

const digestBytes = (digest: Digest): Buffer => Buffer.from(digest.slice('sha256:'.length), 'hex');
const handleOf = (digest: Digest): Buffer => Buffer.from(templateUuid(digest).replaceAll('-', ''), 'hex');
