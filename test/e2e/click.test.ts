/** The middlebox as a guest of 5 MiB on real Xen, by the switch and by netback: configured while it runs, replaced live, wrong ones refused with line and column. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'tape';
import { labAttach, labDown, type Lab } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { addChainNetworks, removeChainNetworks, withMacs } from '../../bench/click/networks.ts';
import { shoal } from './shoal.ts';

const name = process.env['SHOAL_TEST_LAB'] ?? 'click';
const minutes = 60_000;
const folder = mkdtempSync(join(tmpdir(), 'shoal-click-'));
const secretFile = join(folder, 'secret');
let lab: Lab;

/** The command, where guests can be reached. */
async function click(verb: string, ...words: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const { code, stdout, stderr } = await lab.inside([join(repositoryRoot, 'shoal'), 'click', verb, ...words, '--secret-file', secretFile], { timeoutMs: minutes });
  return { code, out: stdout.trim(), err: stderr };
}
function configuration(text: string): string {
  const file = join(folder, 'configuration.click');
  writeFileSync(file, text);
  return file;
}

test('click: a host', { timeout: 10 * minutes }, async (t) => {
  writeFileSync(secretFile, 's\n');
  await labDown(name);
  const up = await shoal(['lab', 'up', '--lab', name, '--memory', '2048'], 9 * minutes);
  t.equal(up.code, 0, up.err);
  lab = await labAttach(name);
});

for (const [i, backend] of ['switch', 'netback'].entries())
  test(`click: configured, replaced and read while it runs, by ${backend}`, { timeout: 5 * minutes }, async (t) => {
    const ip = `10.64.9.${i + 1}`;
    const made = await shoal(['vm', 'create', `middlebox-${backend}`, '--image', 'build/unikernels/click.elf', '--memory-kib', '5120', '--ip', ip, '--backend', backend, '--args', 'secret=s', '--lab', name, '--json'], minutes);
    t.equal(made.code, 0, made.err);
    const source = 'source :: RatedSource(RATE 100) -> counted :: Counter -> Discard;';
    let installed = await click('install', ip, configuration(source));
    for (let tries = 0; installed.code !== 0 && tries < 20; tries++) {
      await sleep(500);
      installed = await click('install', ip, configuration(source));
    }
    t.equal(installed.code, 0, installed.err);
    const count = async (): Promise<number> => Number((await click('read', ip, 'counted.count')).out);
    await sleep(500);
    const first = await count();
    t.ok(first > 0, `${first} packets`);
    const wrong = await click('install', ip, configuration('counted :: Counter;\ncounted -> Nonsense -> Discard;'));
    t.notEqual(wrong.code, 0);
    t.match(wrong.err, /2:\d+: .*Nonsense/, 'a wrong one is refused, with line and column');
    await sleep(300);
    t.ok((await count()) > first, 'the one that runs runs on');
    t.equal((await click('install', ip, configuration(`${source} Idle -> Discard;`))).code, 0, 'replaced');
    t.ok((await count()) >= first, 'what was counted is still counted');
    t.equal((await click('write', ip, 'counted.reset')).code, 0);
    t.ok((await count()) < first + 200, 'reset');
    t.equal((await lab.inside(['curl', '-sS', '-o', '/dev/null', '-w', '%{http_code}', '--max-time', '10', `http://${ip}:8081/`], { timeoutMs: 30_000 }).catch(() => ({ stdout: '000' }))).stdout.trim() !== '200', true, 'nothing without the secret');
    t.equal((await shoal(['vm', 'destroy', `middlebox-${backend}`, '--lab', name])).code, 0);
  });

/** Linux on both sides of a router: namespaces of dom0 behind the bridges of two networks of the switch. */
const ends = [
  { space: 'end-in', bridge: 'chain-in', ip: '10.0.0.9', gateway: '10.0.0.254' },
  { space: 'end-out', bridge: 'chain-out', ip: '10.0.1.9', gateway: '10.0.1.254' },
];
const dom0 = async (command: string): Promise<string> => {
  const { code, stdout, stderr } = await lab.hosts[0]!.exec(command, { timeoutMs: minutes });
  return code === 0 ? stdout.trim() : `failed: ${stderr.trim()}`;
};
/** Datagrams there and back, so many that came whole; each a little longer than the one before. */
const echo = `const s = require('node:dgram').createSocket('udp4'); const count = 200; const seen = new Set();
if (process.argv[2] === 'serve') { s.on('message', (m, from) => s.send(m, from.port, from.address)); s.bind(7); }
else { s.on('message', (m) => { if (m.length === m[0] * 5 + 20 && m.every((b) => b === m[0])) seen.add(m[0]); });
  let i = 0; const timer = setInterval(() => { if (i < count) { s.send(Buffer.alloc(i * 5 + 20, i), 7, process.argv[2]); i++; } else { clearInterval(timer); setTimeout(() => { console.log(seen.size); process.exit(); }, 1500); } }, 5); }`;
/** TCP: 4 MB there, and their digest back. */
const bulk = `const net = require('node:net'), { createHash } = require('node:crypto'); const bytes = Buffer.alloc(4e6, 'shoal');
if (process.argv[2] === 'serve') net.createServer({ allowHalfOpen: true }, (c) => { const h = createHash('sha256'); c.on('data', (d) => h.update(d)); c.on('end', () => c.end(h.digest('hex'))); c.on('error', () => {}); }).listen(8);
else { const c = net.connect({ port: 8, host: process.argv[2], allowHalfOpen: true }); let got = ''; c.setTimeout(50000, () => c.destroy()); c.on('data', (d) => (got += d)); c.on('error', () => {});
  c.on('close', () => { console.log(got === createHash('sha256').update(bytes).digest('hex') ? 'whole' : 'not whole'); process.exit(); }); c.end(bytes); }`;

test('click: a router between two networks of the switch, for Linux', { timeout: 8 * minutes }, async (t) => {
  const host = lab.hosts[0]!;
  const config = join(folder, 'router.click');
  const made = async (vm: string, ...more: string[]): Promise<void> => {
    const words = ['vm', 'create', vm, '--image', 'build/unikernels/click.elf', '--memory-kib', '8192', '--network', 'in,out', '--ip', '10.0.0.254,10.0.1.254', '--args', 'secret=s', ...more, '--lab', name, '--json'];
    const { code, err } = await shoal(words, minutes);
    t.equal(code, 0, err);
    const shown = await shoal(['vm', 'show', vm, '--lab', name, '--json'], minutes);
    const { vifs, lockingModes } = JSON.parse(shown.out) as { vifs: { mac: string; lockingMode: string }[]; lockingModes: string[] };
    const mode = more.length > 0 ? 'unlocked' : 'network_default';
    t.deepEqual([lockingModes, vifs.map((vif) => vif.lockingMode)], [[mode, mode], [mode, mode]], 'vm show says how it is locked');
    writeFileSync(config, withMacs(readFileSync(join(repositoryRoot, 'unikernels/apps/click/configurations/router.click'), 'utf8'), vifs.map((vif) => vif.mac)));
    let installed = await click('install', '10.0.0.254', config);
    for (let tries = 0; installed.code !== 0 && tries < 20; tries++) {
      await sleep(500);
      installed = await click('install', '10.0.0.254', config);
    }
    t.equal(installed.code, 0, installed.err);
  };
  const serve = (what: string): Promise<string> => dom0(`setsid ip netns exec end-out node /run/${what}.cjs serve < /dev/null > /dev/null 2>&1 & echo $! >> /run/ends.pids`);
  const across = (what: string): Promise<string> => dom0(`ip netns exec end-in node /run/${what}.cjs 10.0.1.9`);
  await addChainNetworks(lab, host);
  try {
    for (const [file, text] of [['echo', echo], ['bulk', bulk]] as const) await host.exec(`cat > /run/${file}.cjs`, { input: text });
    for (const { space, bridge, ip, gateway } of ends)
      t.equal(await dom0(`ip netns add ${space} && ip link add ${space} type veth peer name eth0 netns ${space} && ip link set ${space} master ${bridge} up && ip -n ${space} link set lo up && ip -n ${space} addr add ${ip}/24 dev eth0 && ip -n ${space} link set eth0 up && ip -n ${space} route add default via ${gateway}`), '', `Linux in ${space}`);
    for (const what of ['echo', 'bulk']) await serve(what);
    await sleep(3000);

    await made('locked');
    t.equal(await across('echo'), '0', 'a VM that is locked forwards for nobody');
    t.equal((await shoal(['vm', 'destroy', 'locked', '--lab', name])).code, 0);

    await made('router', '--locking-mode', 'unlocked');
    t.equal(await across('echo'), '200', 'datagrams of all sizes pass a router that is unlocked, there and back');
    t.equal(await across('bulk'), 'whole', 'so does TCP');
    await dom0('kill -9 $(cat /run/shoal-switch.pid)');
    await sleep(5000);
    t.equal(await across('bulk'), 'whole', 'also by the next switch');
    await dom0('kill -9 $(cat /run/shoal-agent.pid)');
    await sleep(12_000);
    t.equal((await shoal(['vm', 'suspend', 'router', '--lab', name], minutes)).code, 0);
    t.equal((await shoal(['vm', 'resume', 'router', '--lab', name], minutes)).code, 0);
    await sleep(1000);
    t.equal(await across('bulk'), 'whole', 'and by the next agent, suspended and resumed');
    const listed = await shoal(['vm', 'list', '--lab', name, '--json'], minutes);
    t.match(listed.out, /"lockingModes":\s*\[\s*"unlocked",\s*"unlocked"/, 'vm list says it');
    const wrong = await shoal(['vm', 'create', 'odd', '--locking-mode', 'open', '--lab', name], minutes);
    t.ok(wrong.code !== 0 && /unlocked/.test(wrong.err), `another mode is refused, with a hint: ${wrong.err.trim()}`);
    t.equal((await shoal(['vm', 'destroy', 'router', '--lab', name])).code, 0);
  } finally {
    await dom0(`for pid in $(cat /run/ends.pids); do kill $pid; done; ${ends.map(({ space }) => `ip netns del ${space}; ip link del ${space}`).join('; ')}; true`);
    await removeChainNetworks(lab, host);
  }
});

test('click: down', { timeout: 2 * minutes }, async () => {
  rmSync(folder, { recursive: true });
  await labDown(name);
});
test.onFinish(() => void labDown(name));
