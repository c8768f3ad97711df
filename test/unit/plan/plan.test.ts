/** The planner, case by case, and as a game against a world that loses hosts and copies: it always ends in what is wanted. */
import test from 'tape';
import { compareCopies } from '../../../src/plan/keep.ts';
import { afterFailure, backoffMs } from '../../../src/plan/backoff.ts';
import { planService } from '../../../src/plan/plan.ts';
import { copy, graceMs, hosts, memories, now, shown, specOf, wantedOf, World } from './world.ts';

interface Case {
  what: string;
  /** undefined: the service is to be no more. */
  spec: object | undefined;
  copies: string[];
  hosts?: string;
  memory?: string;
  steps: string[];
  lookIn?: number;
}

const two = { count: 2 };
const listed = { count: 1, networks: [{ name: 'default', addresses: { from: 'list', list: ['10.0.0.9'] } }] };

const cases: Case[] = [
  { what: 'nothing there: create all', spec: { count: 3 }, copies: [], steps: ['create 0', 'create 1', 'create 2'] },
  { what: 'all there: nothing', spec: two, copies: ['0#1 a running', '1#2 b running'], steps: [] },
  { what: 'on its way: wait', spec: two, copies: ['0#1 a asked', '1#2 b busy'], steps: [] },
  {
    what: 'scaled down: the highest slots go',
    spec: { count: 1 },
    copies: ['0#1 a running', '1#2 b running', '2#3 a asked'],
    steps: ['destroy #2 unwanted', 'destroy #3 unwanted'],
  },
  {
    what: 'deleted: all go',
    spec: undefined,
    copies: ['0#1 a running', '1#2 b halted'],
    steps: ['destroy #1 unwanted', 'destroy #2 unwanted'],
  },
  { what: 'deleted, host away: later', spec: undefined, copies: ['0#1 a running'], hosts: 'a:away:999999', steps: [] },
  // dying
  {
    what: 'died for the first time, remembered: wait firstMs',
    spec: {},
    copies: ['0#1 a halted'],
    memory: '0:1:400:a',
    steps: [],
    lookIn: 600,
  },
  { what: 'died, waited: start it where it is', spec: {}, copies: ['0#1 a halted'], memory: '0:1:1000:a', steps: ['start #1'] },
  { what: 'died twice: waits twice as long', spec: {}, copies: ['0#1 a halted'], memory: '0:2:1000:a', steps: [], lookIn: 1000 },
  {
    what: 'died three times on one host: made elsewhere',
    spec: {},
    copies: ['0#1 a halted'],
    memory: '0:3:0:a',
    steps: ['destroy #1 failed'],
  },
  {
    what: '… and there it avoids that host, after its back-off',
    spec: {},
    copies: [],
    memory: '0:3:4000:a',
    steps: ['create 0 not a'],
  },
  { what: '… but not with listed addresses', spec: listed, copies: ['0#1 a halted'], memory: '0:3:4000:a', steps: ['start #1'] },
  {
    what: 'health says dead: restart with back-off',
    spec: {},
    copies: ['0#1 a failed'],
    memory: '0:1:1000:a',
    steps: ['restart #1'],
  },
  { what: 'a copy that could not be made: wait', spec: {}, copies: [], memory: '0:1:100:a', steps: [], lookIn: 900 },
  { what: 'paused by someone: said, and goes on', spec: {}, copies: ['0#1 a paused'], steps: ['note 0', 'start #1'] },
  // hosts that vanish
  {
    what: 'host away within grace: wait',
    spec: {},
    copies: ['0#1 a running'],
    hosts: 'a:away:10000 b',
    steps: [],
    lookIn: 20_000,
  },
  {
    what: 'host away beyond grace: elsewhere',
    spec: {},
    copies: ['0#1 a running'],
    hosts: 'a:away:30000 b',
    steps: ['create 0'],
  },
  {
    what: 'listed address on a host that is away: never twice',
    spec: listed,
    copies: ['0#1 a running'],
    hosts: 'a:away:99999 b',
    steps: ['note 0'],
  },
  {
    what: 'listed address on a host said to be dead: moved',
    spec: listed,
    copies: ['0#1 a running'],
    hosts: 'a:dead:99999 b',
    steps: ['create 0'],
  },
  { what: 'dead: no grace either', spec: {}, copies: ['0#1 a running'], hosts: 'a:dead:1 b', steps: ['create 0'] },
  {
    what: 'replaced while away: nothing more',
    spec: {},
    copies: ['0#1 a running', '0#2 b running'],
    hosts: 'a:away:99999 b',
    steps: [],
  },
  {
    what: 'back with its copy: the younger is kept',
    spec: {},
    copies: ['0#1 a running', '0#2 b running'],
    steps: ['destroy #1 double'],
  },
  { what: 'back while the other only starts: both, for now', spec: {}, copies: ['0#1 a running', '0#2 b asked'], steps: [] },
  {
    what: 'back while the other failed: the older is kept',
    spec: {},
    copies: ['0#1 a running', '0#2 b halted'],
    steps: ['destroy #2 failed'],
  },
  {
    what: 'two that do not answer yet: neither goes',
    spec: {},
    copies: ['0#1 a running r2 unready', '0#2 b running r2 unready'],
    steps: [],
  },
  // updates
  { what: 'outdated: new one first', spec: {}, copies: ['0#1 a running r1'], steps: ['create 0 for #1'] },
  { what: 'outdated, new one starts: wait', spec: {}, copies: ['0#1 a running r1', '0#2 a busy'], steps: [] },
  {
    what: 'outdated, new one does not answer yet: wait',
    spec: {},
    copies: ['0#1 a running r1', '0#2 a running r2 unready'],
    steps: [],
  },
  {
    what: 'outdated, new one answers: old one goes',
    spec: {},
    copies: ['0#1 a running r1', '0#2 a running'],
    steps: ['destroy #1 outdated'],
  },
  {
    what: 'outdated, new one died: it goes, the old stays',
    spec: {},
    copies: ['0#1 a running r1', '0#2 a halted'],
    memory: '0:1:0:a',
    steps: ['destroy #2 failed'],
    lookIn: 1000,
  },
  { what: 'stop-first', spec: { update: { order: 'stop-first' } }, copies: ['0#1 a running r1'], steps: ['destroy #1 outdated'] },
  {
    what: 'listed addresses stop first whatever is asked',
    spec: listed,
    copies: ['0#1 a running r1'],
    steps: ['destroy #1 outdated'],
  },
  {
    what: 'one at a time',
    spec: { count: 3 },
    copies: ['0#1 a running r1', '1#2 a running r1', '2#3 a running r1'],
    steps: ['create 0 for #1'],
  },
  {
    what: 'two at a time',
    spec: { count: 3, update: { maxAtOnce: 2 } },
    copies: ['0#1 a running r1', '1#2 a running r1', '2#3 a running r1'],
    steps: ['create 0 for #1', 'create 1 for #2'],
  },
  {
    what: 'the next only when the one before answers',
    spec: two,
    copies: ['0#4 a running r2 unready', '1#2 a running r1'],
    steps: [],
  },
  {
    what: 'a bad release stops at the first',
    spec: two,
    copies: ['0#4 a halted', '0#1 a running r1', '1#2 a running r1'],
    memory: '0:1:5000:a',
    steps: ['destroy #4 failed', 'create 0 for #1 not a'],
  },
  {
    what: 'outdated and dead: no throttle',
    spec: two,
    copies: ['0#1 a halted r1', '1#2 a halted r1'],
    steps: ['destroy #1 outdated', 'destroy #2 outdated'],
  },
  // drain
  {
    what: 'drained: moved, new one first',
    spec: {},
    copies: ['0#1 a running'],
    hosts: 'a:drained b',
    steps: ['create 0 for #1'],
  },
  {
    what: 'drained and moved: old one goes',
    spec: {},
    copies: ['0#1 a running', '0#2 b running'],
    hosts: 'a:drained b',
    steps: ['destroy #1 drained'],
  },
  {
    what: 'drained and dead: not started there again',
    spec: {},
    copies: ['0#1 a halted'],
    hosts: 'a:drained b',
    steps: ['destroy #1 drained'],
  },
];

test('the planner, case by case', (t) => {
  for (const { what, spec, copies, hosts: words, memory, steps, lookIn } of cases) {
    const plan = planService(
      spec === undefined ? undefined : wantedOf(spec),
      { copies: copies.map(copy), host: hosts(words ?? 'a b'), memory: memories(memory ?? '99:0:0') },
      now,
      { graceMs },
    );
    t.deepEqual(shown(plan), steps, what);
    t.equal(plan.lookAgainAtMs, lookIn === undefined ? undefined : now + lookIn, `${what}: looks again`);
    // The order in which copies are told of changes nothing.
    const turned = planService(
      spec === undefined ? undefined : wantedOf(spec),
      { copies: copies.map(copy).reverse(), host: hosts(words ?? 'a b'), memory: memories(memory ?? '99:0:0') },
      now,
      { graceMs },
    );
    t.deepEqual(shown(turned).sort(), [...steps].sort(), `${what}: in any order`);
  }
  t.end();
});

test('which copy stays is a total order', (t) => {
  const all = [
    '0#1 a running',
    '0#2 b running',
    '0#3 a running r1',
    '0#4 a halted',
    '0#5 a failed',
    '0#6 a asked',
    '0#7 d running',
    '0#8 a running r2 unready',
    '0#9 a paused',
  ].map(copy);
  const standing = {
    current: (c: { id: { revision: string } }) => c.id.revision === 'r2',
    settled: (c: { host: string }) => c.host !== 'd',
  };
  let wrong = 0;
  for (const a of all) {
    if (compareCopies(a, a, standing) !== 0) wrong++;
    for (const b of all) {
      if (a !== b && compareCopies(a, b, standing) === 0) wrong++;
      if (Math.sign(compareCopies(a, b, standing)) !== -Math.sign(compareCopies(b, a, standing))) wrong++;
      for (const c of all)
        if (compareCopies(a, b, standing) < 0 && compareCopies(b, c, standing) < 0 && compareCopies(a, c, standing) >= 0) wrong++;
    }
  }
  t.equal(wrong, 0);
  t.deepEqual(
    [...all].sort((a, b) => compareCopies(a, b, standing)).map((c) => c.id.serial),
    [2, 1, 7, 3, 8, 6, 9, 4, 5],
  );
  t.end();
});

test('back-off doubles to its bound, and a good run makes good', (t) => {
  const { restart } = specOf();
  t.deepEqual(
    [0, 1, 2, 3, 7, 500].map((n) => backoffMs(restart, n)),
    [0, 1000, 2000, 4000, 60_000, 60_000],
  );
  const once = afterFailure(restart, undefined, now, 0, 'a');
  t.equal(afterFailure(restart, once, now, 10, 'a').failures, 2);
  t.equal(afterFailure(restart, once, now, restart.resetAfterMs, 'a').failures, 1);
  t.end();
});

/** A small generator of numbers that always gives the same ones. */
function dice(seed: number): (sides: number) => number {
  let state = seed >>> 0;
  return (sides) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
}

test('against a world that loses hosts and copies: always what is wanted in the end, with no more than one copy a slot', (t) => {
  let rounds = 0;
  for (let seed = 1; seed <= 150; seed++) {
    const roll = dice(seed);
    const world = new World('a b c d');
    let wanted = wantedOf({ count: 6 }, 'r1');
    for (let i = 0; i < 60; i++) {
      world.nowMs += roll(20_000);
      const names = Object.keys(world.hosts);
      const host = world.hosts[names[roll(4)]!]!;
      switch (roll(8)) {
        case 0:
          Object.assign(host, { state: 'away', awaySinceMs: world.nowMs });
          break;
        case 1:
          host.state = 'up';
          break;
        case 2:
          host.drained = roll(2) === 0 && names.filter((n) => world.hosts[n]!.drained).length < 2;
          break;
        case 3: {
          const c = world.copies[roll(Math.max(1, world.copies.length))];
          if (c?.state === 'running' && world.hosts[c.host]!.state === 'up') world.become(c, roll(2) === 0 ? 'halted' : 'failed');
          break;
        }
        case 4:
          wanted = wantedOf({ count: roll(9), update: { order: roll(2) === 0 ? 'start-first' : 'stop-first' } }, `r${roll(3)}`);
          break;
        default:
          world.finish();
      }
      world.do(planService(wanted, world.observed, world.nowMs, { graceMs }), wanted);
    }
    for (const host of Object.values(world.hosts)) Object.assign(host, { state: 'up', drained: false });
    for (let i = 0; i < 100; i++) {
      world.nowMs += 70_000;
      world.do(planService(wanted, world.observed, world.nowMs, { graceMs }), wanted);
      world.finish();
      rounds++;
    }
    const end = planService(wanted, world.observed, world.nowMs, { graceMs });
    const slots = world.copies.map((c) => c.id.slot).sort((a, b) => a - b);
    const right =
      end.steps.length === 0 &&
      end.counts.ready === wanted.spec.count &&
      JSON.stringify(slots) === JSON.stringify(Array.from({ length: wanted.spec.count }, (_, i) => i)) &&
      world.copies.every((c) => c.id.revision === wanted.revision);
    if (!right) t.fail(`seed ${seed}: ${JSON.stringify(shown(end))}, slots ${slots.join(' ')}`);
  }
  t.ok(rounds > 0, 'all worlds came to rest');
  t.end();
});

test('an update never takes more copies away than it may', (t) => {
  for (const order of ['start-first', 'stop-first']) {
    const world = new World('a b c');
    let wanted = wantedOf({ count: 10, update: { maxAtOnce: 2, order } }, 'r1');
    for (let i = 0; i < 3; i++) (world.do(planService(wanted, world.observed, world.nowMs, { graceMs }), wanted), world.finish());
    wanted = { ...wanted, revision: 'r2' };
    let [least, rounds] = [10, 0];
    for (; rounds < 100; rounds++) {
      const plan = planService(wanted, world.observed, world.nowMs, { graceMs });
      least = Math.min(least, plan.counts.serving);
      if (plan.counts.ready === 10 && plan.steps.length === 0) break;
      world.do(plan, wanted);
      least = Math.min(least, planService(wanted, world.observed, world.nowMs, { graceMs }).counts.serving);
      world.finish();
    }
    t.equal(least, order === 'start-first' ? 10 : 8, `${order}: at the worst so many serve`);
    t.ok(rounds < 30, `${order}: and it ends`);
  }
  t.end();
});
