/** The vectors of signed URLs, as TypeScript makes them; unikernels/test/minicache.c reads the same file. */
import { readFileSync } from 'node:fs';
import test from 'tape';
import { signUrl } from './minicache/sign.ts';

const vectors = readFileSync(new URL('../../vectors/signed-url.txt', import.meta.url), 'utf8');

test('a signature is the same in C and in TypeScript', (t) => {
  for (const line of vectors.split('\n').filter((one) => one !== '' && !one.startsWith('#'))) {
    const [key, , verdict, target, rest] = line.split(' ') as [string, string, string, string, string];
    const token = /^\/~(\d+)\.(\d+)\.[^/]+/.exec(target);
    if (verdict !== 'valid' || token === null) continue;
    const made = signUrl(rest.split('?')[0]!, { key, expiresS: Number(token[1]), depth: Number(token[2]) });
    t.equal(made, token[0], target);
  }
  t.end();
});
