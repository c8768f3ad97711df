/** When a host is called, and with how much at once. */
import test from 'tape';
import { HostUnit } from '../../../src/control/host-unit.ts';
import type { AddressMove, HostLink, LinkListener } from '../../../src/control/port.ts';
import type { HostRecord } from '../../../src/control/state.ts';
import { FakeHost } from '../../../src/control/links/fake.ts';
import type { Uuid } from '../../../src/model/ids.ts';

const turns = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await new Promise((done) => setImmediate(done));
};

/** A host whose calls are written down, and the only clock a unit looks at. */
async function rig() {
  const realNow = performance.now.bind(performance);
  let nowMs = 1_000_000;
  performance.now = () => nowMs;
  const calls: string[] = [];
  let listener!: LinkListener;
  const link = {
    open: (it: LinkListener) => (listener = it),
    close: () => Promise.resolve(),
    lookAtHost: () => Promise.resolve(new FakeHost('h').facts()),
    moveAddress: (moves: AddressMove[]) => (calls.push(`moves ${moves.map(({ ip }) => ip).join(' ')}`), Promise.resolve([])),
    destroy: (uuids: Uuid[]) => (calls.push(`destroys ${uuids.length}`), Promise.resolve([])),
  } as unknown as HostLink;
  const nothing = () => undefined;
  const unit = new HostUnit({ name: 'h' } as HostRecord, link, () => nowMs, { picture: nothing, vm: nothing, gone: nothing, changed: nothing });
  unit.open();
  listener.picture(new FakeHost('h').facts(), []);
  const move = (ip: string) => unit.move({ moves: [{ ip } as AddressMove], done: nothing });
  await turns();
  return {
    unit,
    calls,
    move,
    destroy: () => unit.destroy('u' as Uuid, nothing),
    /** Waits for a call more, after so much time has passed on the unit's clock. */
    later: async (ms: number, expected: number) => {
      nowMs += ms;
      const until = realNow() + 10_000;
      while (calls.length < expected && realNow() < until) await new Promise((done) => setTimeout(done, 10));
    },
    end: async () => {
      await unit.close();
      performance.now = realNow;
    },
  };
}

test('the first call goes at once; what comes soon after it goes together, after a gap', async (t) => {
  const { calls, move, destroy, later, end } = await rig();
  move('a');
  await turns();
  t.deepEqual(calls, ['moves a'], 'nothing to wait for');
  move('b');
  await turns();
  move('c');
  await turns();
  t.deepEqual(calls, ['moves a'], 'two wait, though no call is under way');
  destroy();
  await turns();
  t.deepEqual(calls, ['moves a', 'destroys 1'], 'another kind does not wait for them');
  await later(100, 3);
  t.deepEqual(calls.slice(2), ['moves b c'], 'in one call');
  await later(100, 3);
  move('d');
  await turns();
  t.equal(calls[3], 'moves d', 'after a gap in which nothing came, at once again');
  await end();
});

test('a call that is full waits for nothing', async (t) => {
  const { calls, move, end } = await rig();
  move('first');
  await turns();
  for (let i = 0; i < 64; i++) move(`m${i}`);
  await turns();
  t.deepEqual(calls.map((call) => call.split(' ').length - 1), [1, 64]);
  await end();
});

test('of a host that has much to do the calls are few and large', async (t) => {
  const { unit, calls, move, later, end } = await rig();
  move('first');
  await turns();
  for (let i = 0; i < 20; i++) move(`m${i}`);
  await turns();
  await later(200, 1);
  await new Promise((done) => setTimeout(done, 250));
  t.equal(calls.length, 1, 'a gap of one that has little does not do');
  t.equal(unit.queued, 20);
  await later(700, 2);
  t.equal(calls[1]?.split(' ').length, 21, 'all in one');
  await end();
});
