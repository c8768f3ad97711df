/** Which build of a program a file is, so that a client can tell an agent that is older than its own checkout. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** 16 hex digits; '' when the file cannot be read. */
export function buildOf(file: string | undefined): string {
  try {
    return createHash('sha256').update(readFileSync(file ?? '')).digest('hex').slice(0, 16);
  } catch {
    return '';
  }
}
