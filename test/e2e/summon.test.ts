/**
 * Names that boot what they name, in the lab: a service from nothing by a DNS query, many at once, no client refused; it stays while a connection is used, and is stopped
 * after; the summoner is killed and goes on.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'tape';
import { outside, startSummoner, zone } from '../../bench/hotfix/summon.ts';
import type { Control } from '../../src/cli/control.ts';
import { openLabFleet } from '../../src/cli/fleet-lab.ts';
import { digestOf } from '../../src/cli/images.ts';
import type { LabController } from '../../src/lab/controller.ts';
import { labAttach, labDown, type Lab } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { shoal } from './shoal.ts';

const name = process.env['SHOAL_TEST_LAB'] ?? 'summontest';
const keep = process.env['SHOAL_TEST_KEEP'] !== undefined;
const minutes = 60_000;
const idleS = 4;

let lab: Lab;
let control: Control;
let controller: LabController;
let end: (signal?: NodeJS.Signals) => void = () => {};

/** Twelve clients that ask for the name and then for its page, at once; what went wrong, and to whom they were sent. */
const clients = `
const { Resolver } = require('node:dns').promises;
const { get } = require('node:http');
const [name, count] = process.argv.slice(1);
const page = (host) => new Promise((resolve, reject) => get({ host, path: '/', agent: false, timeout: 20000 }, (response) => { response.resume(); response.on('end', () => resolve(response.statusCode)); }).on('error', reject));
Promise.all(Array.from({ length: Number(count) }, async () => {
  const resolver = new Resolver({ timeout: 20000, tries: 1 });
  resolver.setServers(['${outside}:5300']);
  try { const [address] = await resolver.resolve4(name); return { address, status: await page(address) }; } catch (error) { return { error: String(error.code ?? error) }; }
})).then((all) => { console.log(JSON.stringify(all)); process.exit(); });
`;
const ask = async (host: string, count = 1): Promise<{ address?: string; status?: number; error?: string }[]> =>
  JSON.parse((await lab.inside([process.execPath, '-e', clients, host, String(count)], { timeoutMs: minutes })).stdout) as never;
const copies = async (): Promise<number> => (await control.list<object>('/v1/vms?service=page')).length;
const until = async (count: number, withinMs: number): Promise<boolean> => {
  for (const deadline = Date.now() + withinMs; Date.now() < deadline; await sleep(100)) if ((await copies()) === count) return true;
  return false;
};

test('summon: a host, a controller, a service at nothing', { timeout: 10 * minutes }, async (t) => {
  if (!keep) await labDown(name);
  const up = await shoal(['lab', 'up', '--lab', name, '--memory', '2048'], 9 * minutes);
  t.equal(up.code, 0, up.err);
  lab = await labAttach(name);
  ({ controller, control } = await openLabFleet(name, [lab.hosts[0]!]));
  const bytes = readFileSync(join(repositoryRoot, 'build/unikernels/ping.elf'));
  await control.call('PUT', `/v1/images/${digestOf(bytes)}`, bytes);
  await control.call('PUT', '/v1/services/bench/page', { image: digestOf(bytes), count: 0, memoryKib: 4096 });
  end = await startSummoner(lab, controller, idleS);
});

test('summon: one boot for twelve clients, none refused', { timeout: 3 * minutes }, async (t) => {
  const answers = await ask(`page.bench.${zone}`, 12);
  t.ok(answers.every(({ status }) => status === 200), JSON.stringify(answers.find(({ status }) => status !== 200) ?? 'all answered'));
  t.equal(new Set(answers.map(({ address }) => address)).size, 1, 'by one VM');
  t.equal(await copies(), 1);
  t.deepEqual(await ask(`none.bench.${zone}`), [{ error: 'ENOTFOUND' }], 'no such name');
});

test('summon: stays while it is used, and no longer', { timeout: 3 * minutes }, async (t) => {
  const [{ address } = {}] = await ask(`page.bench.${zone}`);
  // Nobody asks for its name any more; it is used all the same.
  for (const deadline = Date.now() + 4 * idleS * 1000; Date.now() < deadline; await sleep(500)) await lab.inside(['curl', '-sS', '-o', '/dev/null', `http://${address}/`]);
  t.equal(await copies(), 1, 'used: there');
  t.ok(await until(0, 60_000), 'not used: stopped');
  const [again] = await ask(`page.bench.${zone}`);
  t.equal(again?.status, 200, 'and there again for who asks');
});

test('summon: killed, and begun again', { timeout: 3 * minutes }, async (t) => {
  end('SIGKILL');
  end = await startSummoner(lab, controller, idleS);
  t.equal((await ask(`page.bench.${zone}`))[0]?.status, 200, 'what it had summoned is answered for');
  t.equal(await copies(), 1, 'and is not booted twice');
  t.ok(await until(0, 60_000), 'and is stopped by the next one');
});

test('summon: down', { timeout: 2 * minutes }, async () => {
  end();
  await control.call('DELETE', '/v1/services/bench/page').catch(() => undefined);
  control.close();
  if (!keep) await labDown(name);
});
