/**
 * What is known of an image beyond its bytes, and of a release of a service: plain data, shared by whoever builds, signs, receives, rolls
 * out and serves them. docs/formats/release.md tells it to people.
 */
import type { Digest } from './ids.ts';

/** Where an image came from: enough to build the same bytes again. */
export interface ImageManifest {
  /** Name of the application, for example "ping". */
  name: string;
  version: string;
  /** Of the raw, stripped ELF. */
  digest: Digest;
  sizeBytes: number;
  source: {
    /** Of the source repository: 40 or 64 hex digits. */
    commit: string;
    /** SHA-256 over the source files that the image is built from. */
    digest: Digest;
    /** Files differed from the commit when it was built. */
    dirty: boolean;
  };
  /** Version line of the compiler. */
  compiler: string;
  /** Command that builds it, in the source repository's root. */
  recipe: string;
}

/**
 * A release says "this image is version N of this service": the signed commit that adds it vouches for all of it. A counter that does not
 * grow, or an expiry that has passed, is refused: signatures alone do not stop old manifests from being played again.
 */
export interface ReleaseManifest {
  format: 'shoal-release-1';
  tenant: string;
  service: string;
  /** 1, 2, …: grows with each release of the service. */
  counter: number;
  image: ImageManifest;
  /** RFC 3339. After `expires` the release is not rolled out any more; what runs goes on. */
  created: string;
  expires: string;
}
