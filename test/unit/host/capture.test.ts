/** Captures: what a reader gets, and that nothing grows, stays or holds up when there is none. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { capturesMax, unreadMaxBytes } from '../../../src/host/capture.ts';
import { PcapStream } from '../../../src/host/pcap.ts';
import type { HostAgent } from '../../../src/host/agent.ts';
import type { Vm } from '../../../src/host/vm.ts';
import { codeOf, image, makeRig, until, type Rig } from './rig.ts';

const words = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);
const fileHeader = words(0xa1b23c4d, 0x00040002, 0, 0, 1514, 1);
const record = (bytes: Buffer): Buffer => Buffer.concat([words(1, 2, bytes.length, bytes.length), bytes]);
const lost = (n: number): Buffer => words(n, 0, 0, 0);

const never = new AbortController().signal;

async function running(rig: Rig, name: string, backend?: 'netback'): Promise<Vm> {
  const { vms } = await rig.agent.bulk.launch({ name, image, memoryKib: 4096, ...(backend === undefined ? {} : { backend }) }, never);
  return rig.agent.fleet.need(vms[0]!.uuid);
}

/** Reads until it ended, or until `enough` bytes came. */
async function readAll(agent: HostAgent, id: string, enough = Infinity): Promise<{ bytes: Buffer; frames: number; dropped: number; ended: boolean }> {
  const parts: Buffer[] = [];
  for (let bytes = 0; ; ) {
    const { data, ...counts } = await agent.captures.read(id, 1000);
    parts.push(data);
    bytes += data.length;
    if (counts.ended || bytes >= enough || (data.length === 0 && enough !== Infinity)) return { bytes: Buffer.concat(parts), ...counts };
  }
}

const frame = (n: number, length = 60): Buffer => Buffer.alloc(length, n);

test('a stream cut at any byte: the same records, losses taken out and counted', (t) => {
  const bytes = Buffer.concat([fileHeader, record(frame(1)), lost(7), record(frame(2, 100)), lost(9), record(frame(3))]);
  const expected = Buffer.concat([fileHeader, record(frame(1)), record(frame(2, 100)), record(frame(3))]);
  let wrong = 0;
  for (let cut = 0; cut <= bytes.length; cut++) {
    const stream = new PcapStream();
    const got = Buffer.concat([stream.push(bytes.subarray(0, cut)), stream.push(bytes.subarray(cut))]);
    if (!got.equals(expected) || stream.frames !== 3 || stream.lost !== 9) wrong++;
  }
  t.equal(wrong, 0);
  const cutShort = new PcapStream();
  t.deepEqual([cutShort.push(bytes.subarray(0, bytes.length - 1)).length, cutShort.frames], [expected.length - 76, 2], 'half a record is not given');
  t.throws(() => new PcapStream().push(Buffer.alloc(24)), /no pcap/, 'another file');
  t.throws(() => new PcapStream().push(Buffer.concat([fileHeader, words(0, 0, 5000, 5000)])), /no pcap/, 'a record that is too long');
  t.throws(() => new PcapStream().push(Buffer.concat([fileHeader, words(0, 0, 60, 10)])), /no pcap/, 'one that keeps more than there was');
  t.end();
});

test('frames arrive as a pcap file, until the end that is asked for', async (t) => {
  const rig = await makeRig();
  const vm = await running(rig, 'a');
  const id = await rig.agent.capture(vm, 0);
  t.deepEqual(readdirSync(join(rig.stateDir, 'run/captures')), [], 'the pipe has no name any more');
  rig.sim.frame(vm.domid!, 0, frame(1));
  const first = await readAll(rig.agent, id, 24 + 76);
  t.ok(first.bytes.equals(Buffer.concat([fileHeader, record(frame(1))])), 'the file header and the frame');
  t.deepEqual([first.frames, first.dropped, first.ended], [1, 0, false]);
  const waiting = rig.agent.captures.read(id, 4000);
  rig.sim.frame(vm.domid!, 0, frame(2));
  t.ok((await waiting).data.equals(record(frame(2))), 'one that is waited for');
  rig.sim.frame(vm.domid!, 0, frame(3));
  await rig.agent.captures.end(id);
  t.notOk(rig.sim.hasMirror(vm.domid!, 0), 'the switch has let go');
  const last = await readAll(rig.agent, id);
  t.ok(last.bytes.equals(record(frame(3))) && last.ended && last.frames === 3, 'what there was can still be read');
  t.equal(await codeOf(rig.agent.captures.read(id, 0)), 'HANDLE_INVALID', 'then it is forgotten');
  await until(() => rig.agent.captures.count === 0, 'its place');
  await rig.close();
});

test('it ends with its VM', async (t) => {
  const rig = await makeRig();
  const vm = await running(rig, 'a');
  const id = await rig.agent.capture(vm, 0);
  rig.sim.frame(vm.domid!, 0, frame(1));
  await rig.agent.bulk.destroy([vm.uuid], never);
  const { frames, ended } = await readAll(rig.agent, id);
  t.deepEqual([frames, ended], [1, true]);
  await rig.close();
});

for (const flood of [false, true])
  test(`a reader that is too slow loses whole frames, which are counted; what is kept is bounded${flood ? ', though it never becomes quiet' : ''}`, async (t) => {
    const rig = await makeRig();
    const vm = await running(rig, 'a');
    const id = await rig.agent.capture(vm, 0);
    let sent = 0;
    for (let n = 0; n < 8000; n++, sent++) {
      rig.sim.frame(vm.domid!, 0, frame(n & 255, 1000));
      if (n % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    const ending = rig.agent.captures.end(id);
    for (; flood && rig.sim.hasMirror(vm.domid!, 0); sent++) {
      rig.sim.frame(vm.domid!, 0, frame(1, 1000));
      if (sent % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await ending;
    const { bytes, frames, dropped, ended } = await readAll(rig.agent, id);
    t.ok(ended && frames > 1000 && frames < sent, `${frames} of ${sent} frames`);
    const unknown = sent - frames - dropped;
    // What is lost in the very last moment, with a pipe that is full, cannot be told any more.
    t.ok(dropped > 0 && unknown >= 0 && unknown <= (flood ? 500 : 0), `${dropped} were dropped, and ${unknown} more`);
    t.equal(bytes.length, 24 + frames * 1016, 'whole frames');
    t.ok(bytes.length < unreadMaxBytes + 17 * 64 * 1024 + 64 * 1024, `${bytes.length} bytes were kept`);
    await rig.close();
  });

test('one that nobody reads ends, and gives its place back', async (t) => {
  const rig = await makeRig({}, { capturePatienceMs: 30 });
  const vm = await running(rig, 'a');
  const id = await rig.agent.capture(vm, 0);
  const awake = setInterval(() => {}, 10);
  await until(() => !rig.sim.hasMirror(vm.domid!, 0) && rig.agent.captures.count === 0, 'its end');
  clearInterval(awake);
  t.equal(await codeOf(rig.agent.captures.read(id, 0)), 'HANDLE_INVALID');
  await rig.agent.captures.end(await rig.agent.capture(vm, 0));
  t.pass('another can begin');
  await rig.close();
});

test('a reader that waits is a reader', async (t) => {
  const rig = await makeRig({}, { capturePatienceMs: 20 });
  const vm = await running(rig, 'a');
  const id = await rig.agent.capture(vm, 0);
  await readAll(rig.agent, id, 24);
  const waiting = rig.agent.captures.read(id, 200);
  t.deepEqual([(await waiting).ended, rig.sim.hasMirror(vm.domid!, 0)], [false, true]);
  await rig.close();
});

test('refused: a halted VM, no such vif, netback, a second one, one too many', async (t) => {
  const rig = await makeRig();
  const vm = await running(rig, 'a');
  t.equal(await codeOf(rig.agent.capture(vm, 1)), 'VALUE_NOT_SUPPORTED', 'no such vif');
  t.equal(await codeOf(rig.agent.capture(await running(rig, 'n', 'netback'), 0)), 'VALUE_NOT_SUPPORTED', 'netback');
  t.equal(await codeOf(rig.agent.capture(await rig.agent.definitions.create({ name: 'h', image, memoryKib: 4096 }), 0)), 'VM_BAD_POWER_STATE');
  const both = await Promise.all([codeOf(rig.agent.capture(vm, 0)), codeOf(rig.agent.capture(vm, 0))]);
  t.deepEqual(both, ['none', 'OTHER_OPERATION_IN_PROGRESS'], 'two at once');
  for (let n = 1; n < capturesMax; n++) await rig.agent.capture(await running(rig, `v${n}`), 0);
  t.equal(await codeOf(rig.agent.capture(await running(rig, 'last'), 0)), 'HOST_LIMIT');
  t.equal(rig.agent.captures.count, capturesMax);
  t.deepEqual(readdirSync(join(rig.stateDir, 'run/captures')), [], 'no pipe is left');
  await rig.close();
});

test('after a kill: the pipes left behind go, and the mirror ends when nobody holds the other end', async (t) => {
  const rig = await makeRig();
  const vm = await running(rig, 'a');
  await rig.agent.capture(vm, 0);
  const domid = vm.domid!;
  const folder = join(rig.stateDir, 'run/captures');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'left-behind'), '');
  // As the kernel does for a process that was killed: its end of the pipe closes, and nobody tells the switch.
  const { mirrorVif } = rig.sim;
  rig.sim.mirrorVif = () => Promise.reject(new Error('killed'));
  await rig.agent.captures.close();
  await rig.crash();
  rig.sim.mirrorVif = mirrorVif;
  t.ok(rig.sim.hasMirror(domid, 0), 'the switch has not been told');
  t.notOk(readdirSync(join(rig.stateDir, 'run')).includes('captures'), 'nothing is left');
  rig.sim.frame(domid, 0, frame(1));
  t.notOk(rig.sim.hasMirror(domid, 0), 'no mirror');
  await rig.close();
});
