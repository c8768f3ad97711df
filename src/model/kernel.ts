/**
 * A guest kernel as the builder lays it into memory: what is left of an ELF file once it was parsed and checked, so that a start
 * copies pages and parses nothing. Made by image/ (a pure function over bytes), consumed by hypervisor adapters.
 */
import type { Digest } from './ids.ts';

export interface KernelImage {
  /** Of the ELF file's bytes. */
  digest: Digest;
  /** Size of the ELF file in bytes. */
  fileBytes: number;
  /** The loaded image: bytes from guest-physical 0 (virtual `virtBase`) on, without the zeroes at the end; not page-rounded. */
  pages: Uint8Array;
  /** Bytes of guest memory the kernel occupies from guest-physical 0 on, .bss included; rounded up to 4,096. */
  memoryBytes: number;
  /** Virtual address of guest-physical 0 (ELF note VIRT_BASE; PADDR_OFFSET must agree); 2 MiB aligned. */
  virtBase: bigint;
  /** Virtual address of the first instruction (ELF note ENTRY). */
  entry: bigint;
  /** Virtual address of the page that the builder has Xen fill (ELF note HYPERCALL_PAGE); undefined when the kernel brings its own. */
  hypercallPage: bigint | undefined;
  /** Bytes from guest-physical 0 on, in whole pages, that no guest writes: all guests of the image may share them. */
  sharedBytes: number;
  /** Whether the kernel takes its devices as the builder lays them out (unikernels/include/wiring.h), without a store. */
  wired: boolean;
}
