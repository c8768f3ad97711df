/** The demo's run over a whole controller and two real host agents with the simulated hypervisor. */
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { Client } from '../../../src/cli/client.ts';
import { Control } from '../../../src/cli/control.ts';
import type { FleetResult } from '../../../src/cli/demo/fleet.ts';
import { endService, runService, type ServiceOptions } from '../../../src/cli/demo/service.ts';
import { Terminal } from '../../../src/cli/terminal.ts';
import { XenApiLink } from '../../../src/control/links/xenapi.ts';
import type { HostRecord } from '../../../src/control/state.ts';
import type { LabHost } from '../../../src/lab/lab.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { eventually, makeApi, type ApiRig } from '../control/api-rig.ts';
import { imageBytes } from '../host/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeServer, password, type ServerRig } from '../xenapi/rig.ts';

const names = ['host0', 'host1'];

interface Bench {
  api: ApiRig;
  agents: Map<string, ServerRig>;
  control: Control;
  /** Commands run in the pretended dom0 of the first host. */
  commands: string[];
  terminal: Terminal;
  notes: () => string;
  images: Set<string>;
  run(options?: Partial<ServiceOptions>): Promise<FleetResult>;
}

/** A lab that is none: VMs answer when the simulator runs them, xl's VM once it was made. */
async function withBench(work: (bench: Bench) => Promise<void>): Promise<void> {
  const agents = new Map<string, ServerRig>();
  for (const name of names) agents.set(name, await makeServer());
  const images = new Set<string>();
  const api = await makeApi([], {
    link: ({ url, fingerprint }: HostRecord) => new XenApiLink({ url, password, pollS: 1, ...(fingerprint === undefined ? {} : { fingerprint }) }),
    images: {
      list: () => [],
      put: async (digest: string, chunks: AsyncIterable<Uint8Array>) => {
        for await (const _ of chunks) images.add(digest);
      },
      bytes: () => Promise.resolve(undefined),
    },
  } as never);
  const folder = mkdtempSync(join(tmpdir(), 'shoal-service-'));
  const imageFile = join(folder, 'kernel.elf');
  writeFileSync(imageFile, imageBytes);
  const commands: string[] = [];
  let xlMade = false;
  const hosts = names.map((name, index) => ({
    client: new Client({ url: agents.get(name)!.url, ca: cert, password }),
    host: {
      index,
      name,
      cidr: '10.64.0.0/16',
      gateway: '10.64.0.1',
      exec: (command: string) => {
        if (index === 0) commands.push(command);
        if (command.includes('create -q')) xlMade = true;
        if (command.includes('destroy')) xlMade = false;
        return Promise.resolve({ code: 0, stdout: 'MemAvailable:  500000 kB\n', stderr: '' });
      },
      put: () => Promise.resolve(),
    } as unknown as LabHost,
  }));
  const runs = (name: string, address: string) =>
    [...agents.get(name)!.agent.fleet.all()].some((vm) => vm.power === 'Running' && vm.vifs[0]?.ipv4[0] === address);
  const lab = {
    pinger: (index: number) =>
      Promise.resolve({
        firstReply: async (address: string) => {
          for (let i = 0; i < 500; i++) {
            if (runs(names[index]!, address) || (index === 0 && xlMade && address === '10.64.250.255')) return process.hrtime.bigint();
            await new Promise((next) => setTimeout(next, 2));
          }
          throw new ShoalError('TIMEOUT', 'no answer');
        },
        close: () => Promise.resolve(),
      }),
  };
  let said = '';
  const sink = { write: (text: string) => void (said += text) };
  const terminal = new Terminal({ stdout: sink, stderr: sink, env: {}, json: false });
  const control = new Control(`https://127.0.0.1:${api.controller.server.port}`, cert, api.token);
  for (const name of names)
    await control.call('POST', '/v1/hosts', { name, url: agents.get(name)!.url, credential: name, fingerprint: new X509Certificate(cert).fingerprint256 });
  await eventually(async () => (await control.list<{ state: string }>('/v1/hosts')).every(({ state }) => state === 'up'), 'hosts are up');
  try {
    await work({
      api,
      agents,
      control,
      commands,
      terminal,
      notes: () => said,
      images,
      run: (options) =>
        runService({
          terminal,
          lab,
          hosts,
          control,
          controller: { process: { pid: process.pid, startTicks: 0 } },
          imageFile,
          service: 'demo/ping',
          vms: 6,
          memoryKib: 1024,
          xlAt: [],
          xlSamplesEach: 0,
          signal: new AbortController().signal,
          ...options,
        }),
    });
  } finally {
    control.close();
    await Promise.all(hosts.map(({ client }) => client.close()));
    await api.close();
    for (const agent of agents.values()) await agent.close();
    rmSync(folder, { recursive: true });
  }
}

const sizes = (agents: Bench['agents']): number[] => names.map((name) => agents.get(name)!.agent.fleet.size);

test('a service is spread over the hosts, each VM measured, xl sampled beside it', (t) =>
  withBench(async ({ run, agents, commands, control, images }) => {
    const result = await run({ xlAt: [0, 3, 6], xlSamplesEach: 2 });
    t.equal(result.error, undefined);
    t.deepEqual(sizes(agents), [3, 3]);
    t.deepEqual(result.boots.map(({ running, ms }) => [running, ms !== undefined && ms > 0]), Array.from({ length: 6 }, (_, i) => [i, true]));
    t.equal(result.answering, 6, 'all again when all were up');
    t.deepEqual(result.xl.map(({ running }) => running), [0, 0, 3, 3, 6, 6]);
    t.equal(commands.filter((command) => command.includes('create -q')).length, 7, 'six samples, and one that does not count');
    t.ok(Math.round(result.memory.xenKib) >= 1024, `memory a VM, of both hosts: ${result.memory.xenKib}`);
    t.ok((result.controllerRssKib ?? 0) > 10_000 && result.agentRssKib > 0, 'controller and agents were looked at');
    t.equal(images.size, 1, 'the controller has the image for hosts that come later');
    const { spec } = await control.call<{ spec: { count: number; placement: { strategy: string } } }>('GET', '/v1/services/demo/ping');
    t.deepEqual([spec.count, spec.placement.strategy], [6, 'spread'], 'the fleet stays wanted');
  }));

test('run again, what was before is ended; nothing else is', (t) =>
  withBench(async ({ run, agents, control, terminal, notes }) => {
    const first = await run({ vms: 4 });
    await control.call('PUT', '/v1/services/acme/other', { image: (await control.call<any>('GET', '/v1/services/demo/ping')).image, count: 2, memoryKib: 1024 });
    await eventually(async () => (await control.call<any>('GET', '/v1/services/acme/other')).copies.ready === 2, 'the other service');
    const second = await run({ vms: 2 });
    t.match(notes(), /destroying 4 VMs of demo\/ping/);
    t.deepEqual(sizes(agents), [2, 2], 'two of the demo, two of the other');
    const before = new Set(first.boots.map(({ name }) => name));
    t.ok(second.boots.every(({ name }) => !before.has(name)), 'and they are others');
    await endService(terminal, control, 'demo/ping');
    t.deepEqual(sizes(agents), [1, 1]);
    await endService(terminal, control, 'demo/ping');
    t.pass('ended again is fine');
  }));

test('interrupted, it leaves whole VMs, and wants no more than there are', (t) =>
  withBench(async ({ run, agents, control }) => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 150);
    const result = await run({ vms: 5000, signal: stop.signal });
    t.ok(result.boots.length > 0 && result.boots.length < 5000, `${result.boots.length} were booted`);
    t.equal(sizes(agents).reduce((a, b) => a + b), result.boots.length);
    const wanted = async () => (await control.call<any>('GET', '/v1/services/demo/ping')).copies;
    await eventually(async () => (await wanted()).ready === result.boots.length, 'all that were booted count');
    t.equal((await wanted()).total, result.boots.length);
  }));
