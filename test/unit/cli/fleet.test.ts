/**
 * The run behind demo and benchmark, over the simulator: what is booted, what is measured, what an interruption or a failure
 * leaves.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { Client } from '../../../src/cli/client.ts';
import { runFleet, type FleetOptions, type FleetResult } from '../../../src/cli/demo/fleet.ts';
import { Terminal } from '../../../src/cli/terminal.ts';
import type { Lab, LabHost } from '../../../src/lab/lab.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { imageBytes } from '../host/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeServer, password, type ServerRig } from '../xenapi/rig.ts';

interface Bench {
  rig: ServerRig;
  /** Commands run in the pretended dom0. */
  commands: string[];
  /** Addresses the pretended pinger was asked about, in order, and how many VMs there were then. */
  asked: { address: string; vms: number }[];
  run(options: Partial<FleetOptions>): Promise<FleetResult>;
}

/** A lab that is none: VMs answer when the simulator runs them, xl's VM after it was made. */
async function withBench(work: (bench: Bench) => Promise<void>, silent: ReadonlySet<string> = new Set()): Promise<void> {
  const rig = await makeServer();
  const folder = mkdtempSync(join(tmpdir(), 'shoal-fleet-'));
  const imageFile = join(folder, 'kernel.elf');
  writeFileSync(imageFile, imageBytes);
  const commands: string[] = [];
  const asked: Bench['asked'] = [];
  let xlMade = 0;
  const host: LabHost = {
    index: 0,
    name: 'host0',
    url: rig.url,
    address: '10.64.0.2',
    cidr: '10.64.0.0/16',
    gateway: '10.64.0.1',
    passwordFile: '',
    caFile: '',
    consoleFile: '',
    agent: true,
    ssh: undefined as never,
    exec: (command) => {
      commands.push(command);
      if (command.includes('create -q')) xlMade++;
      if (command.includes('destroy')) xlMade = 0;
      return Promise.resolve({ code: 0, stdout: 'MemAvailable:  500000 kB\n', stderr: '' });
    },
    put: () => Promise.resolve(),
  };
  const runs = (address: string) =>
    [...rig.agent.fleet.all()].some((vm) => vm.power === 'Running' && vm.vifs[0]?.ipv4[0] === address);
  const lab = {
    hosts: [host],
    pinger: () =>
      Promise.resolve({
        firstReply: async (address: string) => {
          asked.push({ address, vms: rig.agent.fleet.size });
          for (let i = 0; i < 200 && (silent.has(address) || (!runs(address) && xlMade === 0)); i++)
            await new Promise((next) => setTimeout(next, 2));
          if (silent.has(address)) throw new ShoalError('TIMEOUT', 'no answer');
          return process.hrtime.bigint();
        },
        close: () => Promise.resolve(),
      }),
  } as unknown as Lab;
  const sink = { write: () => undefined };
  const terminal = new Terminal({ stdout: sink, stderr: sink, env: {}, json: false });
  const client = new Client({ url: rig.url, ca: cert, password });
  try {
    await work({
      rig,
      commands,
      asked,
      run: (options) =>
        runFleet({
          terminal,
          lab,
          host,
          client,
          imageFile,
          prefix: 'demo',
          vms: 6,
          memoryKib: 4096,
          xlAt: [],
          xlSamplesEach: 0,
          signal: new AbortController().signal,
          ...options,
        }),
    });
  } finally {
    await client.close();
    await rig.close();
    rmSync(folder, { recursive: true });
  }
}

test('a fleet is booted in order, each VM measured, xl sampled at the given sizes', (t) =>
  withBench(async ({ rig, commands, run }) => {
    const result = await run({ xlAt: [0, 3, 6], xlSamplesEach: 2 });
    t.equal(result.error, undefined);
    t.deepEqual(
      result.boots.map(({ name, running }) => [name, running]),
      Array.from({ length: 6 }, (_, i) => [`demo-000${i + 1}`, i]),
    );
    t.ok(
      result.boots.every(({ ms, replyMs, hostMs }) => ms !== undefined && ms > 0 && replyMs >= hostMs && hostMs >= 0),
      'times are there, and make sense',
    );
    t.deepEqual(
      result.xl.map(({ running }) => running),
      [0, 0, 3, 3, 6, 6],
    );
    t.equal(result.answering, 6);
    t.equal(Math.round(result.memory.xenKib) >= 4096, true, `memory a VM: ${result.memory.xenKib}`);
    const creates = commands.filter((command) => command.includes('create -q')).length;
    t.equal(creates, 7, 'six samples and one that does not count');
    t.match(commands[commands.length - 1]!, /destroy|meminfo/, 'nothing of xl is left');
    t.equal(rig.agent.fleet.size, 6, 'the fleet stays up');
  }));

test('the fleet stops where it is told to, beside xl or not', (t) =>
  withBench(async ({ rig, run }) => {
    const stops: number[][] = [];
    const at = (running: number) => {
      stops.push([running, rig.agent.fleet.size]);
      return Promise.resolve();
    };
    const first = await run({ xlAt: [0], xlSamplesEach: 1, stopAt: [0, 2, 6], atStop: at });
    t.deepEqual(
      first.xl.map(({ running }) => running),
      [0],
    );
    t.deepEqual(
      stops.splice(0),
      [
        [0, 0],
        [2, 2],
        [6, 6],
      ],
    );
    await run({ xlAt: [3], xlSamplesEach: 0, atStop: at });
    t.deepEqual(stops, [[3, 3]], 'where xl is measured, unless it is told');
  }));

test('what an earlier run left is destroyed, what is not its own is left alone', (t) =>
  withBench(async ({ rig, run }) => {
    const spec = (name: string, ip: string) =>
      JSON.stringify({ name, ip, image: rig.agent.images.list()[0]!.digest, memoryKib: 4096 });
    await rig.plugin('launch', { spec: spec('demo-9999', '10.64.7.7') });
    await rig.plugin('launch', { spec: spec('demo-x', '10.64.1.1') });
    const result = await run({ vms: 3 });
    t.deepEqual([...rig.agent.fleet.all()].map((vm) => vm.name).sort(), ['demo-0001', 'demo-0002', 'demo-0003', 'demo-x']);
    t.deepEqual(
      result.boots.map(({ address }) => address),
      ['10.64.1.0', '10.64.1.2', '10.64.1.3'],
      'an address in use is stepped over',
    );
  }));

test('the pinger waits before the request is made', (t) =>
  withBench(async ({ asked, run }) => {
    const { boots } = await run({ vms: 2 });
    t.deepEqual(
      asked.slice(0, 2),
      boots.map(({ address }, i) => ({ address, vms: i })),
      'asked for while the VM is not there yet',
    );
  }));

test('a launch that fails ends the run with what was started', (t) =>
  withBench(async ({ rig, run }) => {
    rig.sim.failStep('build', new ShoalError('HOST_NOT_ENOUGH_FREE_MEMORY', 'none left'), { skip: 2, times: 1 });
    const result = await run({ xlAt: [6], xlSamplesEach: 1 });
    t.equal(result.error?.code, 'HOST_NOT_ENOUGH_FREE_MEMORY');
    t.deepEqual([result.boots.length, result.answering, result.xl.length, rig.agent.fleet.size], [2, 2, 0, 2]);
  }));

test('a VM that never answers is counted, and does not stop the others', (t) =>
  withBench(
    async ({ run }) => {
      const result = await run({ vms: 3 });
      t.deepEqual(
        result.boots.map(({ ms }) => ms === undefined),
        [false, true, false],
      );
      t.equal(result.answering, 2);
    },
    new Set(['10.64.1.1']),
  ));

test('an interruption ends the run after the VM under way', (t) =>
  withBench(async ({ rig, run }) => {
    const controller = new AbortController();
    rig.agent.fleet.emit = ((emit) =>
      function (this: typeof rig.agent.fleet, ...event: Parameters<typeof emit>) {
        if (rig.agent.fleet.size >= 2) controller.abort();
        return emit.apply(this, event);
      })(rig.agent.fleet.emit);
    const result = await run({ signal: controller.signal, xlAt: [6], xlSamplesEach: 1 });
    t.ok(result.boots.length >= 1 && result.boots.length < 6, `${result.boots.length} were booted`);
    t.equal(rig.agent.fleet.size, result.boots.length, 'none is half made');
    t.equal(result.xl.length, 0);
  }));
