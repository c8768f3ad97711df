/** The verbs that stop VMs and let them go on, here, from a file and on another host, against real XenAPI servers with simulators behind them. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { command } from '../../../src/cli/main.ts';
import { image, until } from '../host/rig.ts';
import { cert, key } from '../xenapi/certificate.ts';
import { failureOf, makeServer, password, type ServerRig } from '../xenapi/rig.ts';

interface Said {
  code: number;
  out: string;
  err: string;
  json: any;
}

interface Place {
  rig: ServerRig;
  other: ServerRig;
  folder: string;
  uuid: string;
  shoal(...argv: string[]): Promise<Said>;
}

async function withVm(work: (place: Place) => Promise<void>): Promise<void> {
  const agent = { credentials: { cert, key }, migrationPatienceMs: 200 };
  const [rig, other] = [await makeServer({ agent }), await makeServer({ agent })];
  const folder = mkdtempSync(join(tmpdir(), 'shoal-cli-'));
  writeFileSync(join(folder, 'ca.pem'), cert);
  writeFileSync(join(folder, 'password'), password);
  const env = { SHOAL_HOST: rig.url, SHOAL_CA: join(folder, 'ca.pem'), SHOAL_PASSWORD_FILE: join(folder, 'password') };
  try {
    const { vms } = await rig.plugin('launch', { spec: JSON.stringify({ name: 'web', image, memoryKib: 4096 }) });
    rig.sim.writePage(vms[0].domid, 5, 'remember');
    const shoal: Place['shoal'] = async (...argv) => {
      const [stdout, stderr] = [0, 1].map(() => ({ text: '', write(piece: string) { this.text += piece; } })) as [{ text: string; write(p: string): void }, { text: string; write(p: string): void }];
      const code = await command([...argv, '--json'], { stdout, stderr, env });
      return { code, out: stdout.text, err: stderr.text, json: JSON.parse(stdout.text.trimEnd().split('\n').pop() ?? 'null') };
    };
    await work({ rig, other, folder, uuid: vms[0].uuid, shoal });
  } finally {
    await rig.close();
    await other.close();
    rmSync(folder, { recursive: true });
  }
}

const remembered = ({ sim, agent }: ServerRig, name: string): string => sim.page(agent.fleet.named(name)!.domid!, 5);

test('suspend, resume, checkpoint', (t) =>
  withVm(async ({ rig, shoal }) => {
    t.equal((await shoal('vm', 'suspend', 'web')).code, 0);
    t.equal((await shoal('vm', 'list')).json[0].state, 'suspended');
    const again = await shoal('vm', 'suspend', 'web');
    t.deepEqual([again.code, again.json.failed[0].error.code], [1, 'VM_BAD_POWER_STATE']);
    t.equal((await shoal('vm', 'resume', 'web')).code, 0);
    t.equal(remembered(rig, 'web'), 'remember');
    t.equal((await shoal('vm', 'checkpoint', 'web', 'web-then')).code, 0);
    t.equal((await shoal('vm', 'resume', 'web-then')).code, 0);
    t.equal(remembered(rig, 'web-then'), 'remember');
  }));

test('save and restore: a file that is whole or not there', (t) =>
  withVm(async ({ rig, other, folder, uuid, shoal }) => {
    const file = join(folder, 'web.svm');
    t.equal((await shoal('vm', 'save', 'web', file)).code, 0);
    t.equal(readFileSync(file).toString('latin1', 0, 8), 'SHOALSVM');
    t.equal(rig.agent.fleet.need(uuid).power, 'Running', 'it goes on');
    t.equal((await shoal('vm', 'restore', file)).json.error.code, 'NAME_IN_USE');
    t.equal((await shoal('vm', 'restore', file, '--name', 'web-2')).code, 0);
    t.equal(remembered(rig, 'web-2'), 'remember');
    t.equal((await shoal('vm', 'restore', file, '--host', other.url, '--paused')).code, 0);
    t.equal(other.agent.fleet.need(uuid).power, 'Paused', 'on another host it is the same VM');
    t.equal((await shoal('vm', 'save', 'web', file, '--stop')).code, 0);
    t.equal(rig.agent.fleet.get(uuid), undefined, 'with --stop it is in the file only');
    truncateSync(file, readFileSync(file).length - 1);
    t.equal((await shoal('vm', 'restore', file)).json.error.code, 'SAVED_VM_INVALID');
    t.equal((await shoal('vm', 'save', 'nobody', join(folder, 'x.svm'))).code, 1);
    t.deepEqual(readdirSync(folder).filter((name) => name.includes('.svm')), ['web.svm'], 'no part of a file is left');
  }));

test('bytes of VMs are for those who are logged in', (t) =>
  withVm(async ({ rig, uuid }) => {
    t.equal((await rig.http('GET', `/saved-vm?uuid=${uuid}`)).status, 401);
    t.equal((await rig.http('PUT', '/saved-vm?session_id=OpaqueRef:x', 'SHOALSVM')).status, 401);
    const session = (await rig.call('session.login_with_password', 'root', password)) as string;
    t.equal((await rig.http('PUT', `/saved-vm?session_id=${session}`, 'something else altogether')).status, 422);
    t.equal((await rig.http('DELETE', `/saved-vm?session_id=${session}`)).status, 400);
    t.equal((await rig.http('GET', '/migration', undefined, { connection: 'Upgrade', upgrade: 'shoal-migration' })).status, 403, 'and migrations for agents with a certificate');
    t.equal((await rig.http('GET', '/elsewhere', undefined, { connection: 'Upgrade', upgrade: 'shoal-migration' })).status, 404);
  }));

test('migrate: to another host, planned before, by XenAPI too', (t) =>
  withVm(async ({ rig, other, uuid, shoal }) => {
    const plan = await shoal('vm', 'migrate', 'web', '--to', other.url, '--plan');
    t.deepEqual([plan.code, plan.json.advice, plan.json.migrations], [0, 'migrate', 0]);
    t.deepEqual(plan.json.addresses, [{ address: '10.64.1.0', network: 'default', kept: true, why: 'the target is in the same subnet' }]);
    t.ok(plan.json.rttMs > 0 && plan.json.totalMs >= plan.json.downtimeMs);
    t.equal((await shoal('vm', 'migrate', 'web', '--to', other.url, '--plan', '--rtt-ms', '2000')).json.advice, 'start-afresh');
    const elsewhere = await shoal('vm', 'migrate', 'web', '--to', other.url, '--plan', '--ip', '10.64.9.9');
    t.deepEqual(elsewhere.json.addresses.map(({ kept, why }: { kept: boolean; why: string }) => [kept, why]), [[false, 'it is to have 10.64.9.9 there']]);
    t.equal(rig.agent.fleet.need(uuid).power, 'Running', 'a plan moves nothing');
    const moved = await shoal('vm', 'migrate', 'web', '--to', other.url, '--live');
    t.equal(moved.code, 0, moved.err);
    t.deepEqual([rig.agent.fleet.size, remembered(other, 'web')], [0, 'remember']);
    await until(() => other.agent.runner.lanes.busy === 0, 'settled there');
    const dest = await rig.as('host.migrate_receive', rig.api.refs.host, '', { fingerprint: other.agent.arrivals.fingerprint!, url: rig.url });
    const [vm] = (await other.as('VM.get_by_name_label', 'web')) as string[];
    await other.as('VM.migrate_send', vm, dest, false, {}, {}, {});
    t.equal(remembered(rig, 'web'), 'remember', 'and back by migrate_send');
    t.equal((await failureOf(rig.as('VM.migrate_send', vm, dest, false, {}, {}, {})))[0], 'MIGRATION_REFUSED', 'an order is good once');
    t.equal((await failureOf(rig.as('VM.migrate_send', vm, {}, false, {}, {}, {})))[0], 'VALUE_NOT_SUPPORTED');
    t.equal((await shoal('vm', 'migrate', 'web', '--to', other.url, '--plan')).json.migrations, 1, 'it has learned');
    t.equal((await shoal('vm', 'migrate', 'web', '--resolve', 'here')).json.error.code, 'VM_BAD_POWER_STATE', 'nothing is in doubt');
    t.equal((await shoal('vm', 'migrate', 'web')).code, 2, 'where to?');
    const [neighbour] = await rig.plugin('neighbours', { urls: JSON.stringify([other.url]) });
    t.deepEqual([neighbour.url, neighbour.migrations], [other.url, 1]);
  }));

test('migrate: many at once; those that cannot stay, and are named', (t) =>
  withVm(async ({ rig, other, shoal }) => {
    for (let i = 1; i <= 11; i++) await rig.plugin('launch', { spec: JSON.stringify({ name: `n-${i}`, image, memoryKib: 4096 }) });
    const names = (): string[] => [...other.agent.fleet.all()].map(({ name }) => name).sort();
    const plans = await shoal('vm', 'migrate', 'web', 'n-1', '--to', other.url, '--plan');
    t.deepEqual(plans.json.plans.map(({ name }: { name: string }) => name).sort(), ['n-1', 'web']);
    for (const words of [['--all', '--ip', '10.64.1.9'], ['web', 'n-1', '--resolve', 'here'], ['web', '--all'], []])
      t.equal((await shoal('vm', 'migrate', ...words, '--to', other.url)).code, 2, words.join(' '));
    t.deepEqual([rig.agent.fleet.size, names()], [12, []], 'nothing of that moved one');
    t.equal((await shoal('vm', 'migrate', 'n-1', 'nobody', '--to', other.url)).json.error.code, 'HANDLE_INVALID');
    t.deepEqual(names(), [], 'a name that is nobody\'s: none moved');

    await rig.agent.definitions.setOtherConfig(rig.agent.fleet.named('n-3')!, { shoal_copy: 'x' });
    await shoal('vm', 'stop', 'n-5', '--force');
    const some = await shoal('vm', 'migrate', ...[1, 2, 3, 4, 5].map((i) => `n-${i}`), '--to', other.url);
    t.deepEqual([some.code, some.json.done, some.json.failed.map(({ name, error }: any) => `${name} ${error.code}`).sort()], [1, 3, ['n-3 MIGRATION_REFUSED', 'n-5 VM_BAD_POWER_STATE']]);
    t.deepEqual(names(), ['n-1', 'n-2', 'n-4']);
    t.ok(some.json.moved.every(({ uuid, downtimeMs, addresses }: any) => other.agent.fleet.get(uuid)?.power === 'Running' && downtimeMs > 0 && addresses.length === 1), 'each with its address there and how long it stood still');

    await shoal('vm', 'destroy', 'n-3', 'n-5');
    const all = await shoal('vm', 'migrate', '--all', '--live', '--to', other.url);
    t.deepEqual([all.code, all.json.done, rig.agent.fleet.size, names().length], [0, 7, 0, 10]);
    t.equal(remembered(other, 'web'), 'remember');
    const none = await shoal('vm', 'migrate', '--all', '--to', other.url);
    t.deepEqual([none.code, none.json.done], [0, 0], 'none left');
  }));

test("a VM of a fleet stays: its controller's ledger binds it", (t) =>
  withVm(async ({ rig, other, uuid, shoal }) => {
    await rig.agent.definitions.setOtherConfig(rig.agent.fleet.need(uuid), { shoal_copy: 'x' });
    t.equal((await shoal('vm', 'migrate', 'web', '--to', other.url)).json.error.code, 'MIGRATION_REFUSED');
    t.equal(rig.agent.fleet.need(uuid).power, 'Running');
  }));
