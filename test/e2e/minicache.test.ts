/** Minicache as a guest of 5 MiB on a real Xen host of the lab, before an origin outside: by the switch and by netback. */
import { createHash } from 'node:crypto';
import test from 'tape';
import { labAttach, labDown, type Lab } from '../../src/lab/lab.ts';
import { shoal } from './shoal.ts';

const name = process.env['SHOAL_TEST_LAB'] ?? 'minicache';
const minutes = 60_000;
const bytes = 300_000;
const body = Buffer.alloc(bytes, Uint8Array.from({ length: 251 }, (_, i) => i));
const sha256 = createHash('sha256').update(body).digest('hex');

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
  response.end(request.url.startsWith('/big') ? body : 'small');
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

test('minicache: down', { timeout: 2 * minutes }, async () => {
  await curl('http://10.64.0.1:8080/quit').catch(() => '');
  await labDown(name);
});
