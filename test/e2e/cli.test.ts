/** The verbs on a real Xen host: a VM from its image to its end, seen from outside and by Xen's own tools. */
import { join } from 'node:path';
import test from 'tape';
import { labDown, labUp, type Lab } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { shoal } from './shoal.ts';

const name = 'tcli';
const imageFile = join(repositoryRoot, 'build/unikernels/ping.elf');
const on = (...words: string[]) => shoal([...words, '--lab', name]);
let lab: Lab;

/** Whether an address answers a ping within the time. */
async function answers(address: string, timeoutMs: number): Promise<boolean> {
  const pinger = await lab.pinger(0);
  try {
    return await pinger.firstReply(address, timeoutMs).then(
      () => true,
      () => false,
    );
  } finally {
    await pinger.close();
  }
}

test('setup', async (t) => {
  lab = await labUp({ name, memoryMib: 2048 });
  t.ok(lab.hosts[0]?.agent, 'a host with an agent');
});

test('an image, a VM, its address, its console, its web page', async (t) => {
  const put = await on('image', 'put', imageFile, '--json');
  t.deepEqual([put.code, put.json?.sent], [0, true], put.err);
  const made = await on('vm', 'create', 'web', '--image', put.json.digest.slice(0, 20), '--json');
  t.equal(made.code, 0, made.err);
  const { ip, domid, uuid } = made.json[0];
  t.ok(await answers(ip, 30_000), `${ip} answers`);
  const page = await lab.inside(['curl', '-sS', '--max-time', '20', `http://${ip}/`], { timeoutMs: 30_000 });
  t.match(page.stdout, /web/, 'the page names the VM');
  t.match((await on('vm', 'console', 'web')).out, /ip /, 'the console has what it printed');
  const { stdout } = await lab.hosts[0]!.exec('xl list', { timeoutMs: 60_000 });
  t.match(stdout, new RegExp(`^web +${domid} +3 `, 'm'), 'xl sees the same domain');
  t.equal((await on('vm', 'show', uuid, '--json')).json.name, 'web', 'by its uuid');
});

test('pause holds it, unpause lets it go on, stop and start keep its address', async (t) => {
  const address = (await on('vm', 'show', 'web', '--json')).json.addresses[0];
  t.equal((await on('vm', 'pause', 'web')).code, 0);
  t.notOk(await answers(address, 2_000), 'a paused VM is silent');
  t.equal((await on('vm', 'unpause', 'web')).code, 0);
  t.ok(await answers(address, 20_000), 'it goes on');
  const stopped = await on('vm', 'stop', 'web');
  t.equal(stopped.code, 0, `it shuts down when asked: ${stopped.err}`);
  t.equal((await on('vm', 'list', '--json')).json[0].state, 'halted');
  t.equal((await on('vm', 'start', 'web')).code, 0);
  t.ok(await answers(address, 30_000), 'the same address answers');
});

test('what cannot be is refused, and changes nothing', async (t) => {
  const cases: [string[], string][] = [
    [['vm', 'create', 'web'], 'NAME_IN_USE'],
    [['vm', 'create', 'two', '--network', 'nope'], 'NETWORK_UNKNOWN'],
    [['vm', 'create', 'two', '--memory-kib', '64'], 'MEMORY_INVALID'],
    [['vm', 'create', 'two', '--ip', '10.99.0.1'], 'ADDRESS_INVALID'],
    [['vm', 'create', 'two', '--image', 'sha256:' + '0'.repeat(64)], 'IMAGE_UNKNOWN'],
    [['image', 'put', join(repositoryRoot, 'package.json')], 'IMAGE_NOT_ELF'],
  ];
  for (const [argv, expected] of cases) {
    const { code, json } = await on(...argv, '--json');
    t.deepEqual([code, json?.error?.code], [1, expected], argv.join(' '));
    t.ok(json?.error?.hint.length > 0, `${expected} has a hint`);
  }
  t.equal((await on('vm', 'list', '--json')).json.length, 1, 'one VM, as before');
});

test('destroyed, nothing of it is left', async (t) => {
  const { domid } = (await on('vm', 'show', 'web', '--json')).json;
  t.equal((await on('vm', 'destroy', 'web')).code, 0);
  t.deepEqual((await on('vm', 'list', '--json')).json, []);
  const host = lab.hosts[0]!;
  t.notOk((await host.exec('xl list', { timeoutMs: 60_000 })).stdout.includes('web'), 'no domain');
  t.equal((await host.exec(`xenstore-ls /local/domain/${domid}`, { timeoutMs: 60_000 })).stdout, '', 'no node in the store');
});

test('teardown', async (t) => {
  await labDown(name);
  t.end();
});

test.onFailure(() => void labDown(name));
