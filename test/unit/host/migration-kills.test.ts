/**
 * kill -9 of either agent before and after each single thing it does while a VM moves: each call of the hypervisor, each entry of the journal. The VM was on both
 * hosts before, so that both journals have a history of it. Whatever the instant, in the end one of it runs, and there are never two.
 */
import test from 'tape';
import type { Hypervisor, MemoryWriter } from '../../../src/hypervisor/port.ts';
import type { SimHypervisor } from '../../../src/hypervisor/sim/sim.ts';
import type { Entry } from '../../../src/journal/journal.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { World } from './migration-rig.ts';
import { codeOf, until } from './rig.ts';

const never = <T>(): Promise<T> => new Promise<T>(() => {});
const watched: readonly string[] = ['cpuFeatures', 'create', 'sealEarly', 'register', 'attachVif', 'seal', 'unpause', 'suspend', 'resume', 'destroy', 'get'];

/** What one agent does, one thing after the other. At one of them it ends, and nothing it does afterwards happens. */
class Life {
  /** Names of what it did since it was watched. */
  readonly seen: string[] = [];
  #dead = false;
  #watched = false;
  #at = 0;
  #after = false;
  #kill = (): void => {};

  /** `at` counts from 1. */
  watch(at: number, after: boolean, kill: () => void): void {
    [this.#watched, this.#at, this.#after, this.#kill] = [true, at, after, kill];
  }

  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    if (!this.#watched) return work();
    const here = !this.#dead && this.seen.push(name) === this.#at;
    if (here && !this.#after) this.#end();
    if (this.#dead) return never();
    const value = await work();
    if (here) this.#end();
    return this.#dead ? never() : value;
  }

  #end(): void {
    this.#dead = true;
    this.#kill();
  }
}

/** A world whose agents' lives are known. */
class Watched extends World {
  readonly #lives = new Map<SimHypervisor, Life>();

  async begin(): Promise<this> {
    return this.open({}, {}, (sim) => {
      const life = new Life();
      this.#lives.set(sim, life);
      return new Proxy<Hypervisor>(sim, {
        get: (_, name) => {
          const value: unknown = Reflect.get(sim, name);
          if (typeof value !== 'function') return value;
          const work = (...args: unknown[]): unknown => Reflect.apply(value, sim, args);
          if (name === 'writeMemory') return (...args: unknown[]) => writerOf(work(...args) as MemoryWriter, life);
          return watched.includes(String(name)) ? (...args: unknown[]) => life.run(String(name), () => work(...args) as Promise<unknown>) : work;
        },
      });
    });
  }

  /** From now on. */
  watch(who: 'source' | 'target', at: number, after: boolean): { seen: readonly string[]; killed: Promise<void> } {
    const { sim, agent } = this[who];
    const life = this.#lives.get(sim)!;
    const journal = agent.fleet.journal!;
    const append = journal.append.bind(journal);
    journal.append = (entry: Entry) => life.run(`journal ${Object.keys(entry).join(', ')}`, () => append(entry));
    const killed = new Promise<void>((resolve, reject) => {
      life.watch(at, after, () => void (who === 'source' ? this.killSource() : this.killTarget()).then(resolve, reject));
    });
    return { seen: life.seen, killed };
  }
}

function writerOf(writer: MemoryWriter, life: Life): MemoryWriter {
  return { piece: (bytes) => writer.piece(bytes), end: (state, whole) => life.run('end of the memory', () => writer.end(state, whole)), close: () => writer.close() };
}

interface Outcome {
  /** What was done, up to where it was killed. */
  seen: readonly string[];
  /** Where it runs now; or what is wrong. */
  where: string;
}

async function moveWithKill(who: 'source' | 'target', at: number, after: boolean, live: boolean): Promise<Outcome> {
  const world = await new Watched().begin();
  try {
    const { uuid } = await world.launch();
    await world.send(world.source.agent.fleet.need(uuid));
    await world.settled(uuid, 'there');
    await world.back(uuid);
    await world.settled(uuid, 'back');
    await until(() => world.source.agent.arrivals.committed.size + world.target.agent.arrivals.committed.size === 0, 'both have forgotten');
    const { seen, killed } = world.watch(who, at, after);
    const sent = codeOf(world.send(world.source.agent.fleet.need(uuid), { live }));
    // Without a kill what it did last comes after the answer.
    if (at === 0) await sent.then(() => new Promise((resolve) => setTimeout(resolve, 100)));
    else await Promise.race([killed, sent.then(() => new Promise((_, reject) => setTimeout(() => reject(new Error('it was never killed')), 2000).unref()))]);
    await world.settled(uuid, 'killed');
    // Whoever has it has it for good: of the other nothing comes to life any more, nor of what the next agents are told.
    await world.killSource();
    await world.killTarget();
    await world.settled(uuid, 'both killed once more');
    return { seen: [...seen], where: world.target.agent.fleet.get(uuid) === undefined ? 'here' : 'there' };
  } finally {
    await world.close();
  }
}

const atOnce = 6;

for (const [who, live, decisive] of [
  ['source', false, 'destroy'],
  ['target', false, 'journal put, arrived'],
  ['source', true, 'destroy'],
] as const) {
  test(`kill -9 of the ${who} before and after each thing it does${live ? ', live' : ''}: one runs`, async (t) => {
    const { seen } = await moveWithKill(who, 0, false, live);
    t.ok(seen.includes(decisive), seen.join('; '));
    const left = seen.flatMap((name, i) => [false, true].map((after) => ({ at: i + 1, name, after })));
    const worker = async (): Promise<void> => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        const { at, name, after } = next;
        const { where } = await moveWithKill(who, at, after, live).catch((error: Error): Outcome => ({ seen: [], where: error.message }));
        const label = `${after ? 'after' : 'before'} ${name}, its ${at}. of ${seen.length}: ${where}`;
        const decision = seen.indexOf(decisive) + 1;
        if (who === 'target') t.equal(where, at > decision || (at === decision && after) ? 'there' : 'here', label);
        else t.ok(where === 'here' || where === 'there', label);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
  });
}

test('a source whose domain cannot be destroyed keeps its record until it is: the next agent asks again', async (t) => {
  const world = await new World().open();
  const vm = await world.launch();
  world.source.sim.failStep('destroy', new ShoalError('SWITCH_UNAVAILABLE', 'as arranged'), { times: 1000 });
  void world.send(vm).catch(() => {});
  await until(() => world.target.agent.fleet.get(vm.uuid)?.power === 'Running', 'it runs there');
  await until(() => world.source.sim.trail.filter((step) => step.startsWith('destroy')).length > 1, 'tried again');
  const { running, known } = await world.count(vm.uuid);
  t.deepEqual([running, known], [1, 2], 'suspended here, and known to be in doubt');
  await world.killSource();
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal((await world.count(vm.uuid)).running, 1, 'the next agent does not let it go on');
  await world.close();
});

test('a VM on its way here is not kept, whoever asks for that', async (t) => {
  const world = await new World().open();
  const vm = await world.launch();
  let code = '';
  world.hook = async (moment) => {
    if (moment !== 'target filled') return;
    world.hook = () => {};
    const { fleet } = world.target.agent;
    code = await codeOf(fleet.keep(fleet.need(vm.uuid)));
    await world.killTarget();
    await never();
  };
  await codeOf(world.send(vm));
  t.equal(code, 'OTHER_OPERATION_IN_PROGRESS');
  await world.settled(vm.uuid, 'killed');
  t.equal(world.target.agent.fleet.size, 0, 'nothing of it is there');
  await world.close();
});
