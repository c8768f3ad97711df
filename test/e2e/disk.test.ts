/**
 * Disks of VMs on a real Xen host of the lab, with minicache on its disk store: what is kept over a restart, kills while it fills, a full disk, one
 * that fails, kills of the agent. And copies of a running minicache that keeps its objects in RAM.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import test from 'tape';
import { labAttach, labDown, type Lab, type LabHost } from '../../src/lab/lab.ts';
import { bodyOf, digestOf } from './fixtures/disk-origin.ts';
import { shoal, type Outcome } from './shoal.ts';

const name = process.env['SHOAL_TEST_LAB'] ?? 'disk';
const minutes = 60_000;
const folder = mkdtempSync(join(tmpdir(), 'shoal-disk-'));
const origin = 'http://10.64.0.1:8080';
const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));

let lab: Lab;
let host: LabHost;

const run = (...words: string[]): Promise<Outcome> => shoal([...words, '--lab', name, '--json'], 2 * minutes);
const codeOf = ({ json }: Outcome): string => (json as { error?: { code: string }; code?: string })?.error?.code ?? json?.code ?? 'none';
const inside = async (...words: string[]): Promise<string> => (await lab.inside(words, { timeoutMs: 90_000 })).stdout;
const curl = (...words: string[]): Promise<string> => inside('curl', '-sS', '--max-time', '60', ...words);
/** The digest of what a viewer gets; '' when its connection was cut short, or nothing more came for five seconds. */
const fetched = async (url: string): Promise<string> =>
  (await inside('sh', '-c', `curl -sS -f --max-time 60 --speed-time 5 --speed-limit 1 -H 'Host: site' ${url} > ${folder}/got 2>/dev/null && sha256sum < ${folder}/got | cut -d' ' -f1`)).trim();
const asked = async (path: string): Promise<number> => (JSON.parse(await curl(`${origin}/asked`)) as Record<string, number>)[path] ?? 0;
const ipOf = (vm: string): string => `10.64.9.${[...vm].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 250, 7) + 1}`;
const hasStarted = (vm: string): Promise<string> => curl('--retry', '40', '--retry-connrefused', '--retry-delay', '1', `http://${ipOf(vm)}:8081/health`);
const metric = async (vm: string, word: string): Promise<number> =>
  Number(new RegExp(`^minicache_${word} (\\d+)$`, 'm').exec(await curl('-H', 'Authorization: Bearer s', `http://${ipOf(vm)}:8081/metrics`))?.[1]);

async function cache(vm: string, disk: string, ...more: string[]): Promise<Outcome> {
  const words = ['--image', 'build/unikernels/minicache.elf', '--memory-kib', '5120', '--ip', ipOf(vm), '--disk', disk];
  return run('vm', 'create', vm, ...words, '--args', `disk origin=10.64.0.1:8080 secret=s ${more.join(' ')}`);
}

async function settled(vm: string): Promise<boolean> {
  for (let i = 0; i < 100 && (await metric(vm, 'store_settled')) !== 1; i++) await sleep(100);
  return (await metric(vm, 'store_settled')) === 1;
}

async function diskFile(disk: string): Promise<string> {
  const { json } = await run('disk', 'list');
  return (json as { name: string; path: string }[]).find((each) => each.name === disk)!.path;
}

/** What `shoal store verify` says of a disk that nobody has; the disk is brought out of dom0 for it. */
async function verified(disk: string): Promise<Outcome> {
  const { stdout, stderr } = await host.exec(`gzip -1 -c ${await diskFile(disk)} | base64`, { timeoutMs: minutes });
  writeFileSync(join(folder, 'volume'), stdout === '' ? stderr : gunzipSync(Buffer.from(stdout, 'base64')));
  return shoal(['store', 'verify', join(folder, 'volume'), '--json']);
}

async function nothingLeft(): Promise<string> {
  const look = 'cat /sys/block/loop*/loop/backing_file 2>/dev/null; ls /sys/bus/xen-backend/devices | grep vbd; xenstore-ls /local/domain/0/backend/vbd | grep params';
  for (let i = 0; i < 50 && (await host.exec(look)).stdout !== ''; i++) await sleep(100);
  return (await host.exec(look)).stdout;
}

test('disk: a host, an origin', { timeout: 10 * minutes }, async (t) => {
  await labDown(name);
  const up = await shoal(['lab', 'up', '--lab', name, '--memory', '2048'], 9 * minutes);
  t.equal(up.code, 0, up.err);
  lab = await labAttach(name);
  host = lab.hosts[0]!;
  void lab.inside([process.execPath, '--import', 'tsx', 'test/e2e/fixtures/disk-origin.ts', 'serve', '10.64.0.1', '8080'], { timeoutMs: 25 * minutes }).catch(() => undefined);
  for (let i = 0; i < 50 && !(await curl(`${origin}/asked`).catch(() => '')).startsWith('{'); i++) await sleep(200);
  for (const [disk, size] of [['keep', '16M'], ['small', '2M']]) t.equal((await run('disk', 'create', disk!, '--size', size!, '--store')).code, 0, `disk ${disk}`);
});

test('disk: what was filled is there after a hard end, and the origin is not asked', { timeout: 5 * minutes }, async (t) => {
  t.equal((await cache('edge', 'keep')).code, 0);
  t.equal(await hasStarted('edge'), 'ok\n');
  const paths = ['/3000000/film', '/1000/note', '/300000/page', '/0/nothing'];
  for (const path of paths) t.equal(await fetched(`http://${ipOf('edge')}${path}`), digestOf(path), `${path} comes whole`);
  t.ok(await settled('edge'), 'all of it is on the disk');
  t.equal((await run('vm', 'destroy', 'edge')).code, 0);
  t.equal(await nothingLeft(), '', 'neither loop device nor backend is left');
  const verify = await verified('keep');
  t.equal(verify.code, 0, verify.out + verify.err);
  t.equal((await cache('edge', 'keep')).code, 0);
  t.equal(await hasStarted('edge'), 'ok\n');
  for (const path of paths) {
    t.equal(await fetched(`http://${ipOf('edge')}${path}`), digestOf(path), `${path} from the disk`);
    t.equal(await asked(path), 1, 'the origin was asked once');
  }
  t.match(await curl('-o', '/dev/null', '-D', '-', '-H', 'Host: site', `http://${ipOf('edge')}/1000/note`), /^cache-status: minicache; hit/im);
  t.equal(await inside('sh', '-c', `curl -sS -H 'Host: site' -r 2000000-2000009 http://${ipOf('edge')}${paths[0]} | base64`).then((text) => text.trim()), bodyOf(paths[0]!).subarray(2_000_000, 2_000_010).toString('base64'), 'a part of it');
});

test('disk: ends while it fills', { timeout: 8 * minutes }, async (t) => {
  const kept = '/3000000/film';
  for (let round = 0; round < 4; round++) {
    const path = `/stuck/2400000/part${round}`;
    const viewer = fetched(`http://${ipOf('edge')}${path}`);
    await fetched(`http://${ipOf('edge')}/200000/round${round}`);
    await sleep(300 * round);
    const { json } = await run('vm', 'show', 'edge');
    if (round % 2 === 0) await run('vm', 'destroy', 'edge');
    else {
      await host.exec(`xl destroy ${String((json as { domid: number }).domid)}`);
      await nothingLeft();
      await run('vm', 'destroy', 'edge');
    }
    t.equal(await viewer, '', `round ${round}: its viewer was cut off`);
    t.equal(await nothingLeft(), '', 'nothing is left');
    const verify = await verified('keep');
    t.equal(verify.code, 0, `the store is sound: ${verify.out}${verify.err}`);
    t.equal((await cache('edge', 'keep')).code, 0);
    t.equal(await hasStarted('edge'), 'ok\n');
    t.equal(await fetched(`http://${ipOf('edge')}${path}`), digestOf(path), 'what was partial is fetched anew, whole');
    t.equal(await asked(path), 2, 'from the origin');
    t.equal(await fetched(`http://${ipOf('edge')}${kept}`), digestOf(kept), 'what was whole is served');
  }
  t.equal(await asked(kept), 1, 'from the disk');
});

test('disk: one writer', { timeout: 3 * minutes }, async (t) => {
  const second = await cache('second', 'keep');
  t.equal(codeOf(second), 'DISK_IN_USE', second.out);
  const copy = await run('vm', 'clone', 'edge', 'copy');
  t.equal(codeOf(copy), 'DISK_IN_USE', copy.out);
  t.notEqual((await run('disk', 'destroy', 'keep')).code, 0, 'a disk that a VM has stays');
  t.notEqual((await run('vm', 'create', 'wired', '--image', 'build/unikernels/minicache.elf', '--disk', 'small', '--backend', 'switch')).code, 0, 'not on the switch');
  t.equal(await hasStarted('edge'), 'ok\n', 'and the first goes on');
});

test('disk: full', { timeout: 5 * minutes }, async (t) => {
  t.equal((await cache('full', 'small')).code, 0);
  t.equal(await hasStarted('full'), 'ok\n');
  const wrong: string[] = [];
  for (let i = 0; i < 24; i++) if ((await fetched(`http://${ipOf('full')}/200000/${i}`)) !== digestOf(`/200000/${i}`)) wrong.push(String(i));
  t.deepEqual(wrong, [], 'every body is right while objects come and go');
  t.ok((await metric('full', 'evicted_total')) > 10, 'objects gave way');
  t.equal(await fetched(`http://${ipOf('full')}/5000000/large`), digestOf('/5000000/large'), 'what does not fit is passed on');
  t.equal((await run('vm', 'destroy', 'full')).code, 0);
  const verify = await verified('small');
  t.equal(verify.code, 0, verify.out + verify.err);
});

test('disk: it fails', { timeout: 5 * minutes }, async (t) => {
  // A sparse file on a file system with too little room: from some write on, all fail.
  const made = await host.exec('mkdir -p /mnt/tight && mount -t tmpfs -o size=1500k tmpfs /mnt/tight && truncate -s 16M /mnt/tight/d && losetup --show -f /mnt/tight/d');
  t.equal(made.code, 0, made.stderr);
  t.equal((await run('disk', 'create', 'bad', '--device', made.stdout.trim())).code, 0);
  t.equal((await cache('bad', 'bad')).code, 0);
  t.equal(await hasStarted('bad'), 'ok\n', 'a blank device becomes a store');
  const wrong: string[] = [];
  for (let i = 0; i < 12; i++) {
    const got = await fetched(`http://${ipOf('bad')}/300000/b${i}`);
    if (got !== '' && got !== digestOf(`/300000/b${i}`)) wrong.push(`${i}`);
  }
  t.deepEqual(wrong, [], 'whole or cut off, never wrong');
  t.ok((await metric('bad', 'store_io_errors_total')) > 0, 'the disk did fail');
  t.equal(await curl('-o', '/dev/null', '-w', '%{http_code}', `http://${ipOf('bad')}/100/after`), '200', 'it serves on, without the disk');
  t.equal((await run('vm', 'destroy', 'bad')).code, 0);
  // Room again, and the bytes of some chunks are lost: their checks do not hold any more.
  await host.exec(`mount -o remount,size=20m /mnt/tight; for at in 400 600 800 1000 1200; do dd if=/dev/urandom of=/mnt/tight/d bs=1k seek=$at count=3 conv=notrunc; done`);
  t.equal((await cache('bad', 'bad')).code, 0);
  t.equal(await hasStarted('bad'), 'ok\n');
  const after: string[] = [];
  for (let round = 0; round < 2; round++)
    for (let i = 0; i < 12; i++) {
      const got = await fetched(`http://${ipOf('bad')}/300000/b${i}`);
      if (got !== digestOf(`/300000/b${i}`) && (got !== '' || round > 0)) after.push(`${round}/${i}`);
    }
  t.deepEqual(after, [], 'spoilt objects are cut off once and then fetched anew');
  t.equal((await run('vm', 'destroy', 'bad')).code, 0);
  t.equal((await run('disk', 'destroy', 'bad')).code, 0);
  await host.exec('losetup -D; umount /mnt/tight');
});

/** Again and again: the supervisor may have been about to start another agent. */
const stop =
  'touch /run/shoal-agent.stop; while kill -0 $(cat /run/shoal-supervise.pid) 2>/dev/null; do kill -9 $(cat /run/shoal-agent.pid) 2>/dev/null; sleep 0.1; done; rm -f /run/shoal-agent.stop';
const start = 'setsid -f /usr/lib/shoal/supervise </dev/null >/dev/null 2>&1';
const answers = async (): Promise<void> => {
  for (let i = 0; i < 60 && (await run('host', 'show')).code !== 0; i++) await sleep(500);
};

test('disk: kills of the agent', { timeout: 8 * minutes }, async (t) => {
  const restart = async (environment: string): Promise<void> => {
    await host.exec(`printf '%s\\n' '${environment}' > /etc/shoal/agent.env; ${stop}; ${start}`);
    await answers();
  };
  await restart('');
  t.equal(await hasStarted('edge'), 'ok\n', 'a VM with a disk goes on');
  t.equal(await fetched(`http://${ipOf('edge')}/3000000/film`), digestOf('/3000000/film'));
  t.equal(codeOf(await cache('second', 'keep')), 'DISK_IN_USE', 'and still has it');
  for (const moment of ['register', 'after:register', 'after:seal']) {
    await restart(`SHOAL_CRASH_AT=${moment}`);
    t.notEqual((await cache('victim', 'small')).code, 0, `killed at ${moment}`);
    await restart('');
    if (moment === 'after:seal') {
      t.equal(await hasStarted('victim'), 'ok\n', 'whole, so it was adopted');
      t.equal((await run('vm', 'destroy', 'victim')).code, 0);
    }
    const left = (await host.exec('cat /sys/block/loop*/loop/backing_file')).stdout.trim().split('\n');
    t.deepEqual(left, [await diskFile('keep')], 'one loop device, that of the VM that runs');
  }
  const { json } = await run('vm', 'show', 'edge');
  await host.exec(`${stop}; xl destroy ${String((json as { domid: number }).domid)}; ${start}`);
  await answers();
  t.equal(await nothingLeft(), '', 'ended by xl while the agent was dead: nothing is left');
  t.equal((await verified('keep')).code, 0);
});

test('disk: a copy of a running minicache that keeps its objects in RAM', { timeout: 5 * minutes }, async (t) => {
  const words = ['--image', 'build/unikernels/minicache.elf', '--memory-kib', '5120', '--ip', ipOf('ram'), '--backend', 'switch'];
  t.equal((await run('vm', 'create', 'ram', ...words, '--args', 'origin=10.64.0.1:8080 secret=s')).code, 0);
  t.equal(await hasStarted('ram'), 'ok\n');
  const url = `http://${ipOf('ram')}`;
  t.equal(await fetched(`${url}/400000/a`), digestOf('/400000/a'));
  const half = fetched(`${url}/slow/600000/b`);
  await sleep(300);
  const copied = await run('vm', 'clone', 'ram', 'twin');
  t.equal(copied.code, 0, copied.err);
  const twin = `http://${(copied.json as { ip: string }[])[0]!.ip}`;
  t.equal(await half, digestOf('/slow/600000/b'), 'a viewer of the original gets all of it');
  t.equal(await fetched(`${twin}/400000/a`), digestOf('/400000/a'), 'the copy serves what the original had');
  t.equal(await asked('/400000/a'), 1, 'without asking');
  t.equal(await fetched(`${twin}/slow/600000/b`), digestOf('/slow/600000/b'), 'what was on its way is fetched by the copy itself');
  t.equal(await fetched(`${twin}/slow/600000/b`), digestOf('/slow/600000/b'), 'and kept right');
  t.equal(await fetched(`${twin}/100000/c`), digestOf('/100000/c'), 'new things too');
  t.equal(await fetched(`${url}/100000/c`), digestOf('/100000/c'), 'as by the original');
});

test('disk: down', { timeout: 2 * minutes }, async () => {
  await curl(`${origin}/quit`).catch(() => '');
  await labDown(name);
  rmSync(folder, { recursive: true, force: true });
});
