/**
 * Minicache as a guest of 5 MiB on a real Xen host of the lab, before an origin outside: by the switch and by netback. Fills once and serves many, a hundred viewers at
 * once, and streams of datagrams that ffprobe reads.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { labAttach, labDown, type Lab } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { run } from '../../src/lab/processes.ts';
import { shoal } from './shoal.ts';

const name = process.env['SHOAL_TEST_LAB'] ?? 'minicache';
const minutes = 60_000;
const bytes = 300_000;
const body = Buffer.alloc(bytes, Uint8Array.from({ length: 251 }, (_, i) => i));
const sha256 = createHash('sha256').update(body).digest('hex');
const folder = mkdtempSync(join(tmpdir(), 'shoal-minicache-'));
const film = join(folder, 'film.ts');
const outside = '10.64.0.1';

/** Says how often it was asked for what; ends when told, or by itself. */
const origin = `
const asked = {};
const body = Buffer.alloc(${bytes}, Uint8Array.from({ length: 251 }, (_, i) => i));
setTimeout(() => process.exit(), 600000);
require('node:http').createServer((request, response) => {
  if (request.url === '/quit') process.exit();
  if (request.url === '/asked') return response.end(JSON.stringify(asked));
  asked[request.url] = (asked[request.url] ?? 0) + 1;
  response.setHeader('cache-control', 'max-age=600');
  response.end(request.url.startsWith('/big') ? body : request.url.startsWith('/film') ? require('node:fs').readFileSync('${film}') : 'small');
}).listen(8080, '10.64.0.1');
`;

let lab: Lab;
const curl = async (...words: string[]): Promise<string> => (await lab.inside(['curl', '-sS', '--max-time', '20', ...words], { timeoutMs: 30_000 })).stdout;
const shaOf = async (url: string): Promise<string> =>
  (await lab.inside(['sh', '-c', `curl -sS --max-time 20 ${url} | sha256sum | cut -d' ' -f1`], { timeoutMs: 30_000 })).stdout.trim();

test('minicache: a host, an origin', { timeout: 10 * minutes }, async (t) => {
  await labDown(name);
  const up = await shoal(['lab', 'up', '--lab', name, '--memory', '2048'], 9 * minutes);
  t.equal(up.code, 0, up.err);
  lab = await labAttach(name);
  void lab.inside([process.execPath, '-e', origin], { timeoutMs: 10 * minutes }).catch(() => undefined);
  for (let i = 0; i < 50 && !(await curl('http://10.64.0.1:8080/asked').catch(() => '')).startsWith('{'); i++) await new Promise((next) => setTimeout(next, 100));
});

for (const [i, backend] of ['switch', 'netback'].entries())
  test(`minicache: fills once, serves many, by ${backend}`, { timeout: 4 * minutes }, async (t) => {
    const ip = `10.64.9.${i + 1}`;
    const made = await shoal(
      ['vm', 'create', `cache-${backend}`, '--image', 'build/unikernels/minicache.elf', '--memory-kib', '5120', '--ip', ip, '--backend', backend]
        .concat(['--args', 'origin=10.64.0.1:8080 secret=s', '--lab', name, '--json']),
      minutes,
    );
    t.equal(made.code, 0, made.err);
    t.equal(await curl('--retry', '20', '--retry-connrefused', '--retry-delay', '1', `http://${ip}:8081/health`), 'ok\n', 'it is there');
    const url = `http://${ip}/big-${backend}`;
    t.equal(await shaOf(url), sha256, 'what a burst of the origin brings arrives whole');
    for (let n = 0; n < 5; n++) t.equal(await shaOf(url), sha256, 'and again');
    t.match(await curl('-o', '/dev/null', '-D', '-', url), /^cache-status: minicache; hit/im);
    t.equal(await curl('-r', '1000-1004', url), body.subarray(1000, 1005).toString(), 'a part of it');
    const together = await Promise.all(Array.from({ length: 8 }, () => shaOf(`http://${ip}/big2-${backend}`)));
    t.deepEqual(new Set(together), new Set([sha256]), 'eight at once');
    const asked = JSON.parse(await curl('http://10.64.0.1:8080/asked')) as Record<string, number>;
    t.deepEqual([asked[`/big-${backend}`], asked[`/big2-${backend}`]], [1, 1], 'the origin was asked once for each');
    const purge = ['-X', 'POST', '-H', 'Authorization: Bearer s', `http://${ip}:8081/purge?url=${ip}/big-${backend}`];
    t.notOk(/error|unauthorized/i.test(await curl(...purge)));
    t.equal(await shaOf(url), sha256);
    t.equal((JSON.parse(await curl('http://10.64.0.1:8080/asked')) as Record<string, number>)[`/big-${backend}`], 2, 'asked again after a purge');
    t.equal((await curl('-o', '/dev/null', '-w', '%{http_code}', `http://${ip}:8081/metrics`)).trim(), '401', 'its numbers are for who has the secret');
  });

type Ends = Record<string, number>;
const ask = (ip: string, count: number, kind: string, path: string, holdMs = 0) => {
  const script = join(repositoryRoot, 'test/e2e/fixtures/viewers.mjs');
  const words = [process.execPath, script, JSON.stringify({ host: ip, path, count, kind, holdMs })];
  return lab.inside(words, { timeoutMs: 2 * minutes }).then(({ stdout, stderr }) => JSON.parse(stdout.trim().split('\n').pop() || `{"failed": ${JSON.stringify(stderr.slice(-300))}}`) as Ends);
};
const pause = (ms: number) => new Promise<void>((next) => setTimeout(next, ms));

for (const [i, backend] of ['switch', 'netback'].entries())
  test(`minicache: a hundred viewers at once in 5 MiB, by ${backend}`, { timeout: 6 * minutes }, async (t) => {
    const ip = `10.64.9.${i + 1}`;
    const admin = (...words: string[]) => curl('-H', 'Authorization: Bearer s', ...words);
    const metrics = async () => Object.fromEntries([...(await admin(`http://${ip}:8081/metrics`)).matchAll(/^minicache_(\w+) (\d+)$/gm)].map(([, name, value]) => [name!, Number(value)]));
    const path = `/big-${backend}`;
    await curl('-o', '/dev/null', '-H', 'Host: site', `http://${ip}${path}`);
    const before = await metrics();
    for (let round = 0; round < 2; round++) t.deepEqual(await ask(ip, 100, 'read', path), { [sha256]: 100 }, 'a hundred, each whole');
    const beside = ask(ip, 60, 'idle', path, 6000);
    await pause(1500);
    t.deepEqual(await ask(ip, 40, 'read', path), { [sha256]: 40 }, 'forty beside sixty that are idle');
    await beside;
    const deaf = ask(ip, 90, 'deaf', path, 5000);
    await pause(2000);
    const during = await metrics();
    t.ok(during['memory_free_bytes']! > 64 * 1024, `${Math.round(during['memory_free_bytes']! / 1024)} KiB are free beside ninety that do not read (${Math.round(before['memory_free_bytes']! / 1024)} before)`);
    t.deepEqual(await ask(ip, 8, 'read', path), { [sha256]: 8 }, 'eight are served beside them');
    t.deepEqual(await deaf, { [sha256]: 90 }, 'who read at last');
    const all = ask(ip, 100, 'deaf', path, 6000);
    await pause(2000);
    const more = await ask(ip, 30, 'read', path);
    t.equal((more['503'] ?? 0) + (more['ECONNRESET'] ?? 0) + (more['nothing'] ?? 0), 30, `thirty more than there is place for: ${JSON.stringify(more)}`);
    t.ok((more['503'] ?? 0) >= 16, 'as many as can be told are told to come again');
    t.deepEqual(await all, { [sha256]: 100 }, 'those who had a place lose nothing by it');
    await pause(1000);
    t.deepEqual(await ask(ip, 50, 'read', path), { [sha256]: 50 }, 'and then all is as before');
    const after = await metrics();
    t.ok(after['queued_bytes'] === 0 && after['memory_free_bytes']! > before['memory_free_bytes']! - 128 * 1024, `nothing is held: ${Math.round(after['memory_free_bytes']! / 1024)} KiB free`);
  });

for (const [i, backend] of ['switch', 'netback'].entries())
  test(`minicache: ffprobe reads a stream of datagrams, by ${backend}`, { timeout: 4 * minutes }, async (t) => {
    const ip = `10.64.9.${i + 1}`;
    if (i === 0) {
      const words = ['-f', 'lavfi', '-i', 'testsrc=size=320x180:rate=25:duration=6', '-c:v', 'mpeg2video', '-b:v', '800k', '-muxrate', '1200k', '-f', 'mpegts', film];
      t.equal((await run(['ffmpeg', '-nostdin', '-v', 'error', '-y', ...words], { timeoutMs: minutes })).code, 0, 'a film');
    }
    await curl('-o', '/dev/null', '-H', 'Host: site', `http://${ip}/film.ts`);
    const port = 5004 + i;
    const probe = lab.inside(['ffprobe', '-v', 'debug', '-count_packets', '-show_entries', 'stream=nb_read_packets', '-of', 'csv=p=0', `udp://${outside}:${port}?timeout=6000000&fifo_size=100000`], { timeoutMs: minutes });
    for (let n = 0; n < 100 && !(await lab.inside(['ss', '-uln'])).stdout.includes(`:${port}`); n++) await pause(50);
    const begun = Date.now();
    const { stream } = JSON.parse(await curl('-X', 'POST', '-H', 'Authorization: Bearer s', `http://${ip}:8081/streams?url=site/film.ts&to=${outside}:${port}`)) as { stream: number };
    type Playout = { id: number; state: string; datagrams: number };
    const state = async () => (JSON.parse(await curl('-H', 'Authorization: Bearer s', `http://${ip}:8081/streams`)) as { streams: Playout[] }).streams.find(({ id }) => id === stream)!;
    while (Date.now() - begun < 30_000 && (await state()).state !== 'done') await pause(100);
    const took = Date.now() - begun;
    t.equal((await state()).state, 'done', `sent in ${took} ms`);
    t.ok(took > 4500, 'at the pace of its clock');
    const { stdout, stderr } = await probe;
    t.ok(Number.parseInt(stdout, 10) >= 145, `${Number.parseInt(stdout, 10)} pictures of 150`);
    const complaint = /Continuity check failed|Packet corrupt|PES packet size mismatch/.exec(stderr);
    t.notOk(complaint, `without a continuity error ${complaint?.[0] ?? ''}`);
  });

/** The address that is made of a MAC, under a prefix (RFC 4291, appendix A). */
function made(prefix: string, mac: string): string {
  const [a, b, c, d, e, f] = mac.split(':').map((byte) => Number.parseInt(byte, 16)) as [number, number, number, number, number, number];
  return prefix + [((a ^ 2) << 8) | b, (c << 8) | 0xff, 0xfe00 | d, (e << 8) | f].map((word) => word.toString(16)).join(':');
}

test('minicache: by IPv6, on its link and beyond a router', { timeout: 6 * minutes }, async (t) => {
  const router = ['sysctl -qw net.ipv6.conf.leg0.disable_ipv6=0 net.ipv6.conf.lo.disable_ipv6=0', 'ip -6 addr add fd00:64::1/64 dev leg0 nodad', 'ip -6 addr add fd00:77::1/128 dev lo'];
  const set = await lab.inside(['sh', '-c', router.join(' && ')], { timeoutMs: 20_000 });
  t.equal(set.code, 0, set.stderr);
  for (const [i, backend, word] of [[20, 'switch', 'fd00:64::'], [21, 'switch', 'fd00:64::99'], [22, 'netback', 'fd00:64::'], [23, 'netback', 'fd00:64::98/64']] as const) {
    const args = `origin=10.64.0.1:8080 secret=s ip6=${word} gw6=fd00:64::1`;
    const vm = await shoal(['vm', 'create', `six-${i}`, '--image', 'build/unikernels/minicache.elf', '--memory-kib', '5120', '--ip', `10.64.9.${i}`, '--backend', backend, '--args', args, '--lab', name, '--json'], minutes);
    t.equal(vm.code, 0, vm.err);
    const shown = JSON.parse((await shoal(['vm', 'show', `six-${i}`, '--lab', name, '--json'], minutes)).out) as object;
    const mac = /"mac":"([0-9a-f:]{17})"/i.exec(JSON.stringify(shown))?.[1] ?? '';
    const address = word.endsWith('::') ? made(word, mac) : word.replace('/64', '');
    const url = `http://[${address}]/big-six`;
    t.equal(await shaOf(`-g --retry 5 --retry-connrefused '${url}'`), sha256, `${backend}, ip6=${word}: all of it, from its link`);
    t.equal(await shaOf(`-g --interface fd00:77::1 '${url}'`), sha256, 'and from elsewhere');
  }
  await shoal(['vm', 'destroy', 'six-20', 'six-21', 'six-22', 'six-23', '--lab', name], minutes);
});

test('minicache: down', { timeout: 2 * minutes }, async () => {
  await curl('http://10.64.0.1:8080/quit').catch(() => '');
  await labDown(name);
  rmSync(folder, { recursive: true });
});
