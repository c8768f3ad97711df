/** Setting a host up, in a folder that stands for its root: what is written, what is refused, and that a second time changes nothing. */
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'tape';
import { command } from '../../../src/cli/main.ts';
import { parseAgentConfig } from '../../../src/main/agent-config.ts';
import { agentConfig as labConfig } from '../../../src/lab/agent.ts';
import { sysctls, sysctlText } from '../../../src/setup/dom0.ts';
import { setUpHost, type SetupOptions } from '../../../src/setup/setup.ts';
import { codeOf } from '../host/rig.ts';

const range = { cidr: '10.64.0.0/16', gateway: '10.64.0.1', first: '10.64.1.0', last: '10.64.250.255' };

interface Host {
  root: string;
  said: string[];
  put(path: string, text: string): void;
  read(path: string): string;
  options(more?: Partial<SetupOptions>): SetupOptions;
  setUp(more?: Partial<SetupOptions>): Promise<number>;
}

/** A folder that looks like a dom0 with a bridge br0 and an interface eth0. */
async function withHost(work: (host: Host) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-setup-'));
  const root = join(folder, 'root');
  const host: Host = {
    root,
    said: [],
    put: (path, text) => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    },
    read: (path) => readFileSync(join(root, path), 'utf8'),
    options: (more) => ({
      root, bridge: 'br0', dryRun: false, store: false, say: (line) => host.said.push(line),
      programs: { 'agent.cjs': join(folder, 'agent'), 'shoal-switch': join(folder, 'switch') }, ...more,
    }),
    setUp: (more) => setUpHost(host.options(more)),
  };
  try {
    writeFileSync(join(folder, 'agent'), 'the agent');
    writeFileSync(join(folder, 'switch'), 'the switch');
    host.put('proc/xen/capabilities', 'control_d\n');
    mkdirSync(join(root, 'sys/class/net/br0/bridge'), { recursive: true });
    mkdirSync(join(root, 'sys/class/net/eth0'), { recursive: true });
    await work(host);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Every file below the root with its mode and bytes. */
function everything(root: string): Record<string, string> {
  const names = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => statSync(join(root, name)).isFile());
  return Object.fromEntries(names.sort().map((name) => [name, `${(statSync(join(root, name)).mode & 0o777).toString(8)} ${readFileSync(join(root, name), 'hex')}`]));
}

test('what is written, and who may read it', (t) =>
  withHost(async (host) => {
    const count = await host.setUp({ range, guestCpus: [2, 3], address: '192.0.2.7' });
    const written = Object.entries(everything(host.root)).filter(([name]) => !/^(proc|sys)\//.test(name)).map(([name, text]) => `${text.split(' ')[0]} ${name}`);
    t.deepEqual(written, [
      '600 etc/shoal/agent.json',
      '644 etc/shoal/cert.pem',
      '600 etc/shoal/key.pem',
      '600 etc/shoal/password',
      '644 etc/sysctl.d/90-shoal.conf',
      '644 etc/systemd/system/shoal-agent.service',
      '644 etc/systemd/system/shoal-switch.service',
      '644 etc/modules-load.d/shoal.conf',
      '644 etc/tmpfiles.d/shoal.conf',
      '755 usr/lib/shoal/agent.cjs',
      '755 usr/lib/shoal/shoal-switch',
    ].sort((a, b) => (a.slice(4) < b.slice(4) ? -1 : 1)));
    t.equal(statSync(join(host.root, 'etc/shoal')).mode & 0o777, 0o700, 'secrets are in a folder of root');
    t.equal(host.said.length, count, 'each change is said');
    const config = parseAgentConfig(host.read('etc/shoal/agent.json'));
    t.deepEqual([config.networks[0]!.bridge, config.networks[0]!.subnet?.prefix, config.guestCpus, config.address], ['br0', 16, [2, 3], '192.0.2.7'], 'the agent understands its configuration');
    const certificate = new X509Certificate(host.read('etc/shoal/cert.pem'));
    t.match(certificate.subjectAltName ?? '', /192\.0\.2\.7/, 'the certificate names the address');
    t.ok(certificate.checkPrivateKey((await import('node:crypto')).createPrivateKey(host.read('etc/shoal/key.pem'))), 'and is of the key');
    t.match(host.read('etc/shoal/password'), /^[\w-]{24}\n$/, 'a password');
    t.match(host.read('etc/systemd/system/shoal-agent.service'), /ExecStart=\/usr\/lib\/shoal\/node \/usr\/lib\/shoal\/agent.cjs \/etc\/shoal\/agent.json\n[^]*Restart=always\n[^]*LimitNOFILE=1048576\n/);
    for (const name of Object.keys(sysctls)) t.ok(host.read('etc/sysctl.d/90-shoal.conf').includes(`\n${name} = ${sysctls[name]}\n`), name);
  }));

test('a second time changes nothing; what others changed is put right, secrets stay', (t) =>
  withHost(async (host) => {
    await host.setUp();
    const before = everything(host.root);
    t.equal(await host.setUp(), 0);
    t.deepEqual(everything(host.root), before, 'not a byte');
    host.put('usr/lib/shoal/agent.cjs', 'another agent');
    const config = host.read('etc/shoal/agent.json');
    host.put('etc/shoal/agent.json', '{"edited": true}');
    host.put('etc/shoal/password', 'mine\n');
    t.equal(await host.setUp(), 2);
    t.deepEqual([host.read('usr/lib/shoal/agent.cjs'), host.read('etc/shoal/agent.json'), host.read('etc/shoal/agent.json.old'), host.read('etc/shoal/password')], ['the agent', config, '{"edited": true}', 'mine\n']);
    t.equal(host.read('etc/shoal/cert.pem'), Buffer.from(before['etc/shoal/cert.pem']!.slice(4), 'hex').toString(), 'the certificate is the same');
  }));

test('a dry run says the same and writes nothing', (t) =>
  withHost(async (host) => {
    const before = everything(host.root);
    const count = await host.setUp({ dryRun: true });
    t.deepEqual(everything(host.root), before);
    const dry = host.said.splice(0).map((line) => line.replace(/^would (make|change)/, (_, verb) => (verb === 'make' ? 'made' : 'changed')));
    t.equal(await host.setUp(), count);
    t.deepEqual(host.said, dry);
  }));

test('a limit that is higher already is left alone, also the second time', (t) =>
  withHost(async (host) => {
    host.put('proc/sys/fs/file-max', '9223372036854775807\n');
    host.put('proc/sys/kernel/pid_max', '4194303\n');
    host.put('proc/sys/kernel/threads-max', '1000\n');
    await host.setUp();
    const text = host.read('etc/sysctl.d/90-shoal.conf');
    t.deepEqual(['file-max', 'pid_max', 'threads-max'].map((name) => text.includes(name)), [false, true, true]);
    host.put('proc/sys/kernel/threads-max', '200000\n');
    t.equal(await host.setUp(), 0);
  }));

test("Shoal's store daemon is what Debian's script starts; other lines stay", (t) =>
  withHost(async (host) => {
    host.put('etc/default/xen', '# mine\nXENSTORED=oxenstored\nXENCONSOLED_ARGS=\n');
    await host.setUp({ store: true });
    t.equal(host.read('etc/default/xen'), '# mine\nXENCONSOLED_ARGS=\nXENSTORED=/usr/lib/shoal/shoal-stored\n');
    t.ok(host.said.some((line) => /next start/.test(line)));
    t.equal(await host.setUp({ store: true }), 0);
    const seen = execFileSync('sh', ['-c', '. "$0"; echo "$XENSTORED"', join(host.root, 'etc/default/xen')], { encoding: 'utf8' });
    t.equal(seen, '/usr/lib/shoal/shoal-stored\n', 'as the script reads it');
  }));

test('killed in the middle: another run does the rest', (t) =>
  withHost(async (host) => {
    const all = Object.keys((await host.setUp(), everything(host.root)));
    for (const lost of all.filter((name) => !/^(proc|sys)\//.test(name))) {
      rmSync(join(host.root, lost));
      writeFileSync(join(host.root, `${lost}.part`), 'half');
      await host.setUp();
      if (!existsSync(join(host.root, lost))) t.fail(`${lost} is there again`);
      rmSync(join(host.root, `${lost}.part`), { force: true });
    }
    t.deepEqual(Object.keys(everything(host.root)), all, 'all is there, and nothing else');
    t.equal(await host.setUp(), 0);
  }));

test('refused before anything is written', (t) =>
  withHost(async (host) => {
    const before = everything(host.root);
    const refused: [string, Partial<SetupOptions>, string][] = [
      ['an interface that is no bridge', { bridge: 'eth0' }, 'NETWORK_UNKNOWN'],
      ['no such bridge', { bridge: 'br9' }, 'NETWORK_UNKNOWN'],
      ['a way out of the folder', { bridge: '../br0' }, 'NETWORK_UNKNOWN'],
      ['a network that begins elsewhere', { range: { ...range, cidr: '10.64.3.0/16' } }, 'CONFIG_INVALID'],
      ['no prefix', { range: { ...range, cidr: '10.64.0.0' } }, 'CONFIG_INVALID'],
      ['a gateway outside', { range: { ...range, gateway: '10.65.0.1' } }, 'CONFIG_INVALID'],
      ['backwards', { range: { ...range, first: range.last, last: range.first } }, 'CONFIG_INVALID'],
      ['no address', { address: 'host.example' }, 'CONFIG_INVALID'],
      ['a program that was not built', { programs: { 'agent.cjs': '/nowhere/agent' } }, 'SETUP_FAILED'],
    ];
    for (const [what, more, code] of refused) t.equal(await codeOf(host.setUp(more)), code, what);
    host.put('proc/xen/capabilities', '\n');
    t.equal(await codeOf(host.setUp()), 'HYPERVISOR_UNAVAILABLE', 'a guest');
    rmSync(join(host.root, 'proc'), { recursive: true });
    t.equal(await codeOf(host.setUp()), 'HYPERVISOR_UNAVAILABLE', 'no Xen');
    t.deepEqual(Object.keys(everything(host.root)), Object.keys(before).filter((name) => !name.startsWith('proc/')), 'nothing was written');
  }));

test('the command: understood whole or refused, and nothing is built for a machine that is no dom0', (t) =>
  withHost(async (host) => {
    const shoal = async (...argv: string[]): Promise<{ code: number; err: string }> => {
      let err = '';
      const code = await command(['host', 'setup', ...argv], { stdout: { write: () => {} }, stderr: { write: (text) => (err += String(text)) }, env: {} });
      return { code, err };
    };
    for (const words of [[], ['--bridge', 'br0', '--cidr', '10.0.0.0/8'], ['--bridge', 'br0', '--guest-cpus', '3-1'], ['--bridge', 'br0', '--guest-cpus', 'x'], ['--bridge', 'br0', '--port', '0']])
      t.equal((await shoal('--root', host.root, ...words)).code, 2, words.join(' '));
    rmSync(join(host.root, 'proc'), { recursive: true });
    const { code, err } = await shoal('--root', host.root, '--bridge', 'br0');
    t.ok(code === 1 && /not dom0/.test(err) && /hint: .*real-host\.md/.test(err), err);
  }));

test("the lab's dom0 takes the same limits and configuration", (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-setup-'));
  const init = readFileSync(new URL('../../../src/lab/dom0/init', import.meta.url), 'utf8');
  const loop = /^while read[^]*?^done <\S+$/m.exec(init)![0].replaceAll('/proc/sys/', `${folder}/`).replace('/etc/sysctl.d/90-shoal.conf', `${folder}/conf`);
  writeFileSync(join(folder, 'conf'), sysctlText());
  for (const name of Object.keys(sysctls)) mkdirSync(dirname(join(folder, ...name.split('.'))), { recursive: true });
  execFileSync('sh', ['-c', loop]);
  for (const [name, value] of Object.entries(sysctls)) t.equal(readFileSync(join(folder, ...name.split('.')), 'utf8'), `${value}\n`, name);
  t.deepEqual(readdirSync(folder).sort(), ['conf', 'fs', 'kernel', 'net'], 'and nothing else');
  rmSync(folder, { recursive: true });
  t.deepEqual(parseAgentConfig(JSON.stringify(labConfig(3, 2))).guestCpus, [1]);
  t.deepEqual(parseAgentConfig(JSON.stringify(labConfig(3, 1))).guestCpus, [0], 'one processor is for all');
  t.end();
});
