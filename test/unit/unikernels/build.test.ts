/**
 * The unikernels as a build: they compile, are small, say what the builder needs to know, are the same bytes from the same
 * source, and their C tests pass under the sanitizers. Nothing here needs root or Xen.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { parseKernel } from '../../../src/image/elf.ts';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const built = join(root, 'build/unikernels');
const mostImageBytes = 200 * 1024;

function make(targets: string[], timeoutMs: number): { code: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync('make', ['-s', '-j2', '-C', join(root, 'unikernels'), ...targets], {
    encoding: 'utf8',
    timeout: timeoutMs,
  });
  return { code: status, text: `${stdout}${stderr}` };
}

test('every image builds, stays under its size and has the notes of a PV guest', (t) => {
  const { code, text } = make(['all'], 300_000);
  t.equal(code, 0, `make: ${text.slice(-2000)}`);
  const file = readFileSync(join(built, 'ping.elf'));
  t.ok(file.length <= mostImageBytes, `ping.elf has ${file.length} bytes, at most ${mostImageBytes}`);
  const kernel = parseKernel(file);
  t.equal(kernel.virtBase, 0x400000n, 'guest-physical 0 is at 4 MiB, so that null pointers fault');
  t.equal(kernel.entry, 0x400000n, 'the entry is the first instruction');
  t.equal(kernel.hypercallPage, undefined, 'it brings its own hypercalls');
  t.ok(kernel.wired && kernel.sharedBytes > 64 * 1024, `it can be wired, and ${kernel.sharedBytes} bytes of it be shared`);
  t.ok(kernel.memoryBytes <= 256 * 1024, `image and .bss take ${kernel.memoryBytes} bytes of memory`);
  t.end();
});

test('the C unit tests pass under AddressSanitizer and UndefinedBehaviorSanitizer', (t) => {
  const { code, text } = make(['test'], 300_000);
  t.equal(code, 0, text);
  for (const name of ['memory plain', 'string plain', 'kernel plain', 'network plain', 'ip plain', 'ip dhcp', 'wired plain', 'grants plain', 'start plain', 'start store', 'ip resume', 'ip resume-dhcp', 'blkfront plain',
    'disk plain', 'disk crash', 'disk full', 'disk errors', 'disk corrupt', 'disk_format plain', 'disk_reading plain', 'stream plain', 'minicache plain', 'click plain', 'click ports', 'click swap', 'click_packets plain', 'click_ip plain', 'click_ip headers',
    'click_ip networks']) {
    t.match(text, new RegExp(`^${name}: (.*; )?\\d+ checks, 0 failed$`, 'm'), name);
  }
  t.end();
});

test('the same source gives the same bytes in another place', (t) => {
  const { code, text } = make(['check-reproducible'], 300_000);
  t.equal(code, 0, text);
  t.match(text, /reproducible: ping\.elf/);
  t.end();
});

test('the index of images tells the image that this source makes', (t) => {
  const entry = JSON.parse(readFileSync(join(root, 'images/ping.json'), 'utf8')) as Record<string, unknown>;
  const manifest = JSON.parse(readFileSync(join(root, 'unikernels/apps/ping/manifest.json'), 'utf8')) as Record<string, unknown>;
  t.equal(entry.version, manifest.version, 'version');
  const compiler = spawnSync('gcc', ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0];
  if (entry.compiler !== compiler) {
    t.pass(`another compiler here (${compiler}): other bytes are to be expected`);
  } else {
    const file = readFileSync(join(built, 'ping.elf'));
    const digest = `sha256:${createHash('sha256').update(file).digest('hex')}`;
    t.equal(entry.digest, digest, 'digest (after a change of the source: shoal image build)');
    t.equal(entry.sizeBytes, file.length, 'size');
  }
  t.end();
});
