/** The rollout's table, case by case, and what holds whatever happens in whatever order. */
import test from 'tape';
import type { RolloutPolicy } from '../../../src/model/rollout.ts';
import { tableText } from '../../../src/model/table.ts';
import { advance, begin, mayHappen, rollbackTo, table, takenOver } from '../../../src/rollout/machine.ts';
import { budgetOf, isEnded, isOnTrial, settledVersion, slotsThatMatter, versionOf, type Rollout, type RolloutEvent } from '../../../src/rollout/state.ts';
import { slotsIn, waveSizes } from '../../../src/rollout/waves.ts';
import { doneWith1, numbers, policyOf, pushOf, version } from './words.ts';
import { readFileSync } from 'node:fs';

const all: RolloutEvent = { on: 'progress', ready: 99, missing: 0, left: 0 };
const passed: RolloutEvent = { on: 'gates-passed' };
const second: RolloutEvent = { on: 'tick', elapsedMs: 1000, missing: 0 };
const run = (state: Rollout, ...events: RolloutEvent[]): Rollout => events.reduce((at, event) => advance(at, event, 0), state);
const wants = (state: Rollout): string =>
  Array.from({ length: state.count }, (_, slot) => versionOf(state, slot)?.counter ?? '-').join('');

test('waves: sizes rise to all; a fleet of one is its canary', (t) => {
  t.deepEqual(waveSizes(policyOf(), 10), [1, 3, 5, 10]);
  t.deepEqual(waveSizes(policyOf({ canary: 4 }), 10), [4, 5, 10]);
  t.deepEqual(waveSizes(policyOf(), 1), [1]);
  t.deepEqual(waveSizes(policyOf(), 0), [1]);
  t.deepEqual(waveSizes(policyOf({ canary: 50 }), 10), [10]);
  t.deepEqual(waveSizes(policyOf({ mode: 'hot-fix', canary: 2 }), 1000), [2, 1000], 'hot-fix: canary, then all');
  t.deepEqual(waveSizes(policyOf({ waves: [10, 20] }), 10), [1, 2, 10], 'the last is all, whatever the policy says');
  t.end();
});

test('a good release: canary, waves, each watched, done', (t) => {
  let s = begin(doneWith1(), undefined, pushOf(2), 0);
  const seen: string[] = [];
  while (!isEnded(s)) {
    seen.push(`${s.phase} ${s.wave} ${wants(s)}`);
    s = advance(s, s.phase === 'replacing' ? all : s.phase === 'gating' ? passed : second, 0);
  }
  t.deepEqual(
    seen.filter((_, i) => i % 3 === 0),
    ['replacing 0 2111111111', 'replacing 1 2221111111', 'replacing 2 2222211111', 'replacing 3 2222222222'],
  );
  t.equal(seen.length, 12, 'three phases a wave');
  t.equal(s.phase, 'done');
  t.deepEqual(s.goods.map(({ counter }) => counter), [1, 2]);
  t.equal(settledVersion(s)?.counter, 2);
  t.end();
});

test('failure at each phase: back, or paused, or failed when there is nothing good', (t) => {
  const died: RolloutEvent = { on: 'copy-failed', text: 'died' };
  for (const at of ['replacing', 'gating', 'observing'] as const) {
    const to = (policy: Partial<RolloutPolicy>, first = false): Rollout => {
      const s = begin(first ? undefined : doneWith1(), undefined, pushOf(2, { policy: policyOf(policy) }), 0);
      return at === 'replacing' ? s : at === 'gating' ? run(s, all) : run(s, all, passed);
    };
    const back = run(to({}), died);
    t.deepEqual([back.phase, wants(back), back.reason], ['rolling-back', '1111111111', 'died'], `${at}: back`);
    const home = run(back, { on: 'progress', ready: 10, missing: 0, left: 1 });
    t.equal(home.phase, 'rolling-back', 'one bad copy is left');
    t.equal(run(home, all).phase, 'rolled-back');
    const paused = run(to({ onFailure: 'pause' }), died);
    t.deepEqual([paused.phase, budgetOf(paused), wants(paused)], ['paused', 0, '2111111111'], `${at}: paused`);
    t.equal(run(paused, { on: 'resume' }).phase, at, 'and goes on');
    if (at === 'observing') t.equal(run(paused, { on: 'resume' }).leftMs, 1000, 'watched anew');
    const none = run(to({}, true), died);
    t.deepEqual([none.phase, wants(none)], ['failed', '2---------'], `${at}: nothing to go back to`);
    t.equal(run(to({ failuresAllowed: 1 }), died).phase, at, 'one is allowed');
    t.equal(run(to({ failuresAllowed: 1 }), died, died).phase, 'rolling-back', 'two are not');
  }
  t.end();
});

test('a wave that stands still ends; one whose hosts are all away waits', (t) => {
  const s = begin(doneWith1(), undefined, pushOf(2), 0);
  const tick = (elapsedMs: number, missing: number): RolloutEvent => ({ on: 'tick', elapsedMs, missing });
  t.equal(run(s, tick(4999, 1)).phase, 'replacing');
  t.equal(run(s, tick(4999, 1), tick(1, 1)).phase, 'rolling-back');
  t.equal(run(s, tick(4999, 1), { on: 'progress', ready: 1, missing: 1, left: 0 }, tick(4999, 1)).phase, 'replacing', 'progress counts');
  t.equal(run(s, tick(1e9, 0), { on: 'progress', ready: 0, missing: 0, left: 0 }).phase, 'replacing', 'nobody is there to be asked');
  const back = run(s, { on: 'abort' });
  const failed = run(back, tick(5000, 2));
  t.deepEqual([failed.phase, wants(failed)], ['failed', '1111111111'], 'the good one does not come up: said, and wanted all the same');
  t.equal(run(failed, all).phase, 'rolled-back', 'it comes up after all');
  t.equal(run(s, { on: 'promote' }, tick(5000, 2)).phase, 'paused', 'a promotion that stands still asks');
  t.end();
});

test('pause for a day, abort in full promotion, promote, rollback', (t) => {
  const s = begin(doneWith1(), undefined, pushOf(2), 0);
  const watching = run(s, all, passed, { on: 'tick', elapsedMs: 400, missing: 0 });
  const paused = run(watching, { on: 'pause' });
  t.notOk(mayHappen(paused, { on: 'tick', elapsedMs: 86_400_000, missing: 0 }), 'time does not go by');
  t.deepEqual([run(paused, { on: 'resume' }).phase, run(paused, { on: 'resume' }).leftMs], ['observing', 600]);
  const promoting = run(s, { on: 'promote' });
  t.deepEqual([promoting.phase, wants(promoting)], ['promoting', '2222222222']);
  t.notOk(mayHappen(promoting, { on: 'copy-failed', text: '' }), 'no gate stops it');
  t.deepEqual([run(promoting, { on: 'abort' }).phase, wants(run(promoting, { on: 'abort' }))], ['rolling-back', '1111111111']);
  t.equal(run(promoting, all).phase, 'done');
  const back = run(s, { on: 'rollback', to: rollbackTo(s, undefined) });
  t.equal(wants(back), '1111111111');
  t.equal(run(back, { on: 'pause' }, { on: 'resume' }).phase, 'rolling-back', 'a rollback pauses too');
  t.throws(() => run(s, { on: 'resume' }), /means nothing/);

  let three = doneWith1();
  for (const counter of [2, 3]) three = run(begin(three, undefined, pushOf(counter), 0), { on: 'promote' }, all);
  const to2 = run(three, { on: 'rollback', to: rollbackTo(three, undefined) });
  t.deepEqual([to2.phase, wants(to2)], ['rolling-back', '2222222222'], 'after it was done: the one before, all steps skipped');
  const at2 = run(to2, all);
  t.equal(at2.phase, 'rolled-back');
  t.equal(rollbackTo(at2, undefined)?.counter, 1, 'and again: never to the one that was left');
  t.equal(rollbackTo(three, 1)?.counter, 1, 'by its number');
  t.throws(() => rollbackTo(three, 9), /none that passed/);
  t.throws(() => rollbackTo(doneWith1(), undefined), /no earlier release/);
  t.end();
});

test('pushes: again, two in a row, during a rollback, the same bytes, back to the one before', (t) => {
  const s = begin(doneWith1(), undefined, pushOf(2), 0);
  t.equal(begin(s, undefined, pushOf(2), 9).entries.length, s.entries.length, 'the same again: nothing');
  const wave1 = run(s, all, passed, second);
  const newer = begin(wave1, undefined, pushOf(3), 0);
  t.deepEqual([newer.phase, wants(newer)], ['replacing', '3111111111'], 'the newer one takes over; what never passed is left');
  t.equal(newer.good?.counter, 1);
  const rolling = run(s, { on: 'abort' });
  t.deepEqual(wants(begin(rolling, undefined, pushOf(3), 0)), '3111111111', 'during a rollback');
  const back = run(rolling, all);
  t.equal(begin(back, undefined, pushOf(2), 0).phase, 'rolled-back', 'what failed is not tried again by itself');
  t.equal(begin(back, undefined, pushOf(3, { revision: s.target.revision }), 0).phase, 'replacing', 'but under a new number');
  const same = begin(doneWith1(), undefined, pushOf(2, { revision: version(1).revision }), 0);
  t.deepEqual([same.phase, same.target.counter], ['done', 2], 'the same digest: nothing rolls');
  const on = begin(wave1, undefined, pushOf(3, { revision: wave1.target.revision }), 0);
  t.deepEqual([on.phase, on.wave, on.target.counter], ['replacing', 1, 3], 'the same bytes as on trial: it goes on');
  const revert = begin(wave1, undefined, pushOf(3, { revision: version(1).revision }), 0);
  t.deepEqual([revert.phase, wants(revert)], ['rolling-back', '3333333333'], 'the good bytes pushed again: straight back');
  t.equal(run(revert, all).phase, 'done', 'which is where it was to go');
  const hand = takenOver(wave1, version(0, 'abcdabcd'), 4, 0);
  t.deepEqual([hand.phase, wants(hand)], ['done', '0000'], 'applied by hand');
  t.equal(begin(hand, undefined, pushOf(2), 0).phase, 'done', 'and the push before it does not undo that');
  t.end();
});

const policies = (random: () => number): RolloutPolicy => {
  const canary = 1 + Math.floor(random() * 3);
  return policyOf({
    mode: random() < 0.3 ? 'hot-fix' : 'waves',
    canary,
    waves: random() < 0.5 ? [100] : [20, 60, 100],
    observeMs: random() < 0.3 ? 0 : 1000,
    budget: 1 + Math.floor(random() * 5),
    failuresAllowed: Math.floor(random() * 3),
    onFailure: random() < 0.3 ? 'pause' : 'rollback',
  });
};

test('4,000 random histories: the canary bounds what is not trusted, the good one passed, it is serialisable, it ends', (t) => {
  const broken: string[] = [];
  const reached = new Set<string>();
  for (let seed = 1; seed <= 4000; seed++) {
    const random = numbers(seed);
    const check = (holds: boolean, what: string): void => void (holds || broken.push(`seed ${seed}: ${what}`));
    const count = Math.floor(random() * 20);
    const first = random() < 0.2;
    let policy = policies(random);
    let counter = 1;
    let state = begin(undefined, first ? undefined : version(1), pushOf(++counter, { policy, count }), 0);
    /** Revisions that passed everything, were promoted by someone, or ran before; and those whose canary passed. */
    const trusted = new Set(first ? [] : [version(1).revision]);
    const passedCanary = new Set<string>();
    const pick = (): RolloutEvent => {
      const some: RolloutEvent[] = [
        { on: 'progress', ready: Math.floor(random() * 20), missing: Math.floor(random() * 3), left: Math.floor(random() * 2) },
        all,
        { on: 'tick', elapsedMs: Math.floor(random() * 3000), missing: Math.floor(random() * 3) },
        passed,
        { on: 'gate-failed', text: 'g' },
        { on: 'copy-failed', text: 'c' },
        { on: 'pause' },
        { on: 'resume' },
        { on: 'abort' },
        { on: 'promote' },
      ];
      if (random() < 0.1) {
        try {
          return { on: 'rollback', to: rollbackTo(state, undefined) };
        } catch {
          return all;
        }
      }
      return some[Math.floor(random() * some.length)]!;
    };
    for (let i = 0; i < 40; i++) {
      const roll = random();
      if (roll < 0.06) {
        const old = random() < 0.3 ? state.target.revision : random() < 0.3 ? state.good?.revision : undefined;
        policy = policies(random);
        state = begin(state, undefined, pushOf(++counter, { policy, count, ...(old === undefined ? {} : { revision: old }) }), i);
      } else {
        const event = pick();
        if (!mayHappen(state, event)) continue;
        if (event.on === 'gates-passed' && state.wave === 0) passedCanary.add(state.target.revision);
        if (event.on === 'promote') passedCanary.add(state.target.revision);
        state = advance(state, event, i);
      }
      reached.add(state.phase);
      if (state.phase === 'done') trusted.add(state.target.revision);
      const wanted = Array.from({ length: count }, (_, slot) => versionOf(state, slot)?.revision);
      const untrusted = wanted.filter((revision) => revision !== undefined && !trusted.has(revision) && !passedCanary.has(revision)).length;
      check(untrusted <= Math.min(count, state.policy.canary), `${untrusted} copies on what never passed, in ${state.phase}`);
      check(state.good === undefined || trusted.has(state.good.revision), 'the good one never passed');
      check(state.goods.every(({ revision }) => trusted.has(revision)), 'one of the goods never passed');
      if (state.phase === 'rolled-back') check(wanted.every((revision) => revision === state.good?.revision), 'rolled back, and not all on the good one');
      if (state.phase === 'done') check(wanted.every((revision) => revision === state.target.revision), 'done, and not all on the target');
      check(budgetOf(state) <= state.policy.budget, 'past its budget');
      check(slotsThatMatter(state) <= count, 'slots that are not there');
      check(JSON.stringify(JSON.parse(JSON.stringify(state))) === JSON.stringify(state), 'not serialisable');
      check(state.entries.length <= 60 && state.goods.length <= 10, 'unbounded');
      check(state.entries.every(({ number }, at, list) => at === 0 || number === list[at - 1]!.number + 1), 'a hole in its entries');
    }
    // Left alone, in a world that does what is wanted or one that does nothing at all, it ends.
    for (const lazy of [false, true]) {
      let at = state.phase === 'paused' ? advance(state, { on: 'resume' }, 0) : state;
      let steps = 0;
      for (; !isEnded(at) && at.phase !== 'paused' && steps < 200; steps++) {
        const next: RolloutEvent = lazy ? { on: 'tick', elapsedMs: 500, missing: 1 } : at.phase === 'gating' ? passed : at.phase === 'observing' ? second : all;
        at = advance(at, at.phase === 'gating' ? passed : next, 0);
      }
      check(steps < 200, `it does not end: ${at.phase}, ${lazy ? 'lazy' : 'willing'}`);
      if (!lazy && !isEnded(at)) check(false, `a willing world ends in ${at.phase}`);
    }
    check(isOnTrial(state) === (state.phase !== 'paused' ? ['replacing', 'gating', 'observing'].includes(state.phase) : isOnTrial(state)), 'trial');
  }
  t.deepEqual(broken.slice(0, 5), [], 'nothing is broken');
  t.deepEqual([...reached].sort(), ['done', 'failed', 'gating', 'observing', 'paused', 'promoting', 'replacing', 'rolled-back', 'rolling-back'], 'every phase was reached');
  t.end();
});

test('the document shows the table as it is', (t) => {
  const text = readFileSync(new URL('../../../docs/design/0051-rollout.md', import.meta.url), 'utf8');
  t.ok(text.includes(tableText(table)), 'docs/design/0051-rollout.md; the table is tableText(table)');
  t.ok(slotsIn(policyOf(), 10, 99) === 10);
  t.end();
});
