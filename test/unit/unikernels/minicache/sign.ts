/** Signed URLs as docs/formats/signed-url.md has them, written a second time: C and TypeScript must agree. */
import { createHmac } from 'node:crypto';

export interface Signing {
  key: string;
  /** Seconds since 1970. */
  expiresS: number;
  /** How many segments of the path are covered; 0: every path. */
  depth: number;
}

/** The token, to be put before the path: "/~EXPIRES.DEPTH.SIGNATURE". */
export function signUrl(path: string, { key, expiresS, depth }: Signing): string {
  const covered = depth === 0 ? '/' : path.split('/').slice(0, depth + 1).join('/');
  const signature = createHmac('sha256', key).update(`shoal-url-1\n${expiresS}\n${covered}`).digest('base64url');
  return `/~${expiresS}.${depth}.${signature}`;
}
