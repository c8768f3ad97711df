/** The controller killed at each step of a rollout: whatever was kept last, the next one brings it to the same end. */
import test from 'tape';
import { until } from '../host/rig.ts';
import { doubles } from './rig.ts';
import { makeRollouts, MortalStore, policy, push, type RolloutRig } from './rollout-rig.ts';
import type { RolloutPolicy } from '../../../src/model/rollout.ts';

interface Story {
  what: string;
  bad: boolean;
  policy: Partial<RolloutPolicy>;
  spec?: object;
  /** Where it ends. */
  phase: string;
  images: string;
  /** Of the pushed image, ever. */
  most: number;
}

const listed = { networks: [{ name: 'default', addresses: { from: 'list', list: [1, 2, 3, 4].map((i) => `10.64.9.${i}`) } }] };
const stories: Story[] = [
  { what: 'a good release', bad: false, policy: {}, phase: 'done', images: 'bbbb', most: 4 },
  { what: 'a bad release', bad: true, policy: {}, phase: 'rolled-back', images: 'aaaa', most: 1 },
  {
    what: 'a good release whose copies take addresses over',
    bad: false,
    policy: { mode: 'hot-fix', replace: { address: 'move', drainMs: 20 } },
    spec: listed,
    phase: 'done',
    images: 'bbbb',
    most: 4,
  },
  {
    what: 'a release that is bad after its addresses moved',
    bad: true,
    policy: { replace: { address: 'move', drainMs: 20 }, gates: [{ kind: 'ready', withinMs: 4000 }, { kind: 'command', name: 'no', timeoutMs: 100 }] },
    spec: listed,
    phase: 'rolled-back',
    images: 'aaaa',
    most: 1,
  },
];

/** Runs a story, killed at the n-th write about a rollout; how many such writes there were. */
async function play(story: Story, dieAt: number, keepsLast: boolean, check: (holds: boolean, what: string) => void): Promise<number> {
  const store = new MortalStore();
  const rig = await makeRollouts(['a', 'b'], { store });
  const spec = { count: 4, ...story.spec };
  const rules = policy({ observeMs: 20, waves: [100], ...story.policy });
  const end = async (phase: string, images: string): Promise<void> =>
    until(() => rig.phase() === phase && rig.images() === images && !store.dead, `${story.what}, killed at ${dieAt}: ${phase} ${images}`, 8000);
  await rig.rollouts.begin(push(1, 'a', spec, rules));
  await end('done', 'aaaa');
  const addresses = (): string => addressesOf(rig);
  const before = addresses();
  if (story.bad) rig.bad.add('b');
  rig.commandSays = () => (story.bad ? 'it is bad' : undefined);
  store.writes = 0;
  store.copiesCount = story.spec !== undefined;
  store.dieAt = dieAt;
  store.keepsLast = keepsLast;
  let death: Promise<void> | undefined;
  store.onDeath = () => {
    death = new Promise((resolve) =>
      setImmediate(() => {
        void (async () => {
          store.dead = false;
          store.dieAt = Infinity;
          await rig.crash();
          // Whoever reads the repository asks again at every start.
          await rig.rollouts.begin(push(2, 'b', spec, rules));
          resolve();
        })();
      }),
    );
  };
  void rig.rollouts.begin(push(2, 'b', spec, rules));
  const watch = setInterval(() => check(doubles(rig).length === 0, `two VMs have ${doubles(rig).join()}`), 1);
  await end(story.phase, story.images);
  await death;
  await end(story.phase, story.images);
  clearInterval(watch);
  const writes = store.writes;
  check(rig.most('b') <= story.most, `${rig.most('b')} copies were on it`);
  if (story.spec !== undefined) check(addresses() === before, `addresses: ${addresses()}, before: ${before}`);
  const numbers = [...new Set(rig.entries.map(({ number }) => number))];
  check(numbers.every((number, i) => number === i + 1), `its record has a hole: ${numbers.join()}`);
  check(rig.entries.at(-1)?.phase === story.phase, 'its end is in the record');
  // Entries are struck out a moment after their VMs are gone.
  await until(() => rig.fleet.copies.size === 4 && rig.fleet.state.all('copy').size === 4, `${story.what}, killed at ${dieAt}: the ledger has what there is`, 8000);
  await rig.close();
  return writes;
}

/** The first address of each VM, sorted. */
const addressesOf = (rig: RolloutRig): string => rig.vms().map(({ ip }) => ip).sort().join(' ');

for (const story of stories)
  test(`killed at each step: ${story.what}`, async (t) => {
    const broken: string[] = [];
    const writes = await play(story, Infinity, true, (holds, what) => void (holds || broken.push(`not killed: ${what}`)));
    t.ok(writes >= 5, `${writes} steps`);
    for (let at = 1; at <= writes; at++)
      for (const keepsLast of [true, false])
        await play(story, at, keepsLast, (holds, what) => void (holds || broken.push(`killed at ${at}, ${keepsLast ? 'kept' : 'lost'}: ${what}`)));
    t.deepEqual([...new Set(broken)].slice(0, 8), [], 'the same end, and nothing double on the way');
  });
