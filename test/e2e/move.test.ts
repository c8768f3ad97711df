/**
 * Addresses on a real Xen host: one that moves between guests under an HTTP load, twenty times, and loses nothing; one that is held until its guest
 * is there; a switch and an agent that are killed meanwhile.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { Client } from '../../src/cli/client.ts';
import { labAttach, labDown, type Lab } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { shoal } from './shoal.ts';

const name = process.env['SHOAL_TEST_LAB'] ?? 'movetest';
const keep = process.env['SHOAL_TEST_KEEP'] !== undefined;
const minutes = 60_000;
const service = '10.64.9.9';
const origin = '10.64.0.1:8080';
const bigBytes = 900_000;

let lab: Lab;
let client: Client;
const images = new Map<string, string>();

interface Launched {
  results: { vm?: { uuid: string; ms: number }; error?: { message: string } }[];
}

const launch = async (app: string, vm: string, ip: string, memoryKib: number, args = ''): Promise<string> => {
  const { results } = await client.plugin<Launched>('launch-each', { specs: [{ name: vm, image: images.get(app)!, memoryKib, args, vifs: [{ network: 'default', ip }] }] }, { timeoutMs: minutes });
  if (results[0]!.vm === undefined) throw new Error(results[0]!.error!.message);
  return results[0]!.vm.uuid;
};

const moveAddress = async (from: string, to: string, drainMs: number): Promise<void> => {
  const { failed } = await client.plugin<{ failed: { message: string }[] }>('move-address', { moves: [{ from, to, ip: service, drainMs }] }, { timeoutMs: minutes });
  if (failed.length > 0) throw new Error(failed[0]!.message);
};

const curl = async (...words: string[]): Promise<string> => (await lab.inside(['curl', '-sS', '--max-time', '60', ...words], { timeoutMs: 2 * minutes })).stdout;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const originServer = `
setTimeout(() => process.exit(), 900000);
const body = Buffer.alloc(${bigBytes}, Uint8Array.from({ length: 251 }, (_, i) => i));
require('node:http').createServer((request, response) => {
  if (request.url === '/quit') process.exit();
  response.setHeader('cache-control', 'max-age=600');
  response.end(request.url.startsWith('/big') ? body : 'small');
}).listen(8080, '10.64.0.1');
`;

/** Four clients with a connection each that they keep, four with a new one for each request; ends when its file is there. Nothing is tried twice. */
const load = `
const http = require('node:http');
const { existsSync } = require('node:fs');
const agents = Array.from({ length: 8 }, (_, i) => (i < 4 ? new http.Agent({ keepAlive: true, maxSockets: 1 }) : false));
const done = { kept: 0, fresh: 0, sockets: 0, failed: [], longestMs: 0 };
const get = (agent) => new Promise((resolve, reject) => {
  const request = http.get({ host: '${service}', path: '/small', agent, timeout: 10000 }, (response) => {
    let text = '';
    response.on('data', (part) => (text += part));
    response.on('end', () => (text === 'small' ? resolve() : reject(new Error('said ' + text.slice(0, 80)))));
    response.on('error', reject);
  });
  request.on('socket', (socket) => { if (!socket.known) { socket.known = true; done.sockets++; } });
  request.on('timeout', () => request.destroy(new Error('no answer in 10 s')));
  request.on('error', reject);
});
const stop = process.argv[1];
Promise.all(agents.map(async (agent) => {
  while (!existsSync(stop)) {
    const began = Date.now();
    try { await get(agent); done[agent ? 'kept' : 'fresh']++; } catch (error) { done.failed.push(String(error)); }
    done.longestMs = Math.max(done.longestMs, Date.now() - began);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
})).then(() => { console.log(JSON.stringify(done)); process.exit(); });
`;

const retransmitted = async (): Promise<number> => {
  const text = (await lab.inside(['cat', '/proc/net/netstat'])).stdout.split('\n').filter((line) => line.startsWith('TcpExt:')).map((line) => line.split(' '));
  return Number(text[1]![text[0]!.indexOf('TCPSynRetrans')]);
};

test('move: a host, an origin, images', { timeout: 10 * minutes }, async (t) => {
  if (!keep) await labDown(name);
  const up = await shoal(['lab', 'up', '--lab', name, '--memory', '2048'], 9 * minutes);
  t.equal(up.code, 0, up.err);
  lab = await labAttach(name);
  const host = lab.hosts[0]!;
  client = new Client({ url: host.url, ca: readFileSync(host.caFile, 'utf8'), password: readFileSync(host.passwordFile, 'utf8').trim() });
  await client.plugin('destroy', { vms: 'all' }, { timeoutMs: minutes });
  for (const app of ['ping', 'minicache']) {
    const bytes = readFileSync(join(repositoryRoot, 'build/unikernels', `${app}.elf`));
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    await client.resource('PUT', `/image/${digest}`, {}, bytes);
    images.set(app, digest);
  }
  void lab.inside([process.execPath, '-e', originServer], { timeoutMs: 15 * minutes }).catch(() => undefined);
  for (let i = 0; i < 50 && (await curl(`http://${origin}/x`).catch(() => '')) !== 'small'; i++) await pause(100);
});

test('move: twenty times under load, nothing fails', { timeout: 10 * minutes }, async (t) => {
  const vms: string[] = [];
  for (let i = 0; i < 4; i++) vms.push(await launch('minicache', `cache-${i}`, i === 0 ? service : `10.64.9.${100 + i}`, 16_384, `origin=${origin}`));
  for (let i = 0; i < 4; i++) t.equal(await curl('--retry', '20', '--retry-connrefused', '--retry-delay', '1', `http://${i === 0 ? service : `10.64.9.${100 + i}`}/small`), 'small', `guest ${i} answers`);
  await curl('-o', '/dev/null', `http://${service}/big`);
  const stop = `/tmp/shoal-move-${process.pid}`;
  const loading = lab.inside([process.execPath, '-e', load, stop], { timeoutMs: 5 * minutes });
  const long = lab.inside(['sh', '-c', `curl -sS --limit-rate 40k --max-time 120 http://${service}/big | sha256sum`], { timeoutMs: 3 * minutes });
  await pause(500);
  const began = Date.now();
  for (let i = 1; i <= 20; i++) {
    await moveAddress(vms[(i - 1) % 4]!, vms[i % 4]!, 40_000);
    if (i === 7) await lab.hosts[0]!.exec('kill -9 $(cat /run/shoal-switch.pid)');
    await pause(400);
  }
  t.comment(`20 moves in ${Date.now() - began} ms`);
  const expected = createHash('sha256').update(Buffer.alloc(bigBytes, Uint8Array.from({ length: 251 }, (_, i) => i))).digest('hex');
  t.equal((await long).stdout.split(' ')[0], expected, 'a long download that began before the first arrives whole');
  await lab.inside(['touch', stop]);
  const result = JSON.parse((await loading).stdout) as { kept: number; fresh: number; sockets: number; failed: string[]; longestMs: number };
  await lab.inside(['rm', stop]);
  t.deepEqual(result.failed, [], 'no request fails');
  t.ok(result.kept > 200 && result.fresh > 200, `of ${result.kept} on kept connections and ${result.fresh} on new ones; the slowest took ${result.longestMs} ms`);
  const records = await client.plugin<{ columns: string[]; rows: unknown[][] }>('list', {});
  const at = records.columns.indexOf('addresses');
  t.equal(records.rows.filter((row) => String(row[at]).split(' ').includes(service)).length, 1, 'one VM has it');
  await client.plugin('destroy', { vms: 'all' }, { timeoutMs: minutes });
});

test('move: an address is held until its guest is there', { timeout: 5 * minutes }, async (t) => {
  // Each address twice: the second time others still know the MAC of its first guest.
  for (let i = 0; i < 4; i++) {
    const ip = `10.64.8.${(i % 2) + 1}`;
    await client.plugin('shells', { prepare: JSON.stringify({ image: images.get('ping'), memoryKib: 4096, count: 1 }) }, { timeoutMs: minutes });
    await client.plugin('hold-address', { network: 'default', ip, ms: '30000' });
    const before = await retransmitted();
    const asked = curl('-o', '/dev/null', '-w', '%{http_code} %{time_connect} %{time_total}', `http://${ip}/`);
    await pause(100);
    const began = Date.now();
    const vm = await launch('ping', `late-${i}`, ip, 4096);
    const tookMs = Date.now() - began;
    const [code, connectS, totalS] = (await asked).split(' ');
    t.equal(code, '200', `a client that came first is answered: connected after ${connectS} s, answered after ${totalS} s, the launch took ${tookMs} ms`);
    const again = (await retransmitted()) - before;
    // A SYN waits a second for its answer: where the launch takes longer it is sent again.
    t.ok(again <= Math.floor((tookMs + 200) / 1000), `and asked ${again === 0 ? 'once' : `${again} times more`}`);
    if (i < 2) await client.plugin('destroy', { vms: JSON.stringify([vm]) });
  }
  const [state] = (await client.plugin<{ traffic: ({ held: boolean; frames: number } | null)[] }>('address-traffic', { network: 'default', ips: '["10.64.8.1","10.64.8.77"]' })).traffic;
  t.ok(state!.frames >= 6 && !state!.held, 'its frames are counted');
});

test('move: down', { timeout: 2 * minutes }, async () => {
  await curl(`http://${origin}/quit`).catch(() => '');
  await client.close();
  if (!keep) await labDown(name);
});
