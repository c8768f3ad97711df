/**
 * What every adapter of hypervisor/port.ts promises, as tests: over the simulator on any machine (sim.test.ts), over Xen inside
 * dom0 (xen.ts, run by test/e2e/agent.test.ts). Domains made here have uuids of ours, so whatever a failing case leaves is
 * cleared by the next agent.
 */
import test from 'tape';
import type { DomainConfig, DomainFacts, Hypervisor } from '../../src/hypervisor/port.ts';
import { ShoalError } from '../../src/model/errors.ts';
import { asDomid, type Domid } from '../../src/model/ids.ts';
import type { KernelImage } from '../../src/model/kernel.ts';
import { newVmUuid } from '../../src/model/uuid.ts';

export interface ContractWorld {
  hypervisor: Hypervisor;
  /** A guest that prints `greeting` as it boots and powers off when asked. */
  image: KernelImage;
  greeting: string;
  network: string;
  /** An address on it that nobody uses. */
  address: string;
  memoryKib: number;
  /** Takes a domain away behind the adapter's back. */
  lose(domid: Domid): Promise<void>;
  /** Right after a guest began to run: where guests do nothing by themselves, what this one does. */
  boots(domid: Domid): void;
}

const steps = ['create', 'build', 'register', 'attachVif', 'seal', 'unpause'] as const;
type Step = (typeof steps)[number];

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    return error instanceof ShoalError ? error.code : `not a ShoalError: ${String(error)}`;
  }
}

async function until(condition: () => Promise<boolean> | boolean, timeoutMs = 30_000): Promise<boolean> {
  for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await new Promise((resolve) => setTimeout(resolve, 20))) {
    if (await condition()) return true;
  }
  return false;
}

/** What one sees who looks at a domain whenever, and only when, onChange says so: "7 running", "7 gone". */
function lookingAgain(hypervisor: Hypervisor): { seen: string[]; stop: () => void } {
  const seen: string[] = [];
  const stop = hypervisor.onChange(
    (domid) => void hypervisor.get(domid).then((domain) => seen.push(`${domid} ${domain?.state ?? 'gone'}`)),
  );
  return { seen, stop };
}

export function contract(name: string, open: () => Promise<ContractWorld>): void {
  let serial = 0;
  const configOf = (world: ContractWorld, more: Partial<DomainConfig> = {}): DomainConfig => {
    const n = ++serial;
    return {
      uuid: newVmUuid(),
      name: `contract-${n}`,
      memoryKib: world.memoryKib,
      image: world.image,
      cmdline: `name=contract-${n} ip=${world.address}/16 gw=10.64.0.1`,
      vifs: [
        { handle: 0, mac: `00:16:3e:ff:00:${n.toString(16).padStart(2, '0')}`, network: world.network, ipv4: [world.address] },
      ],
      ...more,
    };
  };
  const upTo = async (world: ContractWorld, last: Step, config: DomainConfig, record = '{"v":1}'): Promise<Domid> => {
    const { hypervisor } = world;
    const domid = await hypervisor.create(config);
    const work: Record<Exclude<Step, 'create'>, () => Promise<void>> = {
      build: () => hypervisor.build(domid, config),
      register: () => hypervisor.register(domid, config),
      attachVif: async () => {
        for (const vif of config.vifs) await hypervisor.attachVif(domid, vif);
      },
      seal: () => hypervisor.seal(domid, record),
      unpause: async () => {
        await hypervisor.unpause(domid);
        world.boots(domid);
      },
    };
    for (const step of steps.slice(1, steps.indexOf(last) + 1)) await work[step as Exclude<Step, 'create'>]();
    return domid;
  };
  const it = (what: string, work: (t: test.Test, world: ContractWorld) => Promise<void>): void => {
    test(`${name}: ${what}`, async (t) => {
      const world = await open();
      const before = new Set((await world.hypervisor.list()).map(({ domid }) => domid));
      try {
        await work(t, world);
      } finally {
        for (const { domid, ours } of await world.hypervisor.list()) {
          if (!ours || before.has(domid)) continue;
          t.fail(`domain ${domid} was left behind`);
          await world.hypervisor.destroy(domid);
        }
        await world.hypervisor.close();
      }
    });
  };

  it('the facts of the host make sense', async (t, { hypervisor, network }) => {
    const facts = await hypervisor.facts();
    t.ok(
      facts.version.length > 0 && facts.cpuCount >= 1 && facts.totalKib >= facts.freeKib && facts.freeKib > 0,
      JSON.stringify(facts),
    );
    t.equal(facts.domainCount, (await hypervisor.list()).length + 1, 'dom0 is counted, and not listed');
    t.ok(hypervisor.networks().includes(network), 'the network is known');
  });

  it('a domain is whole once it is sealed, and says so for as long as it lives', async (t, world) => {
    const { hypervisor } = world;
    const config = configOf(world);
    const domid = await upTo(world, 'attachVif', config);
    const seen = async (): Promise<DomainFacts | undefined> => {
      const [one, listed] = [await hypervisor.get(domid), (await hypervisor.list()).find((d) => d.domid === domid)];
      t.deepEqual(
        [one?.state, one?.sealed, one?.record, one?.uuid],
        [listed?.state, listed?.sealed, listed?.record, listed?.uuid],
        'get and list agree',
      );
      return one;
    };
    const half = await seen();
    t.deepEqual(
      [half?.uuid, half?.ours, half?.sealed, half?.record, half?.state],
      [config.uuid, true, false, '', 'paused'],
      'half built',
    );
    t.ok(half!.memoryKib >= world.memoryKib - world.image.sharedBytes / 1024, 'it has its memory, but for what it shares');
    t.notEqual(await codeOf(hypervisor.seal(domid, '')), 'none', 'an empty record is refused');
    t.notEqual(await codeOf(hypervisor.seal(domid, 'x'.repeat(2049))), 'none', 'a record that is too long is refused');
    t.equal((await seen())?.sealed, false, 'and seals nothing');
    const record = `{"v":1,"text":"é ${'x'.repeat(2031)}"}`.slice(0, 2046);
    await hypervisor.seal(domid, record.padEnd(2048 - Buffer.byteLength(record) + record.length, ' '));
    t.equal((await seen())?.record.trimEnd(), record.trimEnd(), 'the record is given back whole');
    await hypervisor.unpause(domid);
    t.equal((await seen())?.state, 'running');
    await hypervisor.destroy(domid);
    t.equal(await hypervisor.get(domid), undefined, 'gone');
  });

  it('destroy takes a domain away after any step, twice if need be, with all it took', async (t, world) => {
    const { hypervisor } = world;
    await hypervisor.destroy(await upTo(world, 'unpause', configOf(world)));
    const before = await hypervisor.facts();
    for (const step of steps) {
      const domid = await upTo(world, step, configOf(world));
      await hypervisor.destroy(domid);
      t.equal(await hypervisor.get(domid), undefined, `after ${step}`);
      t.equal(await codeOf(hypervisor.destroy(domid)), 'none', 'again');
    }
    const after = await hypervisor.facts();
    t.equal(after.domainCount, before.domainCount, 'as many domains as before');
    t.ok(before.freeKib - after.freeKib < 512, `free memory as before: ${before.freeKib - after.freeKib} KiB less`);
  });

  it('pause, unpause, and a shutdown that the guest is asked for', async (t, world) => {
    const { hypervisor } = world;
    const { seen, stop } = lookingAgain(hypervisor);
    const domid = await upTo(world, 'unpause', configOf(world));
    await hypervisor.pause(domid);
    t.equal((await hypervisor.get(domid))?.state, 'paused');
    await hypervisor.unpause(domid);
    t.equal((await hypervisor.get(domid))?.state, 'running');
    // A guest that has only just begun may not listen yet; the request stays until it does.
    await hypervisor.requestShutdown(domid, 'poweroff');
    t.ok(await until(() => seen.includes(`${domid} shutdown`)), 'onChange says: look at it, and it shut down');
    t.equal((await hypervisor.get(domid))?.sealed, true, 'it is still a whole domain of ours');
    await hypervisor.destroy(domid);
    stop();
  });

  it('a domain that vanished is news, and no error to destroy', async (t, world) => {
    const { hypervisor } = world;
    const { seen, stop } = lookingAgain(hypervisor);
    const domid = await upTo(world, 'unpause', configOf(world));
    await world.lose(domid);
    t.ok(await until(() => seen.includes(`${domid} gone`)), 'onChange says: look at it, and it is gone');
    t.equal(await codeOf(hypervisor.destroy(domid)), 'none');
    stop();
    const heard = seen.length;
    const other = await upTo(world, 'unpause', configOf(world));
    await world.lose(other);
    await until(async () => (await hypervisor.get(other)) === undefined);
    await hypervisor.destroy(other);
    await new Promise((resolve) => setTimeout(resolve, 100));
    t.equal(seen.length, heard, 'whoever unsubscribed hears nothing');
  });

  it('the console: what is beyond the cursor, and typing', async (t, world) => {
    const { hypervisor } = world;
    const domid = await upTo(world, 'unpause', configOf(world));
    let text = '';
    let cursor = 0;
    const complete = await until(async () => {
      const more = await hypervisor.readConsole(domid, cursor);
      text += Buffer.from(more.text).toString();
      cursor = more.cursor;
      return text.includes(world.greeting);
    });
    t.ok(complete, `the guest's greeting: ${JSON.stringify(text.slice(0, 100))}`);
    await until(async () => {
      const more = await hypervisor.readConsole(domid, cursor);
      cursor = more.cursor;
      return more.text.length === 0;
    });
    t.equal((await hypervisor.readConsole(domid, cursor)).text.length, 0, 'nothing beyond the end');
    t.ok(
      Buffer.from((await hypervisor.readConsole(domid, 0)).text)
        .toString()
        .includes(world.greeting),
      'the ring can be read again from the beginning',
    );
    t.equal(await hypervisor.writeConsole(domid, Buffer.from('hello')), 5, 'typing');
    await hypervisor.destroy(domid);
  });

  it('bad input changes nothing', async (t, world) => {
    const { hypervisor } = world;
    const before = await hypervisor.facts();
    const vif = configOf(world).vifs[0]!;
    const attempt = async (config: DomainConfig): Promise<string> => {
      let domid: Domid | undefined;
      const code = await codeOf(
        (async () => {
          domid = await hypervisor.create(config);
          await hypervisor.build(domid, config);
          await hypervisor.register(domid, config);
          for (const each of config.vifs) await hypervisor.attachVif(domid, each);
        })(),
      );
      if (domid !== undefined) await hypervisor.destroy(domid);
      return code;
    };
    t.equal(await attempt(configOf(world, { vifs: [{ ...vif, network: 'nowhere' }] })), 'NETWORK_UNKNOWN');
    t.equal(
      await attempt(configOf(world, { image: { ...world.image, memoryBytes: world.memoryKib * 1024 + 4096 } })),
      'IMAGE_TOO_LARGE',
    );
    t.equal(await attempt(configOf(world, { memoryKib: before.freeKib + 65_536 })), 'HOST_NOT_ENOUGH_FREE_MEMORY');
    const nobody = asDomid(32_000);
    t.equal(await hypervisor.get(nobody), undefined);
    t.equal(await codeOf(hypervisor.pause(nobody)), 'HYPERCALL_FAILED');
    t.equal(await codeOf(hypervisor.destroy(nobody)), 'none');
    const after = await hypervisor.facts();
    t.deepEqual(
      [after.domainCount, before.freeKib - after.freeKib < 512],
      [before.domainCount, true],
      'domains and memory as before',
    );
  });
}
