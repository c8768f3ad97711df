/** Rollouts from their push to their end, harmed at the n-th thing that is written down about them: however it goes, the end is the same. */
import type { RolloutPolicy } from '../../../src/model/rollout.ts';
import type { Change } from '../../../src/control/port.ts';
import type { Desired } from '../../../src/model/desired.ts';
import { until } from '../host/rig.ts';
import { doubles } from './rig.ts';
import { makeRollouts, MortalStore, policy, push, type RolloutRig } from './rollout-rig.ts';

export interface Story {
  what: string;
  bad: boolean;
  policy: Partial<RolloutPolicy>;
  spec?: object;
  /** Where it ends. */
  phase: string;
  images: string;
  /** Of the pushed image, ever. */
  most: number;
  /** What somebody does, by what he sees; asked again and again. */
  does?: (rig: RolloutRig, push: (counter: number, letter: string) => Desired) => Promise<unknown> | undefined;
}

const listed = { networks: [{ name: 'default', addresses: { from: 'list', list: [1, 2, 3, 4].map((i) => `10.64.9.${i}`) } }] };

export const stories: Story[] = [
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

const watched = { observeMs: 3_600_000 };

/** With somebody at the controls. */
export const actedStories: Story[] = [
  {
    what: 'paused, and aborted from there',
    bad: false,
    policy: watched,
    phase: 'rolled-back',
    images: 'aaaa',
    most: 1,
    does: (rig) => (rig.phase() === 'observing' ? rig.rollouts.act('t/s', 'pause', 'me') : rig.phase() === 'paused' ? rig.rollouts.act('t/s', 'abort', 'me') : undefined),
  },
  {
    what: 'paused, resumed, promoted',
    bad: false,
    policy: watched,
    phase: 'done',
    images: 'bbbb',
    most: 4,
    does: (rig) => {
      if (rig.phase() === 'paused') return rig.rollouts.act('t/s', 'resume', 'me');
      if (rig.phase() !== 'observing') return undefined;
      const wasPaused = rig.rollouts.need('t/s').entries.some(({ event }) => event === 'resume');
      return rig.rollouts.act('t/s', wasPaused ? 'promote' : 'pause', 'me');
    },
  },
  {
    what: 'done, and taken back by its number',
    bad: false,
    policy: {},
    phase: 'rolled-back',
    images: 'aaaa',
    most: 4,
    does: (rig) => (rig.phase() === 'done' && rig.rollouts.need('t/s').target.counter === 2 ? rig.rollouts.act('t/s', 'rollback', 'me', 1) : undefined),
  },
  {
    what: 'overtaken by the next push while it is watched',
    bad: false,
    policy: watched,
    phase: 'done',
    images: 'cccc',
    most: 1,
    does: (rig, make) => {
      if (rig.phase() !== 'observing') return undefined;
      return rig.rollouts.need('t/s').target.counter === 2 ? rig.rollouts.begin(make(3, 'c')) : rig.rollouts.act('t/s', 'promote', 'me');
    },
  },
];

/** Calls back at the n-th write that counts, before it is done. */
export class CountingStore extends MortalStore {
  at = Infinity;
  reached: () => void = () => {};

  override write(changes: readonly Change[]): Promise<void> {
    const before = this.writes;
    const done = super.write(changes);
    if (this.writes > before && this.writes === this.at) this.reached();
    return done;
  }
}

export interface Harm {
  what: string;
  /** Called once release 1 runs and before release 2 is pushed. `again`: what whoever reads the repository does at every start. */
  arm: (rig: RolloutRig, store: CountingStore, again: () => Promise<void>) => void;
  /** Copies that may be on the pushed image beside those that are wanted: a host that is given up for a while keeps its own. */
  extra?: number;
  /** Resolves when nothing of the harm is under way. */
  over?: () => Promise<void> | undefined;
}

/** Runs a story; how many writes there were that could have been the moment. `check` is told what does not hold. */
export async function play(story: Story, harm: Harm, check: (holds: boolean, what: string) => void): Promise<number> {
  const store = new CountingStore();
  const rig = await makeRollouts(['a', 'b'], { store });
  const spec = { count: 4, ...story.spec };
  const rules = policy({ observeMs: 20, waves: [100], ...story.policy });
  const make = (counter: number, letter: string): Desired => push(counter, letter, spec, rules);
  let newest = make(2, 'b');
  const end = async (phase: string, images: string): Promise<void> =>
    until(() => rig.phase() === phase && rig.images() === images && !store.dead, `${story.what}, ${harm.what}: ${phase} ${images}`, 8000);
  await rig.rollouts.begin(push(1, 'a', spec, policy({ observeMs: 0, waves: [100], mode: 'hot-fix' })));
  await end('done', 'aaaa');
  const addresses = (): string => rig.vms().map(({ ip }) => ip).sort().join(' ');
  const before = addresses();
  if (story.bad) rig.bad.add('b');
  rig.commandSays = () => (story.bad ? 'it is bad' : undefined);
  store.writes = 0;
  store.copiesCount = story.spec !== undefined;
  harm.arm(rig, store, () => rig.rollouts.begin(newest));
  void rig.rollouts.begin(newest);
  const watch = setInterval(() => check(doubles(rig).length === 0, `two VMs have ${doubles(rig).join()}`), 1);
  let acting = false;
  const somebody = setInterval(() => {
    if (acting || store.dead || story.does === undefined || rig.fleet.state.get('rollout', 't/s') === undefined) return;
    acting = true;
    const done = story.does(rig, (counter, letter) => (newest = make(counter, letter)));
    // A controller that died answers nobody.
    const patience = new Promise((resolve) => setTimeout(resolve, 50));
    void Promise.race([Promise.resolve(done).catch(() => {}), patience]).then(() => (acting = false));
  }, 2);
  try {
    await end(story.phase, story.images);
    await harm.over?.();
    await end(story.phase, story.images);
  } finally {
    clearInterval(watch);
    clearInterval(somebody);
  }
  const { writes } = store;
  check(rig.most('b') <= story.most + (story.bad ? 0 : (harm.extra ?? 0)), `${rig.most('b')} copies were on it`);
  if (story.spec !== undefined) check(addresses() === before, `addresses: ${addresses()}, before: ${before}`);
  await until(() => rig.entries.at(-1)?.phase === story.phase, `${story.what}, ${harm.what}: its end is in the record`, 8000);
  const numbers = [...new Set(rig.entries.map(({ number }) => number))];
  check(numbers.every((number, i) => number === i + 1), `its record has a hole: ${numbers.join()}`);
  // Entries are struck out a moment after their VMs are gone.
  await until(() => rig.fleet.copies.size === 4 && rig.fleet.state.all('copy').size === 4, `${story.what}, ${harm.what}: the ledger has what there is`, 8000);
  await rig.close();
  return writes;
}

const notHarmed: Harm = { what: 'not harmed', arm: () => {} };

/** Each has hosts and a controller of its own, and waits most of the time. */
const atOnce = 6;

/** A story at each of its moments; what did not hold. */
export async function playAtEach(story: Story, harms: (at: number) => Harm[]): Promise<{ writes: number; broken: string[] }> {
  const broken = new Set<string>();
  const writes = await play(story, notHarmed, (holds, what) => void (holds || broken.add(`not harmed: ${what}`)));
  const left = Array.from({ length: writes }, (_, i) => harms(i + 1)).flat();
  const player = async (): Promise<void> => {
    for (let harm = left.shift(); harm !== undefined; harm = left.shift()) {
      const { what: harmed } = harm;
      await play(story, harm, (holds, what) => void (holds || broken.add(`${harmed}: ${what}`)));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, player));
  return { writes, broken: [...broken].slice(0, 8) };
}
