/** Signatures by ssh-keygen, in a name space of their own: what signs commits cannot be played as a bundle. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ShoalError } from '../model/errors.ts';
import { signatureNamespace } from './format.ts';

const timeoutMs = 20_000;

function keygen(words: string[], input: Uint8Array): Promise<{ ok: boolean; text: string }> {
  return new Promise((resolve) => {
    const child = execFile('ssh-keygen', words, { timeout: timeoutMs, encoding: 'utf8', maxBuffer: 1 << 20 }, (error, stdout, stderr) =>
      resolve({ ok: error === null, text: error === null ? stdout : stderr.trim() || error.message }),
    );
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

/** The armoured signature. Throws BUNDLE_UNTRUSTED when the key cannot sign. */
export async function sign(bytes: Uint8Array, keyFile: string): Promise<string> {
  const { ok, text } = await keygen(['-Y', 'sign', '-q', '-f', keyFile, '-n', signatureNamespace], bytes);
  if (ok) return text;
  throw new ShoalError('BUNDLE_UNTRUSTED', `The bundle could not be signed: ${text.slice(0, 300)}.`, { hint: 'Give a private SSH key without a passphrase, or one that the SSH agent holds.' });
}

/** Who signed these bytes, by the file of allowed signers. Throws BUNDLE_UNTRUSTED. */
export async function signerOf(bytes: Uint8Array, signature: Uint8Array, allowedSigners: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-signature-'));
  const refused = (why: string): ShoalError => new ShoalError('BUNDLE_UNTRUSTED', `The signature of the bundle is not to be trusted: ${why}.`);
  try {
    const file = join(folder, 'signature');
    await writeFile(file, signature, { mode: 0o600 });
    const found = await keygen(['-Y', 'find-principals', '-s', file, '-f', allowedSigners], bytes);
    const signer = found.text.split('\n')[0] ?? '';
    if (!found.ok || signer === '') throw refused('its signer is not in the file of allowed signers');
    const checked = await keygen(['-Y', 'verify', '-f', allowedSigners, '-I', signer, '-n', signatureNamespace, '-s', file], bytes);
    if (!checked.ok) throw refused(checked.text.slice(0, 300) || 'it is of other bytes');
    return signer;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
