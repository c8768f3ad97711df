/** A service grown copy by copy through a whole controller: what is measured, when the pinger is asked, what a failure leaves. */
import test from 'tape';
import { CopyWatch, growEach, type GrowOptions } from '../../../src/cli/demo/copies.ts';
import type { Boot } from '../../../src/cli/demo/measure.ts';
import { Control, type Event } from '../../../src/cli/control.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { makeApi, web, type ApiRig } from '../control/api-rig.ts';
import { cert } from '../xenapi/certificate.ts';

const service = 'acme/web';

interface Bench {
  rig: ApiRig;
  control: Control;
  boots: Boot[];
  /** What the pretended pinger was asked, and how many VMs ran on that host then. */
  asked: { host: string; address: string; vms: number }[];
  grow(from: number, to: number, more?: Partial<GrowOptions>): Promise<ShoalError | undefined>;
  wanted(): Promise<number>;
}

/** Hosts take `launchMs` for a VM; an address answers when it runs. */
async function withBench(work: (bench: Bench) => Promise<void>, launchMs = 20): Promise<void> {
  const rig = await makeApi();
  for (const host of rig.hosts.values()) host.launchMs = launchMs;
  const control = new Control(`https://127.0.0.1:${rig.controller.server.port}`, cert, rig.token);
  const watch = new CopyWatch(service);
  const boots: Boot[] = [];
  const asked: Bench['asked'] = [];
  const firstReply = async (name: string, address: string): Promise<bigint> => {
    const host = rig.hosts.get(name)!;
    asked.push({ host: name, address, vms: host.vms.size });
    for (let i = 0; i < 500; i++) {
      if ([...host.vms.values()].some((vm) => vm.addresses[0]?.ip === address)) return process.hrtime.bigint();
      await new Promise((next) => setTimeout(next, 2));
    }
    throw new ShoalError('TIMEOUT', `${address} did not answer`);
  };
  try {
    await rig.call('PUT', '/v1/services/acme/web', { ...web, count: 0 });
    await watch.follow(control);
    await work({
      rig,
      control,
      boots,
      asked,
      grow: (from, to, more) =>
        growEach(from, to, boots, { control, watch, service, firstReply, signal: new AbortController().signal, ...more }),
      wanted: async () => (await rig.call('GET', '/v1/services/acme/web')).body.spec.count,
    });
  } finally {
    watch.close();
    control.close();
    await rig.close();
  }
}

test('each copy is asked for alone, awaited where the controller placed it, and measured', (t) =>
  withBench(async ({ rig, boots, asked, grow, wanted }) => {
    t.equal(await grow(0, 4), undefined);
    t.equal(await grow(4, 6), undefined, 'and goes on from there');
    t.equal(boots.length, 6);
    t.deepEqual(boots.map(({ running }) => running), [0, 1, 2, 3, 4, 5]);
    t.ok(boots.every(({ ms, replyMs }) => ms !== undefined && ms >= 20 && replyMs >= 20), 'no less than the host takes');
    t.deepEqual(['a', 'b'].map((name) => boots.filter(({ host }) => host === name).length), [3, 3], 'spread');
    t.deepEqual(asked.map(({ address }) => address), boots.map(({ address }) => address));
    for (const [i, boot] of boots.entries()) {
      const before = boots.slice(0, i).filter(({ host }) => host === boot.host).length;
      t.equal(asked[i]!.vms, before, `the pinger waits for ${boot.name} before it runs`);
      t.ok(rig.hosts.get(boot.host!)!.named(boot.name) !== undefined, 'it is where it is said to be');
    }
    t.equal(await wanted(), 6);
  }));

test('a copy that finds no place ends the run with what runs, and no more is wanted', (t) =>
  withBench(async ({ rig, boots, grow, wanted }) => {
    for (const host of rig.hosts.values()) host.networks = host.networks.map((each) => ({ ...each, range: { ...each.range!, last: each.range!.first } }));
    await rig.controller.fleet.units.get('a')!.refresh();
    await rig.controller.fleet.units.get('b')!.refresh();
    const error = await grow(0, 4);
    t.equal(error?.code, 'UNPLACEABLE', error?.message);
    // .1.0 is the only address both hosts may give
    t.deepEqual([boots.length, await wanted()], [1, 1]);
  }));

test('a copy that does not come to run ends the run, with what the controller said of it', (t) =>
  withBench(async ({ rig, boots, grow, wanted }) => {
    t.equal(await grow(0, 2), undefined);
    for (const host of rig.hosts.values()) host.refuse = () => new ShoalError('VIF_FAILED', 'no more vifs');
    const error = await grow(2, 4, { shownMs: 300 });
    t.equal(error?.code, 'TIMEOUT');
    t.match(error?.message ?? '', /no more vifs/);
    t.deepEqual([boots.length, await wanted()], [2, 2]);
  }));

test('a host that refuses once is passed over: the copy that runs is the one that counts', (t) =>
  withBench(async ({ rig, boots, grow }) => {
    let refusals = 1;
    const refuse = () => (refusals-- > 0 ? new ShoalError('VIF_FAILED', 'not now') : undefined);
    for (const host of rig.hosts.values()) host.refuse = refuse;
    t.equal(await grow(0, 1), undefined);
    const [boot] = boots;
    t.ok(boot?.ms !== undefined && rig.hosts.get(boot.host!)!.named(boot.name) !== undefined);
  }));

test('a request that is refused, a VM that never answers, an interruption', (t) =>
  withBench(async ({ rig, boots, grow, wanted }) => {
    const silent = () => Promise.reject(new ShoalError('TIMEOUT', 'no answer'));
    t.equal(await grow(0, 2, { firstReply: silent }), undefined, 'silence is counted, and ends nothing');
    t.deepEqual(boots.map(({ ms }) => ms), [undefined, undefined]);
    const ended = () => Promise.reject(new ShoalError('LAB_FAILED', 'the pinger ended'));
    t.equal((await grow(2, 8, { firstReply: ended }))?.code, 'LAB_FAILED', 'a pinger that ended ends the run');
    t.ok(boots.length < 8, `after ${boots.length}`);
    const stop = new AbortController();
    const before = boots.length;
    await grow(before, before + 5, { signal: stop.signal, onChange: () => stop.abort() });
    t.equal(boots.length, before + 1, 'interrupted after the one under way');
    t.equal(await wanted(), before + 1);
    await rig.call('PUT', '/v1/quotas/acme', { vms: boots.length });
    t.equal((await grow(boots.length, boots.length + 1))?.code, 'QUOTA_EXCEEDED');
  }));

test('only what is told of the service counts', (t) => {
  const watch = new CopyWatch(service);
  const put = (key: string, data: object, kind = 'vm'): Event => ({ id: '1', kind, data: { op: 'put', key, data: { ...data } } });
  const vm = { name: 'x', tenant: 'acme', service: 'web', slot: 3, host: 'a', addresses: ['10.64.1.1'], state: 'running', ready: true };
  watch.see(put('y', { ...vm, name: 'y', service: 'other' }));
  watch.see(put('z', { name: 'z', host: 'a', addresses: [] }));
  t.deepEqual(watch.of(3), [], 'not of another service, not of nobody');
  watch.see(put('x', vm));
  t.equal(watch.of(3)[0]!.address, '10.64.1.1');
  watch.see(put('acme/web/3', { service, slot: 3, text: 'no place: full' }, 'note'));
  t.equal(watch.noteOf(3), 'no place: full');
  watch.see({ id: '2', kind: 'vm', data: { op: 'del', key: 'x' } });
  t.deepEqual(watch.of(3), [], 'gone');
  t.end();
});
