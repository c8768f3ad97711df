/** A translator as a VM on a host of the lab, configured and ready, and its moves to and fro by the coordinator. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '../../src/cli/client.ts';
import { putImage, readImage } from '../../src/cli/images.ts';
import { AgentHost } from '../../src/cli/waypoint-host.ts';
import type { Lab } from '../../src/lab/lab.ts';
import { PathCoordinator, type CoordinatorOptions, type MoveOutcome } from '../../src/migrate/paths.ts';
import type { MoveKind } from '../../src/migrate/paths-table.ts';
import { VmWaypoints } from '../../src/migrate/waypoints.ts';
import type { Departed } from '../../src/xenapi/plugin-types.ts';
import { waypointAddress } from './lab-network.ts';
import { MemoryMoves, sideOfAgent, wait, type AgentProcess } from './moving.ts';
import { root } from './network.ts';

export const waypointName = 'nat';
const migrationMs = 180_000;
const memoryKib = 5120;
const adminSecret = 'lab';

/** One migration from agent to agent. */
export async function migrateVm(from: Client, to: Client, uuid: string, live = false): Promise<Departed> {
  const { agent } = await from.plugin<{ agent: { fingerprint: string } }>('facts');
  const [host] = Object.keys(await to.records('host'));
  const dest = await to.call<Record<string, string>>('host.migrate_receive', [host, '', { fingerprint: agent.fingerprint }]);
  return from.plugin<Departed>('migrate', { vm: uuid, dest, live: String(live) }, { timeoutMs: migrationMs });
}

export class LabWaypoint {
  readonly #lab: Lab;
  readonly clients: Client[];
  readonly folder = mkdtempSync(join(tmpdir(), 'shoal-waypoint-'));
  readonly log: string[] = [];
  host = 0;
  #count = 1;
  readonly store = new MemoryMoves();

  constructor(lab: Lab) {
    this.#lab = lab;
    this.clients = lab.hosts.map((host) => new Client({ url: host.url, ca: readFileSync(host.caFile, 'utf8'), password: readFileSync(host.passwordFile, 'utf8').trim() }));
  }

  /** Where hosts share a subnet it stays the same. */
  get address(): string {
    return this.#lab.oneSubnet ? waypointAddress(0, 1) : waypointAddress(this.host, this.#count);
  }

  /** Where it goes next: an address nobody has had. */
  next(): { host: number; address: string } {
    return { host: 1 - this.host, address: waypointAddress(1 - this.host, this.#count + 1) };
  }

  /** It went there. */
  went(): void {
    this.host = 1 - this.host;
    this.#count++;
  }

  async launch(): Promise<void> {
    const image = readImage(join(root, 'build/unikernels/click.elf'));
    const [digest] = (await Promise.all(this.clients.map((client) => putImage(client, image)))).map((put) => put.digest);
    const client = this.clients[0]!;
    const network = String(Object.values(await client.records('network'))[0]!['name_label']);
    const spec = { name: waypointName, image: digest, memoryKib, args: `secret=${adminSecret}`, vifs: [{ network, ip: this.address }, { network }] };
    const { results } = await client.plugin<{ results: { error?: { message: string } }[] }>('launch-each', { specs: [spec] });
    if (results[0]?.error !== undefined) throw new Error(results[0].error.message);
    await this.#install();
  }

  /** What the admin port answers, once it does. */
  async click(verb: string, ...words: string[]): Promise<string> {
    const secretFile = join(this.folder, 'secret');
    writeFileSync(secretFile, adminSecret);
    let last = '';
    for (let tries = 0; tries < 10; tries++) {
      const { code, stdout, stderr } = await this.#lab.inside([join(root, 'shoal'), 'click', verb, this.address, ...words, '--secret-file', secretFile], { timeoutMs: 60_000 });
      if (code === 0) return stdout.trim();
      last = stderr;
      await wait(300);
    }
    throw new Error(last);
  }

  async #install(): Promise<void> {
    await this.click('install', join(root, 'unikernels/apps/click/configurations/waypoint.click'));
  }

  /** By a coordinator in this process. */
  async move(agent: AgentProcess, kind: MoveKind = 'make-before-break', more: Partial<CoordinatorOptions> = {}): Promise<MoveOutcome> {
    const to = this.next();
    const [source, target] = [new AgentHost(this.clients[this.host]!), new AgentHost(this.clients[to.host]!)];
    const vm = (await source.vm(waypointName))!;
    const waypoints = new VmWaypoints(source, target, (line) => this.log.push(line));
    const coordinator = new PathCoordinator({ sides: [sideOfAgent(agent)], waypoints, store: this.store, log: (line) => this.log.push(line), now: () => performance.now(), ...more });
    const outcome = await coordinator.move({ id: `move-${this.#count}`, kind, from: this.address, to: to.address, about: { uuid: vm.uuid, name: vm.name } });
    if (outcome.record.state === 'moved') this.went();
    return outcome;
  }

  /** With its state and address, where hosts share a subnet; it is the source's agent that says how long it stood still. */
  async migrate(live = false): Promise<Departed> {
    const [source, target] = [this.clients[this.host]!, this.clients[1 - this.host]!];
    const { uuid } = (await new AgentHost(source).vm(waypointName))!;
    const departed = await migrateVm(source, target, uuid, live);
    this.host = 1 - this.host;
    return departed;
  }

  /** Domains on both hosts that translate, by name; tombstones are others. */
  async places(): Promise<{ host: number; name: string; state: string; address: string }[]> {
    const found: { host: number; name: string; state: string; address: string }[] = [];
    for (const [host, client] of this.clients.entries()) {
      const vm = await new AgentHost(client).vm(waypointName);
      if (vm !== undefined) found.push({ host, name: vm.name, state: vm.state, address: vm.addresses[0] ?? '' });
    }
    return found;
  }

  /** All of its hosts' VMs: tombstones too. */
  async destroyAll(): Promise<void> {
    for (const client of this.clients) {
      const { rows } = await client.plugin<{ rows: unknown[][] }>('list', { columns: ['uuid'] });
      if (rows.length > 0) await client.plugin('destroy', { vms: rows.map(([uuid]) => uuid) });
    }
  }

  async close(): Promise<void> {
    for (const client of this.clients) await client.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
