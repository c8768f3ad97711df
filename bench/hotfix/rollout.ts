/**
 * `hotfix`, the controller's part: a service over two hosts in memory, which answer at once, goes from one release to the next in hot-fix
 * mode. What is left is what the controller itself costs: planning, the ledger, gates, calls.
 *
 * By itself: `node --import tsx bench/hotfix/rollout.ts [COPIES...]`.
 */
import { pathToFileURL } from 'node:url';
import { Fleet } from '../../src/control/fleet.ts';
import type { Probes } from '../../src/control/gates.ts';
import { FakeHost } from '../../src/control/links/fake.ts';
import { Rollouts } from '../../src/control/rollouts.ts';
import { readSpec } from '../../src/control/schema.ts';
import { Services } from '../../src/control/services.ts';
import { State } from '../../src/control/state.ts';
import { MemoryStore } from '../../src/control/store.ts';
import { Tasks } from '../../src/control/tasks.ts';
import type { Desired } from '../../src/model/desired.ts';
import type { Digest } from '../../src/model/ids.ts';

export interface RolloutSample {
  copies: number;
  address: 'new' | 'move';
  /** From the push taken in to the last copy of the old release gone. */
  replacedMs: number;
  cpuMs: number;
  /** Plans that were made. */
  cycles: number;
}

const patienceMs = 300_000;
const probes: Probes = { icmp: async () => true, http: async () => 200, udp: async () => true, command: async () => undefined };

function desiredOf(counter: number, copies: number, address: RolloutSample['address']): Desired {
  const digest = `sha256:${String(counter).repeat(64)}` as Digest;
  const { spec } = readSpec({ tenant: 'bench', name: 'web', image: digest, count: copies, memoryKib: 4096 });
  return {
    commit: String(counter).repeat(40),
    services: [
      {
        spec: spec!,
        release: {
          format: 'shoal-release-1',
          tenant: 'bench',
          service: 'web',
          counter,
          image: { name: 'web', version: '1', digest, sizeBytes: 1, source: { commit: String(counter).repeat(40), digest, dirty: false }, compiler: '', recipe: '' },
          created: '2026-01-01T00:00:00Z',
          expires: '2099-01-01T00:00:00Z',
        },
        rollout: {
          mode: 'hot-fix',
          canary: 1,
          waves: [100],
          observeMs: 0,
          budget: copies,
          gates: [
            { kind: 'ready', withinMs: 60_000 },
            { kind: 'icmp', timesInRow: 1, timeoutMs: 1000 },
          ],
          failuresAllowed: 0,
          onFailure: 'rollback',
          replace: { address, drainMs: 0 },
        },
      },
    ],
  };
}

export async function measureRollout(copies: number, address: RolloutSample['address']): Promise<RolloutSample> {
  const hosts = new Map(['a', 'b'].map((name) => [name, new FakeHost(name, { totalKib: 1024 * 1024 * 1024 })]));
  const state = await State.open(new MemoryStore());
  for (const name of hosts.keys())
    await state.write([state.set('host', name, { name, url: `https://${name}`, credential: name, labels: {}, drained: false, dead: false, maxVifs: 100_000 })]);
  const fleet = new Fleet({ state, graceMs: 60_000, link: ({ name }) => hosts.get(name)!.link() });
  const services = new Services(fleet, new Tasks(fleet.changes, Date.now));
  const rollouts = new Rollouts({ fleet, services, probes });
  fleet.open();
  try {
    const run = async (counter: number): Promise<void> => {
      const desired = desiredOf(counter, copies, address);
      const image = desired.services[0]!.spec.image;
      const endsMs = performance.now() + patienceMs;
      await rollouts.begin(desired);
      const isThere = (): boolean =>
        rollouts.status('bench', 'web').state === 'done' &&
        [...hosts.values()].every((host) => [...host.vms.values()].every((vm) => vm.image === image)) &&
        [...hosts.values()].reduce((sum, host) => sum + host.vms.size, 0) === copies;
      while (!isThere()) {
        if (performance.now() > endsMs) throw new Error(`release ${counter} was not everywhere within ${patienceMs} ms`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };
    await run(1);
    const cycles = fleet.stats.cycles;
    const [beganMs, cpu] = [performance.now(), process.cpuUsage()];
    await run(2);
    const { user, system } = process.cpuUsage(cpu);
    return {
      copies,
      address,
      replacedMs: Math.round(performance.now() - beganMs),
      cpuMs: Math.round((user + system) / 1000),
      cycles: fleet.stats.cycles - cycles,
    };
  } finally {
    rollouts.close();
    await fleet.close();
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const sizes = process.argv.slice(2).map(Number);
  for (const copies of sizes.length > 0 ? sizes : [1000, 4000])
    for (const address of ['new', 'move'] as const) console.log(JSON.stringify(await measureRollout(copies, address)));
}
