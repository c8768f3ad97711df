/** The coordinator over simulated connections: every row, its failure, a wish to stop, a kill, and what the forecast says before. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { MemoryMoves } from '../../../bench/migration/moving.ts';
import { JournalledMoves, type MoveRecord } from '../../../src/migrate/paths-journal.ts';
import { planPaths } from '../../../src/migrate/paths-plan.ts';
import { allows, isBack, isEnd, nextState, states, table, type MoveKind, type MoveState } from '../../../src/migrate/paths-table.ts';
import { PathCoordinator, type CoordinatorOptions, type Waypoints } from '../../../src/migrate/paths.ts';
import { PathAgent } from '../../../src/mptcp/agent.ts';
import { SimulatedMptcp, type Peer } from '../../../src/mptcp/simulated.ts';
import { ShoalError } from '../../../src/model/errors.ts';

const [w1, w2] = ['192.0.2.1', '198.51.100.1'];
const kinds: MoveKind[] = ['make-before-break', 'break-before-make'];

/** Two hosts that know who runs; a kill is a throw that nothing catches but the test. */
class Hosts implements Waypoints {
  source: 'runs' | 'suspended' | 'gone' = 'runs';
  target: 'none' | 'holds' | 'runs' = 'none';
  buried = false;
  calls: string[] = [];
  fails = new Map<string, ShoalError>();

  #do(name: string, work: () => void): Promise<void> {
    this.calls.push(name);
    const error = this.fails.get(name);
    if (error !== undefined) return Promise.reject(error);
    work();
    return Promise.resolve();
  }

  copy = (): Promise<void> => this.#do('copy', () => (this.target = 'runs'));
  hold = (): Promise<void> => this.#do('hold', () => (this.target = 'holds'));
  suspend = (): Promise<void> => this.#do('suspend', () => (this.source = 'suspended'));
  start = (): Promise<void> => this.#do('start', () => (this.target = 'runs'));
  bury = (): Promise<void> => this.#do('bury', () => (this.buried = true));
  revive = (): Promise<void> =>
    this.#do('revive', () => {
      this.buried = false;
      this.source = 'runs';
    });
  discard = (): Promise<void> => this.#do('discard', () => (this.target = 'none'));
  release = (): Promise<void> => this.#do('release', () => (this.source = 'gone'));
}

function rig(peers: Peer[] = ['joins', 'joins'], more: Partial<CoordinatorOptions> = {}) {
  const port = new SimulatedMptcp();
  const tokens = peers.map((peer, i) => port.connect({ address: w1, port: 443 }, { address: `10.0.0.${i + 1}`, port: 40_000 + i }, peer));
  const agent = new PathAgent({ port, policy: { addresses: undefined, maxSubflows: 4 }, log: () => {}, leaveMs: 5 });
  const hosts = new Hosts();
  const store = new MemoryMoves();
  const options: CoordinatorOptions = { sides: [agent], waypoints: hosts, store, log: () => {}, now: () => performance.now(), joinMs: 60, tellMs: 0, drainMs: 60, patienceMs: 60, lookMs: 2, ...more };
  return { port, tokens, agent, hosts, store, options, coordinator: new PathCoordinator(options) };
}
type Rig = ReturnType<typeof rig>;

const move = (kind: MoveKind, leave = false) => ({ id: 'm', kind, from: w1, to: w2, leave });

/** Exactly one waypoint runs, and every connection has its path there, not as a backup. */
function settled({ hosts, port, store }: Rig, at: 'source' | 'target'): string {
  const [address, other] = at === 'source' ? [w1, w2] : [w2, w1];
  if (store.open().length > 0) return 'a move is left open';
  if (at === 'source' ? hosts.source !== 'runs' || hosts.target !== 'none' || hosts.buried : hosts.source !== 'gone' || hosts.target !== 'runs' || !hosts.buried) return JSON.stringify(hosts);
  for (const { token, subflows, announced } of port.connections()) {
    if (!subflows.some((one) => one.local.address === address && !one.backup)) return `connection ${token} has no path over ${address}`;
    if (subflows.some((one) => one.local.address === other)) return `connection ${token} still has one over ${other}`;
    if (announced.some((one) => one.address === other)) return `connection ${token} still knows ${other}`;
  }
  return 'settled';
}

test('the table: every state has its way to an end, and no state is left out', (t) => {
  for (const state of states) {
    if (isEnd(state)) t.notOk(table.some(([from]) => from === state), `${state} is an end`);
    else {
      let at: MoveState = state;
      for (let steps = 0; !isEnd(at) && steps < 30; steps++) at = nextState(at, 'done');
      t.ok(isEnd(at), `${state} ends, ${at}`);
    }
    if (!isEnd(state)) t.ok(table.some(([, , to]) => to === state) || state === 'planned', `${state} is reached`);
  }
  const pairs = table.map(([state, event]) => `${state} ${event}`);
  t.equal(new Set(pairs).size, pairs.length, 'no pair twice');
  t.notOk(allows('releasing', 'abort') || allows('releasing', 'failed'), 'once the source is released there is no way back');
  t.throws(() => nextState('moved', 'done'), /cannot take/, 'an end takes nothing');
  t.end();
});

for (const kind of kinds)
  test(`${kind}: moved, in this order, with nothing left behind`, async (t) => {
    const r = rig();
    const { record, left, took } = await r.coordinator.move(move(kind));
    t.equal(record.state, 'moved');
    t.equal(left, 0, 'no connection was left');
    t.equal(settled(r, 'target'), 'settled');
    t.deepEqual(r.hosts.calls, kind === 'make-before-break' ? ['copy', 'suspend', 'bury', 'release'] : ['hold', 'suspend', 'start', 'bury', 'release'], 'the hosts, in order');
    t.equal(took.length, r.store.saved.length - 1, 'each state was saved before its effect');
    const withdrawn = r.port.calls.findIndex((call) => call.startsWith('withdraw'));
    t.ok(r.port.calls.findIndex((call) => call.startsWith('announce')) < withdrawn && withdrawn > 0, 'announced before withdrawn');
    t.end();
  });

test('an address is taken back gently where its waypoint still runs, and only there', async (t) => {
  const r = rig();
  const withdraw = r.agent.withdraw.bind(r.agent);
  const taken: string[] = [];
  r.agent.withdraw = (what) => {
    taken.push(`${what.address === w1 ? 'old' : 'new'} ${what.gently === true ? 'gently' : 'at once'}, target ${r.hosts.target}, source ${r.hosts.source}`);
    return withdraw(what);
  };
  r.hosts.fails.set('suspend', new ShoalError('HOST_NOT_ENOUGH_FREE_MEMORY', 'a test'));
  t.equal((await r.coordinator.move(move('make-before-break'))).record.state, 'stayed');
  t.deepEqual(taken.splice(0), ['new gently, target runs, source runs', 'new at once, target none, source runs'], 'back');
  r.hosts.fails.clear();
  t.equal((await r.coordinator.move({ ...move('make-before-break'), id: 'again' })).record.state, 'moved');
  t.deepEqual(taken, ['old at once, target runs, source suspended'], 'on');
  t.end();
});

test('break before make: the source still carries what it announces', async (t) => {
  const r = rig(['joins'], { tellMs: 80 });
  const announce = r.agent.announce.bind(r.agent);
  let toldMs = 0;
  r.agent.announce = (order) => {
    toldMs = performance.now();
    return announce(order);
  };
  let stoppedMs = 0;
  const suspend = r.hosts.suspend;
  r.hosts.suspend = () => {
    stoppedMs = performance.now();
    return suspend();
  };
  t.equal((await r.coordinator.move(move('break-before-make'))).record.state, 'moved');
  t.ok(toldMs > 0 && stoppedMs - toldMs >= 75, 'it is stopped a while after');
  t.end();
});

for (const kind of kinds) {
  const way = (): MoveState[] => {
    const list: MoveState[] = [];
    for (let at = nextState('planned', kind === 'break-before-make' ? 'break' : 'done'); !isEnd(at); at = nextState(at, 'done')) list.push(at);
    return list;
  };

  for (const state of way())
    test(`${kind}: asked to stop while ${state}`, async (t) => {
      const r = rig();
      const save = r.store.save.bind(r.store);
      let refused = '';
      r.store.save = async (record: MoveRecord) => {
        await save(record);
        if (record.state !== state) return;
        try {
          r.coordinator.abort('m', 'a test');
        } catch (error) {
          refused = (error as ShoalError).code;
        }
      };
      const { record } = await r.coordinator.move(move(kind));
      if (state === 'releasing') {
        t.equal(refused, 'OPERATION_NOT_ALLOWED', 'too late');
        t.equal(settled(r, 'target'), 'settled', 'it went on');
      } else {
        t.equal(record.state, 'stayed');
        t.equal(record.why, 'a test');
        t.equal(settled(r, 'source'), 'settled', 'everything is as it was');
      }
      t.end();
    });

  for (const state of [...way(), 'reviving', 'returning', 'promoting', 'retracting', 'discarding'] as MoveState[])
    test(`${kind}: the coordinator is killed while ${state}, before and after its effect`, async (t) => {
      for (const after of [false, true]) {
        const r = rig();
        const save = r.store.save.bind(r.store);
        let dead = false;
        if (isBack(state)) r.hosts.fails.set('bury', new ShoalError('HOST_LIMIT', 'a test'));
        r.store.save = async (record: MoveRecord) => {
          if (dead) throw new Error('killed');
          // Killed after the effect: the next state never got to disk.
          const done = after && r.store.saved.at(-1) === state;
          if (!done) await save(record);
          if (done || (!after && record.state === state)) {
            dead = true;
            throw new Error('killed');
          }
        };
        await r.coordinator.move(move(kind)).then(() => t.fail('it was to be killed'), () => {});
        const { state: found } = r.store.open()[0]!;
        t.equal(found, state, `found ${state}`);
        dead = false;
        r.store.save = save;
        r.hosts.fails.clear();
        const [outcome] = await new PathCoordinator(r.options).resume();
        const back = isBack(state) || ['copying', 'announcing', 'joining', 'demoting', 'draining', 'holding', 'announcing-early'].includes(state);
        t.equal(outcome!.record.state, back ? 'stayed' : 'moved', back ? 'back' : 'on');
        t.equal(settled(r, back ? 'source' : 'target'), 'settled');
      }
      t.end();
    });

  test(`${kind}: a join that comes through after the way back took the address, before the target is gone`, async (t) => {
    const r = rig();
    r.hosts.fails.set('bury', new ShoalError('HOST_LIMIT', 'a test'));
    const discard = r.hosts.discard;
    r.hosts.discard = () => {
      r.port.joinLate(r.tokens[0]!, w2, { ended: false });
      return discard();
    };
    const { record } = await r.coordinator.move(move(kind));
    t.equal(record.state, 'stayed');
    t.equal(settled(r, 'source'), 'settled', 'no path leads to where nothing is');
    t.end();
  });

  for (const [call, goes] of [['copy', 'back'], ['hold', 'back'], ['suspend', 'back'], ['start', 'back'], ['bury', 'back'], ['release', 'on']] as const)
    test(`${kind}: the host refuses to ${call}`, async (t) => {
      const r = rig();
      r.hosts.fails.set(call, new ShoalError('HOST_NOT_ENOUGH_FREE_MEMORY', 'a test'));
      if (goes === 'on') {
        await r.coordinator.move(move(kind)).then(() => t.fail('it cannot end'), (error: ShoalError) => t.equal(error.code, 'HOST_NOT_ENOUGH_FREE_MEMORY', 'it says so'));
        r.hosts.fails.clear();
        await r.coordinator.resume();
        t.equal(settled(r, 'target'), 'settled', 'and is ended later');
      } else {
        const { record } = await r.coordinator.move(move(kind));
        const used = r.hosts.calls.includes(call);
        t.equal(settled(r, used ? 'source' : 'target'), 'settled', used ? 'back' : 'never asked');
        if (used) t.match(record.why!, /a test/, 'and why');
      }
      t.end();
    });
}

test('a host that is away for a moment is waited for, one that stays away is not', async (t) => {
  const r = rig();
  r.hosts.fails.set('suspend', new ShoalError('HOST_AWAY', 'a test'));
  const asked = (): number => r.hosts.calls.filter((call) => call === 'suspend').length;
  const back = setInterval(() => void (asked() > 1 && r.hosts.fails.clear()), 1);
  t.equal((await r.coordinator.move(move('make-before-break'))).record.state, 'moved');
  clearInterval(back);
  t.ok(asked() > 1, 'asked again');
  const away = rig();
  away.hosts.fails.set('suspend', new ShoalError('HOST_AWAY', 'a test'));
  t.equal((await away.coordinator.move(move('make-before-break'))).record.state, 'stayed');
  t.equal(settled(away, 'source'), 'settled');
  t.end();
});

test('a peer that does not join: the move goes back, or leaves it behind when told to', async (t) => {
  const r = rig(['joins', 'refuses']);
  const { record } = await r.coordinator.move(move('make-before-break'));
  t.equal(record.state, 'stayed');
  t.match(record.why!, /PATHS_LOST: 1 connection did not join/, 'and says why');
  t.equal(settled(r, 'source'), 'settled', 'nothing was lost');
  t.notOk(r.hosts.calls.includes('suspend'), 'the source was never touched');
  const leaving = rig(['joins', 'refuses']);
  const outcome = await leaving.coordinator.move(move('make-before-break', true));
  t.equal(outcome.record.state, 'moved');
  t.equal(outcome.left, 1, 'one was left behind, knowingly');
  const late = rig(['waits']);
  const moving = late.coordinator.move(move('make-before-break'));
  setTimeout(() => late.port.join(late.tokens[0]!), 20);
  t.equal((await moving).record.state, 'moved', 'one that takes its time is waited for');
  t.end();
});

test('a join that was lost while no agent listened: the address is announced anew', async (t) => {
  const r = rig(['refuses'], { joinMs: 200 });
  const announce = r.port.announce.bind(r.port);
  let told = 0;
  r.port.announce = (token, what) => {
    announce(token, what);
    if (++told === 2) r.port.join(token);
  };
  t.equal((await r.coordinator.move(move('make-before-break'))).record.state, 'moved');
  t.equal(told, 2, 'told twice');
  t.end();
});

test('going back after the tombstone: paths that may be dead at the other end are made anew', async (t) => {
  const r = rig();
  const save = r.store.save.bind(r.store);
  r.store.save = async (record: MoveRecord) => {
    await save(record);
    if (record.state === 'burying') r.coordinator.abort('m');
  };
  const { record } = await r.coordinator.move(move('make-before-break'));
  t.equal(record.state, 'stayed');
  t.ok(r.port.connections().every(({ subflows }) => subflows.every(({ localId }) => localId !== 0)), 'no subflow from before is trusted');
  t.equal(settled(r, 'source'), 'settled');
  t.end();
});

test('a connection that begins while others join is told, too', async (t) => {
  const r = rig(['waits'], { joinMs: 2_000 });
  const moving = r.coordinator.move(move('make-before-break'));
  setTimeout(() => {
    r.port.connect({ address: w1, port: 443 }, { address: '10.0.0.9', port: 49_000 });
    r.port.join(r.tokens[0]!);
  }, 15);
  t.equal((await moving).record.state, 'moved');
  t.equal(r.port.calls.filter((call) => call === `withdraw ${r.tokens[0]! + 1}`).length, 1, 'once, without taking anything back first');
  t.equal(settled(r, 'target'), 'settled');
  t.end();
});

test('the old subflow is drained before the source stops', async (t) => {
  const r = rig(['joins'], { drainMs: 2_000 });
  let carried = 0;
  const timer = setInterval(() => {
    if (carried++ < 10) r.port.carry(r.tokens[0]!, w1, 1000);
  }, 3);
  const suspend = r.hosts.suspend;
  let at = 0;
  r.hosts.suspend = () => {
    at = carried;
    return suspend();
  };
  await r.coordinator.move(move('make-before-break'));
  clearInterval(timer);
  t.ok(at >= 10, 'bytes that were under way came first');
  t.end();
});

test('one move at a time over an address', async (t) => {
  const r = rig(['waits']);
  const first = r.coordinator.move(move('make-before-break'));
  const code = (work: Promise<unknown>): Promise<string> => work.then(() => 'none', (error: ShoalError) => error.code);
  await new Promise((done) => setTimeout(done, 5));
  t.equal(await code(r.coordinator.move(move('make-before-break'))), 'CONFLICT', 'the same');
  t.equal(await code(r.coordinator.move({ ...move('make-before-break'), id: 'n', from: w2, to: '203.0.113.1' })), 'CONFLICT', 'another one from where it goes');
  t.equal(await code(r.coordinator.move({ ...move('make-before-break'), id: 'n', to: w1 })), 'REQUEST_INVALID', 'to where it is');
  t.throws(() => r.coordinator.abort('other'), /No move/, 'one that is not there cannot be stopped');
  r.coordinator.abort('m');
  t.equal((await first).record.state, 'stayed', 'a wish to stop ends the wait for joins');
  t.end();
});

test('the journal keeps what is under way and forgets what ended', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-moves-'));
  const path = join(folder, 'moves.journal');
  const first = await JournalledMoves.open(path);
  const record: MoveRecord = { id: 'a', kind: 'make-before-break', from: w1, to: w2, state: 'joining', leave: false };
  await first.save(record);
  await first.save({ ...record, id: 'b', state: 'joining' });
  await first.save({ ...record, id: 'b', state: 'moved' });
  await first.close();
  const second = await JournalledMoves.open(path);
  t.deepEqual(second.open(), [record], 'one is under way');
  await second.close();
  rmSync(folder, { recursive: true });
  t.end();
});

test('the forecast says beforehand what will not survive', async (t) => {
  const r = rig(['joins', 'joins', 'joins']);
  r.port.plainConnections.push({ local: { address: w1, port: 443 }, remote: { address: '10.0.0.7', port: 7 } }, { local: { address: '203.0.113.1', port: 443 }, remote: { address: '10.0.0.8', port: 8 } });
  await r.agent.announce({ address: w2, from: w1, tokens: [r.tokens[0]!] });
  const status = await r.agent.status({ from: w1, to: w2 });
  const facts = { status, kind: 'make-before-break' as const, addressMoves: false, stateMoves: true, maxSubflows: 4, refused: new Set(['10.0.0.2']) };
  const verdicts = (more: Partial<typeof facts> = {}): string[] => planPaths({ ...facts, ...more }).forecasts.map(({ verdict }) => verdict);
  t.deepEqual(verdicts(), ['survives', 'lost', 'unsure', 'lost'], 'joined already; refused before; to be seen; plain TCP');
  t.deepEqual(verdicts({ addressMoves: true }), ['survives', 'survives', 'survives', 'survives'], 'within one subnet all of them');
  t.deepEqual(verdicts({ addressMoves: true, stateMoves: false }), ['survives', 'lost', 'unsure', 'lost'], 'but not without the flows that the waypoint knows');
  t.deepEqual(verdicts({ maxSubflows: 1 }), ['survives', 'lost', 'lost', 'lost'], 'no room for another subflow');
  t.deepEqual(planPaths(facts).counts, { survives: 1, unsure: 1, lost: 2 });
  t.end();
});
