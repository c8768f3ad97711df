/**
 * Every order of messages, losses and kills that two hosts can live through: from each state that can be reached, all runs that go on long enough end with
 * exactly one of them running the VM, and there is never a moment with two.
 */
import test from 'tape';
import { verdictAtStart, type Action } from '../../../src/host/verdict.ts';
import type { Vm } from '../../../src/host/vm.ts';
import type { DomainFacts } from '../../../src/hypervisor/port.ts';
import { asDomid } from '../../../src/model/ids.ts';
import { nextOfSource, nextOfTarget, sourceAfterKill, sourceTable, targetTable, type SourceEvent, type SourceState, type TargetState } from '../../../src/migrate/table.ts';

interface World {
  source: SourceState;
  target: TargetState;
  /** Words on their way to the target that may still be heard, however late; a connection that was cut takes its words with it. */
  commitOnItsWay: boolean;
  /** Left in the source's journal. */
  leaving: boolean;
}

const key = (w: World): string => JSON.stringify(w);
const suspended: readonly SourceState[] = ['ship', 'verify', 'commit', 'ask', 'undo', 'release'];

/** Who runs the VM, or is bound to. */
function running({ source, target }: World): number {
  const here = ['reserve', 'copy', 'suspend', 'stayed'].includes(source) ? 1 : 0;
  return here + (target === 'committed' ? 1 : 0);
}

function* steps(w: World): Generator<[string, World]> {
  const source = (event: SourceEvent, more: Partial<World> = {}): [string, World] => {
    const next = nextOfSource(w.source, event);
    return [`source ${event}`, { ...w, source: next, leaving: ['stayed', 'left'].includes(next) ? false : next === 'copy' || w.leaving, ...more }];
  };
  const { target } = w;
  switch (w.source) {
    case 'reserve':
      yield source('done', { target: nextOfTarget(target, 'hello') });
      yield source('refused');
      yield source('lost', { target: nextOfTarget(target, 'hello') });
      yield source('lost');
      yield source('cancelled', { target: nextOfTarget(target, 'hello') });
      break;
    case 'copy':
    case 'suspend':
      for (const event of ['done', 'refused', 'lost', 'cancelled'] as const) yield source(event);
      break;
    case 'ship':
      if (target === 'reserved') yield source('done', { target: nextOfTarget(target, 'filled') });
      for (const event of ['refused', 'lost', 'cancelled'] as const) yield source(event);
      break;
    case 'verify':
      if (target === 'filled') yield source('done', { commitOnItsWay: true });
      for (const event of ['refused', 'lost', 'cancelled'] as const) yield source(event);
      break;
    case 'commit':
      if (target === 'committed') yield source('committed');
      yield source('lost');
      break;
    case 'ask':
      yield source('lost');
      yield source(target === 'committed' ? 'committed' : 'unknown', { target: nextOfTarget(target, 'asked') });
      break;
    case 'undo':
      yield source('done');
      if (target !== 'none') yield source('done', { target: nextOfTarget(target, 'abort') });
      break;
    case 'release':
      yield source('done');
      yield source('done', { target: nextOfTarget(target, 'released') });
      break;
    default:
  }
  if (w.commitOnItsWay) {
    yield ['the commit is heard', { ...w, commitOnItsWay: false, target: target === 'filled' || target === 'committed' ? nextOfTarget(target, 'commit') : target }];
    yield ['the commit is lost', { ...w, commitOnItsWay: false }];
  }
  if (target === 'reserved' || target === 'filled') yield ['expired', { ...w, target: nextOfTarget(target, 'expired') }];
  yield ['the target is killed', { ...w, target: nextOfTarget(target, 'killed') }];
  if (!['stayed', 'left'].includes(w.source))
    yield ['the source is killed', { ...w, source: sourceAfterKill(suspended.includes(w.source), w.leaving) }];
}

const begin: World = { source: 'reserve', target: 'none', commitOnItsWay: false, leaving: false };

function reachable(): Map<string, World> {
  const seen = new Map([[key(begin), begin]]);
  for (const world of seen.values()) for (const [, next] of steps(world)) if (!seen.has(key(next))) seen.set(key(next), next);
  return seen;
}

const isOver = ({ source, target, commitOnItsWay }: World): boolean =>
  (source === 'stayed' || source === 'left') && (target === 'none' || target === 'committed') && !commitOnItsWay;

test('never two that run it, in no order of losses and kills', (t) => {
  const worlds = [...reachable().values()];
  t.ok(worlds.length > 30, `${worlds.length} worlds`);
  for (const world of worlds) {
    // A source in release has ended its own for good; that "released" was heard lets the target forget, not stop.
    if (running(world) > 1) t.fail(`two in ${key(world)}`);
  }
  t.end();
});

test('once it is over exactly one runs it', (t) => {
  for (const world of reachable().values()) {
    if (!isOver(world)) continue;
    if (world.source === 'stayed') t.equal(world.target, 'none', `it stayed: ${key(world)}`);
  }
  // "left" is reached by way of a target that committed, and by no other.
  for (const world of reachable().values()) if (world.source === 'release') t.equal(world.target, 'committed', 'released to one that has it');
  t.end();
});

test('from everywhere there is a way to the end', (t) => {
  for (const world of reachable().values()) {
    const seen = new Map([[key(world), world]]);
    let over = false;
    for (const each of seen.values()) {
      over ||= isOver(each);
      if (over) break;
      for (const [, next] of steps(each)) if (!seen.has(key(next))) seen.set(key(next), next);
    }
    if (!over) t.fail(`stuck in ${key(world)}`);
  }
  t.pass('none is stuck');
  t.end();
});

/** What Xen and the journal may have in each state of a host at a kill, and what its next agent makes of that: as the tables say. */
test('the next agent reads out of Xen and journal what the table says', (t) => {
  const [uuid, id, other] = ['00000000-0000-4000-8000-000000000001', 'this migration', 'one before'];
  const domain = (state: DomainFacts['state'], more: Partial<DomainFacts> = {}) => ({ domid: asDomid(7), ours: true, sealed: true, state, uuid, ...more });
  const vm = (more: Partial<Vm> = {}) => ({ wanted: 'running' as const, power: 'Halted' as const, domid: undefined, ...more });
  const incoming = { paused: false, incoming: id };
  const resealed = { paused: false, incoming: undefined };
  const suspended = domain('shutdown', { shutdownReason: 'suspend' });
  const leaving = { id, token: '', url: '', fingerprint: '' };
  const runs: readonly Action[] = ['resume', 'note', 'adopt', 'thaw', 'restart'];
  const target: [TargetState, string, Action][] = [
    ['none', 'left of an arrival that failed', verdictAtStart(undefined, domain('paused'), incoming)],
    ['reserved', 'not whole', verdictAtStart(undefined, domain('paused', { sealed: false }), undefined)],
    ['reserved', 'whole, its last bytes not yet taken for right', verdictAtStart(undefined, domain('paused'), incoming)],
    ['filled', 'whole', verdictAtStart(undefined, domain('paused'), incoming)],
    ['filled', 'whole, and a record of an arrival before', verdictAtStart(vm({ arrivedBy: other }), domain('paused'), incoming)],
    ['filled', 'whole, and a record of no arrival', verdictAtStart(vm({ wanted: 'halted' }), domain('paused'), incoming)],
    ['filled', 'whole, while it leaves in a record', verdictAtStart(vm({ leaving: { ...leaving, id: other } }), domain('paused'), incoming)],
    ['committed', 'not let go yet', verdictAtStart(vm({ arrivedBy: id }), domain('paused'), incoming)],
    ['committed', 'it runs', verdictAtStart(vm({ arrivedBy: id }), domain('running'), incoming)],
    ['committed', 'it runs, sealed anew', verdictAtStart(vm({ arrivedBy: id }), domain('running'), resealed)],
  ];
  for (const [state, what, action] of target) t.equal(runs.includes(action), nextOfTarget(state, 'killed') === 'committed', `target ${state}: ${what}: ${action}`);
  const source: [SourceState, string, Action, SourceState][] = [
    ['reserve', 'it runs', verdictAtStart(vm(), domain('running'), resealed), sourceAfterKill(false, false)],
    ['copy', 'it runs', verdictAtStart(vm({ leaving }), domain('running'), resealed), sourceAfterKill(false, true)],
    ['copy', 'it is looked at', verdictAtStart(vm({ leaving }), suspended, resealed), sourceAfterKill(true, true)],
    ['commit', 'suspended', verdictAtStart(vm({ leaving }), suspended, resealed), sourceAfterKill(true, true)],
    ['commit', 'suspended, of a VM that came by a migration itself', verdictAtStart(vm({ leaving, arrivedBy: other }), suspended, { paused: false, incoming: other }), sourceAfterKill(true, true)],
    ['undo', 'suspended, its order taken back', verdictAtStart(vm(), suspended, resealed), sourceAfterKill(true, false)],
  ];
  for (const [state, what, action, next] of source) {
    const asks = next === 'ask';
    t.equal(action === 'hold', asks, `source ${state}: ${what}: ${action}, ${next}`);
    t.equal(runs.includes(action), !asks);
  }
  // Which is why a source's record goes after its domain: a domain without one goes on.
  t.ok(runs.includes(verdictAtStart(undefined, suspended, resealed)));
  t.end();
});

test('a pair that is in no table is refused', (t) => {
  t.throws(() => nextOfSource('reserve', 'committed'));
  t.throws(() => nextOfTarget('committed', 'expired'));
  for (const table of [sourceTable, targetTable]) {
    const pairs = (table as readonly (readonly string[])[]).map(([state, event]) => `${state} ${event}`);
    t.equal(new Set(pairs).size, pairs.length, 'no pair twice');
  }
  t.end();
});
