/** The planner while a release rolls out: slots of different versions, copies that are to pass first, addresses that move. */
import test from 'tape';
import type { Copy } from '../../../src/model/fleet.ts';
import { planService, type Rolling } from '../../../src/plan/plan.ts';
import { copy, graceMs, hosts, memories, now, shown, specOf } from './world.ts';
import { numbers } from '../rollout/words.ts';

const listed = { count: 3, networks: [{ name: 'default', addresses: { from: 'list', list: ['10.0.0.7', '10.0.0.8', '10.0.0.9'] } }] };

interface Case {
  what: string;
  spec?: object;
  /** Slots below are on r3, the others on r2, or on nothing. */
  slots: number;
  rest?: 'nothing';
  budget?: number;
  moves?: boolean;
  copies: (string | Copy)[];
  hosts?: string;
  memory?: string;
  /** Serials that did not pass. */
  unpassed?: number[];
  steps: string[];
  progress?: [ready: number, missing: number, left: number];
  lookIn?: number;
}

const taker = (text: string, takesFrom: number): Copy => ({ ...copy(text), takesFrom });
const retired = (text: string, agoMs: number, drainMs: number): Copy => ({ ...copy(text), retired: { sinceMs: now - agoMs, drainMs } });
const three = ['0#1 a running r2', '1#2 a running r2', '2#3 b running r2'];

const cases: Case[] = [
  { what: 'the wave and no more', slots: 1, copies: three, steps: ['create 0 for #1'], progress: [0, 1, 1] },
  { what: 'all, within the budget', slots: 3, budget: 2, copies: three, steps: ['create 0 for #1', 'create 1 for #2'] },
  { what: 'paused: nothing', slots: 3, budget: 0, copies: three, steps: [] },
  { what: 'the first release: nothing runs beside the canary', slots: 1, rest: 'nothing', copies: [], steps: ['create 0'], progress: [0, 1, 0] },
  { what: 'slots that are to have nothing are emptied', slots: 1, rest: 'nothing', copies: ['0#1 a running r3', '1#2 a running r3'], steps: ['destroy #2 unwanted'] },
  {
    what: 'a new copy that did not pass replaces nothing',
    slots: 1,
    copies: [...three, '0#4 a running r3'],
    unpassed: [4],
    steps: [],
    progress: [0, 1, 1],
  },
  { what: 'one that passed does', slots: 1, copies: [...three, '0#4 a running r3'], steps: ['destroy #1 outdated'], progress: [1, 0, 1] },
  { what: 'one whose gate failed goes', slots: 1, copies: [...three, '0#4 a failed r3'], steps: ['destroy #4 failed', 'create 0 for #1'] },
  { what: 'rolled back: one that was still asked goes', slots: 0, copies: [...three, '0#4 a running r3'], unpassed: [4], steps: ['destroy #4 outdated'] },
  {
    what: 'what is wrong with the release before does not hold the wave up',
    slots: 1,
    budget: 1,
    copies: ['0#1 a running r2', '1#2 a halted r2', '2#3 b halted r2'],
    memory: '1:2:0:a 2:2:0:b',
    steps: ['create 0 for #1'],
    lookIn: 2000,
  },
  {
    what: 'a host that is away is not waited for',
    slots: 3,
    budget: 1,
    copies: three,
    hosts: 'a:away:1000 b',
    steps: ['create 2 for #3'],
    progress: [0, 1, 1],
    lookIn: 29_000,
  },
  { what: '… nor with listed addresses after its time', spec: listed, slots: 3, copies: ['0#1 a running r2', '1#4 b running r3', '2#5 b running r3'], hosts: 'a:away:99999 b', steps: ['note 0'], progress: [2, 0, 0] },
  // moving
  { what: 'listed addresses without moving: stopped first', spec: listed, slots: 1, copies: three, steps: ['destroy #1 outdated'] },
  { what: 'moving: beside', spec: listed, slots: 1, moves: true, copies: three, steps: ['create 0 for #1 beside'] },
  { what: '… not on a drained host', spec: listed, slots: 1, moves: true, copies: three, hosts: 'a:drained b', budget: 1, steps: ['destroy #1 outdated'] },
  { what: 'a taker that did not pass waits', spec: listed, slots: 1, moves: true, copies: [...three, taker('0#4 a running r3', 1)], unpassed: [4], steps: [], progress: [0, 1, 1] },
  { what: 'one that passed takes over', spec: listed, slots: 1, moves: true, copies: [...three, taker('0#4 a running r3', 1)], steps: ['move #1 to #4'], progress: [0, 1, 1] },
  { what: '… also from one that is no more', spec: listed, slots: 1, moves: true, copies: [...three.slice(1), taker('0#4 a running r3', 1)], steps: ['move nothing to #4'] },
  { what: '… but not when it is not wanted any more', spec: listed, slots: 0, moves: true, copies: [...three, taker('0#4 a running r3', 1)], steps: ['destroy #4 outdated'] },
  { what: 'the old one keeps its connections', slots: 1, copies: [...three.slice(1), '0#4 a running r3', retired('0#1 a running r2', 400, 1000)], steps: [], progress: [1, 0, 1], lookIn: 600 },
  { what: '… for its time', slots: 1, copies: [...three.slice(1), '0#4 a running r3', retired('0#1 a running r2', 1000, 1000)], steps: ['destroy #1 outdated'] },
  { what: '… or until it died', slots: 1, copies: [...three.slice(1), '0#4 a running r3', retired('0#1 a halted r2', 0, 1000)], steps: ['destroy #1 outdated'] },
  { what: '… or a clock was set back', slots: 1, copies: [...three.slice(1), '0#4 a running r3', retired('0#1 a running r2', -5000, 1000)], steps: ['destroy #1 outdated'] },
  { what: 'a slot with nothing but a retired copy is empty', slots: 1, copies: [...three.slice(1), retired('0#1 a running r2', 0, 1000)], steps: ['create 0'], progress: [0, 1, 1], lookIn: 1000 },
];

const rollingOf = ({ slots, rest, budget = 3, moves = false }: Case): Rolling => ({
  revisionOf: (slot) => (slot < slots ? 'r3' : rest === 'nothing' ? undefined : 'r2'),
  budget,
  slots: slots === 0 ? 3 : slots,
  moveMs: moves ? 1000 : undefined,
});

for (const each of cases)
  test(`rolling: ${each.what}`, (t) => {
    const plan = planService(
      { spec: specOf({ count: 3, ...each.spec }), revision: 'r2', rolling: rollingOf(each) },
      {
        copies: each.copies.map((one) => (typeof one === 'string' ? copy(one) : one)),
        host: hosts(each.hosts ?? 'a b'),
        memory: each.memory === undefined ? () => undefined : memories(each.memory),
        passed: ({ id }) => each.unpassed?.includes(id.serial) !== true,
        canMove: () => true,
      },
      now,
      { graceMs },
    );
    t.deepEqual(shown(plan), each.steps);
    if (each.progress !== undefined) t.deepEqual([plan.progress.ready, plan.progress.missing, plan.progress.left], each.progress);
    t.equal(plan.lookAgainAtMs === undefined ? undefined : plan.lookAgainAtMs - now, each.lookIn);
    t.end();
  });

test('2,000 random fleets: of copies that serve never more than the budget are replaced at once', (t) => {
  const broken: string[] = [];
  for (let seed = 1; seed <= 2000; seed++) {
    const random = numbers(seed);
    const count = 1 + Math.floor(random() * 12);
    const slots = Math.floor(random() * (count + 1));
    const budget = Math.floor(random() * 5);
    const copies: Copy[] = [];
    let serial = 0;
    for (let slot = 0; slot < count; slot++)
      for (let n = Math.floor(random() * 3); n > 0; n--)
        copies.push(copy(`${slot}#${++serial} ${random() < 0.5 ? 'a' : 'b'} ${['running', 'running', 'asked', 'halted', 'failed'][Math.floor(random() * 5)]} ${random() < 0.5 ? 'r2' : 'r3'}`));
    const rolling: Rolling = { revisionOf: (slot) => (slot < slots ? 'r3' : 'r2'), budget, slots: Math.max(1, slots), moveMs: undefined };
    const wanted = { spec: specOf({ count, update: { maxAtOnce: 9, order: random() < 0.5 ? 'start-first' : 'stop-first' } }), revision: 'r2', rolling };
    const plan = planService(wanted, { copies, host: hosts('a b'), memory: () => undefined }, now, { graceMs });
    // A copy that serves is replaced when it is destroyed with no other one serving in its slot, or when another is begun for it.
    const serving = (slot: number): Copy[] => copies.filter(({ id, state }) => id.slot === slot && state === 'running');
    const destroyed = new Set(plan.steps.flatMap((step) => (step.do === 'destroy' ? [step.copy] : [])));
    let replaced = 0;
    for (let slot = 0; slot < count; slot++) {
      const there = serving(slot);
      if (there.length > 0 && there.every((one) => destroyed.has(one))) replaced++;
      else if (plan.steps.some((step) => step.do === 'create' && step.slot === slot && step.replaces?.state === 'running')) replaced++;
    }
    if (replaced > budget) broken.push(`seed ${seed}: ${replaced} of ${budget}`);
    const kept = plan.steps.filter((step) => step.do === 'destroy' && step.why !== 'unwanted').length;
    if (kept > copies.length) broken.push(`seed ${seed}: destroyed twice`);
  }
  t.deepEqual(broken.slice(0, 5), []);
  t.end();
});
