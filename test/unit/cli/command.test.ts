/** The command against a real XenAPI server over TLS, with the simulator behind it: results, errors, exit codes. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { Client } from '../../../src/cli/client.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { image, imageBytes, codeOf } from '../host/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeServer, password, type ServerRig } from '../xenapi/rig.ts';
import { runCommand, type Outcome } from './run.ts';

type Shoal = (...argv: string[]) => Promise<Outcome>;

async function withHost(work: (shoal: Shoal, rig: ServerRig, folder: string) => Promise<void>): Promise<void> {
  const rig = await makeServer();
  const folder = mkdtempSync(join(tmpdir(), 'shoal-cli-'));
  writeFileSync(join(folder, 'ca.pem'), cert);
  writeFileSync(join(folder, 'password'), `${password}\n`);
  const env = { SHOAL_HOST: rig.url, SHOAL_CA: join(folder, 'ca.pem'), SHOAL_PASSWORD_FILE: join(folder, 'password') };
  try {
    await work((...argv) => runCommand(argv, env), rig, folder);
  } finally {
    await rig.close();
    rmSync(folder, { recursive: true });
  }
}

test('a VM from its making to its end', (t) =>
  withHost(async (shoal, rig, folder) => {
    writeFileSync(join(folder, 'kernel.elf'), imageBytes);
    const made = await shoal(
      'vm',
      'create',
      'web',
      '--image',
      join(folder, 'kernel.elf'),
      '--memory-kib',
      '2048',
      '--args',
      'a=1',
      '--json',
    );
    t.equal(made.code, 0, made.err);
    t.equal(made.json[0].name, 'web');
    t.deepEqual(
      (await shoal('vm', 'list', '--json')).json.map((vm: any) => [vm.name, vm.state, vm.memoryKib, vm.image, vm.addresses]),
      [['web', 'running', 2048, image, [made.json[0].ip]]],
    );
    t.match(
      (await shoal('vm', 'list')).out,
      /^NAME +STATE +DOMAIN +MEMORY +ADDRESS +IMAGE\nweb +running +1 +2 MiB +10\.64\.\d+\.\d+ +sha256:[0-9a-f]{12}\n$/,
    );
    const shown = (await shoal('vm', 'show', 'web', '--json')).json;
    t.deepEqual([shown.args, shown.vifs.length, shown.vifs[0].network, shown.uuid], ['a=1', 1, 'default', made.json[0].uuid]);
    t.equal((await shoal('vm', 'pause', 'web')).out, '1 VM paused\n');
    t.equal((await shoal('vm', 'list', '--state', 'paused', '--json')).json.length, 1);
    t.equal((await shoal('vm', 'unpause', 'web')).code, 0);
    t.equal((await shoal('vm', 'stop', 'web', '--force')).code, 0);
    t.equal((await shoal('vm', 'list', '--json')).json[0].state, 'halted');
    t.equal((await shoal('vm', 'start', made.json[0].uuid)).code, 0, 'by its uuid');
    t.deepEqual((await shoal('vm', 'destroy', 'web', '--json')).json, { done: 1, failed: [] });
    t.equal(rig.agent.fleet.size, 0, 'the agent has none left');
  }));

test('many VMs at once', (t) =>
  withHost(async (shoal, rig) => {
    const made = await shoal('vm', 'create', 'fish', '--count', '12', '--first', '3', '--json');
    t.deepEqual(
      made.json
        .map((vm: any) => vm.name)
        .sort()
        .slice(0, 2),
      ['fish-10', 'fish-11'],
    );
    t.deepEqual(
      (await shoal('vm', 'list')).out
        .trim()
        .split('\n')
        .slice(1, 3)
        .map((line) => line.split(' ')[0]),
      ['fish-3', 'fish-4'],
      'listed by number',
    );
    const names = made.json.map((vm: any) => vm.name);
    t.equal((await shoal('vm', 'pause', ...names)).out, '12 VMs paused\n', 'more names than are looked up one by one');
    t.equal((await shoal('vm', 'stop', '--all', '--force')).out, '12 VMs stopped\n');
    t.equal((await shoal('vm', 'destroy', '--all')).out, '12 VMs destroyed\n');
    t.equal(rig.agent.fleet.size, 0);
  }));

test('a halted VM is defined with its device and its address', (t) =>
  withHost(async (shoal, rig) => {
    const made = await shoal('vm', 'create', 'web', '--halted', '--ip', '10.64.9.9', '--json');
    t.equal(made.code, 0, made.err);
    t.deepEqual(
      (await shoal('vm', 'list', '--json')).json.map((vm: any) => [vm.state, vm.addresses]),
      [['halted', ['10.64.9.9']]],
    );
    const taken = await shoal('vm', 'create', 'two', '--halted', '--ip', '10.64.9.9', '--json');
    t.deepEqual([taken.code, taken.json.error.code], [1, 'ADDRESS_IN_USE']);
    t.equal(rig.agent.fleet.size, 1, 'what could not be finished is taken back');
    t.deepEqual(
      (await shoal('vm', 'create', 'three', '--halted', '--network', 'nope', '--json')).json.error.code,
      'NETWORK_UNKNOWN',
    );
  }));

test('images are uploaded once, listed, and removed when nothing uses them', (t) =>
  withHost(async (shoal, rig, folder) => {
    const file = join(folder, 'kernel.elf');
    writeFileSync(file, Buffer.concat([imageBytes, Buffer.from('another')]));
    const put = await shoal('image', 'put', file, '--json');
    t.deepEqual([put.code, put.json.sent], [0, true]);
    t.equal((await shoal('image', 'put', file, '--json')).json.sent, false, 'the second time nothing is sent');
    t.equal((await shoal('image', 'list', '--json')).json.length, 2);
    const which = await shoal('vm', 'create', 'web', '--json');
    t.deepEqual([which.code, which.json.error.code], [2, 'USAGE'], 'of two images one must be named');
    t.equal((await shoal('vm', 'create', 'web', '--image', put.json.digest.slice(7, 19))).code, 0, 'by its beginning');
    const used = await shoal('image', 'remove', put.json.digest, '--json');
    t.deepEqual([used.code, used.json.error.code, used.json.error.data.vms], [1, 'OPERATION_NOT_ALLOWED', 1]);
    t.equal((await shoal('vm', 'destroy', 'web')).code, 0);
    t.equal((await shoal('image', 'remove', put.json.digest)).code, 0);
    t.equal(rig.agent.images.list().length, 1);
    writeFileSync(file, 'no kernel');
    t.equal((await shoal('image', 'put', file, '--json')).json.error.code, 'IMAGE_NOT_ELF');
    t.equal((await shoal('image', 'put', join(folder, 'none'), '--json')).code, 2, 'a file that is not there');
  }));

test('console, host and networks', (t) =>
  withHost(async (shoal) => {
    await shoal('vm', 'create', 'web');
    const console = await shoal('vm', 'console', 'web', '--json');
    t.deepEqual([console.code, console.json.live], [0, true]);
    t.equal((await shoal('vm', 'console', 'web', '--send', 'hello')).code, 0);
    const host = (await shoal('host', 'show', '--json')).json;
    t.deepEqual([host.vms, host.domains > 0, host.freeKib < host.totalKib], [1, true, true]);
    t.deepEqual(
      (await shoal('network', 'list', '--json')).json.map((n: any) => [n.name, n.bridge, n.first]),
      [['default', 'xenbr0', '10.64.1.0']],
    );
  }));

test('failures: one line, one hint, the right exit code', (t) =>
  withHost(async (shoal) => {
    const none = await shoal('vm', 'show', 'wbe');
    t.deepEqual([none.code, none.out], [1, '']);
    t.equal(none.err, 'error: There is no VM "wbe".\nhint: See `shoal vm list`.\n');
    await shoal('vm', 'create', 'web');
    t.match((await shoal('vm', 'show', 'wbe')).err, /hint: Did you mean web\?/);
    const twice = await shoal('vm', 'create', 'web', '--json');
    t.deepEqual([twice.code, twice.json.error.code], [1, 'NAME_IN_USE']);
    const mixed = await shoal('vm', 'pause', 'web', 'web', '--json');
    t.deepEqual([mixed.code, mixed.json.done], [0, 1], 'a name given twice counts once');
    const again = await shoal('vm', 'pause', 'web', '--json');
    t.deepEqual(
      [again.code, again.json.done, again.json.failed[0].name, again.json.failed[0].error.code],
      [1, 0, 'web', 'VM_BAD_POWER_STATE'],
    );
    t.equal((await shoal('vm', 'stop')).code, 2, 'no names');
    t.equal((await shoal('vm', 'stop', 'web', '--all')).code, 2, 'names and --all');
    t.equal((await shoal('vm', 'list', '--josn')).code, 2, 'an option that is none');
    t.equal((await shoal('events', 'vms')).code, 2, 'a class that is none');
  }));

test('a launch that stops half-way lists what was started, and says what was not', (t) =>
  withHost(async (shoal, rig) => {
    rig.sim.failStep('build', new ShoalError('HOST_NOT_ENOUGH_FREE_MEMORY', 'none left'), { skip: 2, times: 2 });
    const made = await shoal('vm', 'create', 'fish', '--count', '4', '--json');
    t.equal(made.code, 1);
    t.equal(made.json.error.code, 'LAUNCH_INCOMPLETE');
    t.equal(made.json.vms.length, 2);
    t.deepEqual(made.json.error.data.notStarted.length, 2);
    t.deepEqual(
      (await shoal('vm', 'list', '--json')).json.map((vm: any) => vm.name).sort(),
      made.json.vms.map((vm: any) => vm.name).sort(),
    );
  }));

test('the certificate is always verified, and what went wrong is told apart', async (t) => {
  const rig = await makeServer();
  const folder = mkdtempSync(join(tmpdir(), 'shoal-cli-'));
  const [ca, wrongPassword] = [join(folder, 'ca.pem'), join(folder, 'password')];
  writeFileSync(ca, cert);
  writeFileSync(wrongPassword, 'wrong');
  const code = (options: Partial<ConstructorParameters<typeof Client>[0]>) => {
    const client = new Client({ url: rig.url, ca: cert, password, timeoutMs: 3_000, ...options });
    return codeOf(client.call('VM.get_all')).finally(() => client.close());
  };
  // A port that takes connections and never answers.
  const mute = createServer();
  await new Promise<void>((done) => mute.listen(0, '127.0.0.1', done));
  const mutePort = (mute.address() as AddressInfo).port;
  try {
    t.equal(await code({}), 'none');
    t.equal(await code({ password: 'wrong' }), 'SESSION_AUTHENTICATION_FAILED');
    t.equal(await code({ ca: otherCertificate }), 'CERTIFICATE_MISMATCH', 'not signed by what was given');
    t.equal(
      await code({ url: rig.url.replace('127.0.0.1', '[::ffff:127.0.0.1]') }),
      'none',
      'the very certificate is right under any name',
    );
    t.equal(await code({ url: 'https://127.0.0.1:1' }), 'CONNECTION_FAILED', 'nothing listens');
    t.equal(await code({ url: `https://127.0.0.1:${mutePort}`, timeoutMs: 300 }), 'TIMEOUT');
    t.throws(
      () => new Client({ url: 'http://127.0.0.1', ca: cert, password }),
      /no address of a host agent/,
      'never without TLS',
    );
    const missing = await runCommand(['vm', 'list', '--host', rig.url, '--json']);
    t.deepEqual([missing.code, missing.json.error.code], [2, 'USAGE'], 'a host without its certificate');
    const refused = await runCommand(['vm', 'list', '--host', rig.url, '--ca', ca, '--password-file', wrongPassword, '--json']);
    t.deepEqual([refused.code, refused.json.error.code], [1, 'SESSION_AUTHENTICATION_FAILED']);
  } finally {
    mute.close();
    await rig.close();
    rmSync(folder, { recursive: true });
  }
});

test('help: an overview, a group, a verb', async (t) => {
  t.match((await runCommand([])).out, /vm create NAME/);
  t.match((await runCommand(['--help'])).out, /vm create NAME/);
  t.match((await runCommand(['help', 'vm'])).out, /^vm create NAME/);
  const verb = await runCommand(['vm', 'create', '--help']);
  t.match(verb.out, /--memory-kib N/);
  t.equal((await runCommand(['help', 'vm', 'create'])).out, verb.out, 'the same text both ways');
  t.equal((await runCommand(['help', 'nothing'])).code, 2);
  t.ok((await runCommand(['help', '--json'])).json.length > 10);
});

/** Self-signed for another host, and its key thrown away. */
const otherCertificate = `-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUPrB7y5F7QIj5AhdXjNz1zuHPawkwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMDE0NTgyMVoYDzIxMjYxMDI3
MTQ1ODIxWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARmQI+ErR5ncGmoHqSifrBuz1TyBeGnsqrjBPhkBzm7z1Rfp8KAaZUf
5UGThv6Ho5gFyB957HfFWzfZxLvr43mEo1MwUTAdBgNVHQ4EFgQUVemfmjsSTYsi
O6L4AHbtN8DJm/YwHwYDVR0jBBgwFoAUVemfmjsSTYsiO6L4AHbtN8DJm/YwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAlfmp3cET/8OARzpeVg1O
lVhUW7X1KP6JBsluDwxKUhUCIEXGuM64pJ7QTrrgjdAFb1CdaTIGFzhZzBSJlkfY
sj4U
-----END CERTIFICATE-----
`;
