/** The controller put together: state, loop, health, API. What it is made of comes from its composition root. */
import { writeFile } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import { AuditLog } from './audit.ts';
import { Distribution } from './distribution.ts';
import { Fleet } from './fleet.ts';
import { Health, type Probe } from './health.ts';
import { networkProbes, type Probes } from './gates.ts';
import type { Context, Images } from './http/route.ts';
import { serveFleet, type FleetServer } from './http/server.ts';
import type { RolloutControl } from './deployment/port.ts';
import { DeploymentService, type DeploymentSettings } from './deployment/service.ts';
import type { HostLink, StateStore } from './port.ts';
import { Rollouts } from './rollouts.ts';
import { Services } from './services.ts';
import { State, type HostRecord } from './state.ts';
import { Tasks } from './tasks.ts';
import { Tokens } from './tokens.ts';
import { Capabilities } from '../image/capability.ts';
import type { DeltaStore } from '../image/deltas.ts';
import { asShoalError } from '../model/errors.ts';
import type { Digest } from '../model/ids.ts';

export interface ControllerOptions {
  store: StateStore;
  auditFile: string;
  /** Where the first operator's token is left, for its owner only. */
  operatorTokenFile: string;
  listen: { host: string; port: number };
  tls: { cert: string; key: string } | undefined;
  graceMs: number;
  link: (record: HostRecord) => HostLink;
  /** Throws CONFIG_INVALID when a host cannot be connected to with what was given. */
  checkHost: (record: HostRecord) => void;
  images?: Images;
  /** Deltas between those images; without them images go whole. */
  deltas?: DeltaStore | undefined;
  /** Deltas up to so many bytes go inside of the order to a host. */
  inlineBytes?: number | undefined;
  /** Where hosts reach this controller, and the SHA-256 of its certificate. */
  origin?: { url: string; fingerprint: string } | undefined;
  /** The deployment repository; without it there is none. */
  deployment?: DeploymentSettings | undefined;
  /** Does what it asks for; this controller's own rollouts when left out. */
  rollouts?: (parts: { fleet: Fleet; services: Services; tasks: Tasks; audit: AuditLog }) => RolloutControl;
  probe?: Probe;
  /** What rollouts ask of copies; over the network when left out. */
  probes?: Probes;
  /** Folder of the programs that a "command" gate may name. */
  gatesDir?: string | undefined;
  /** Between two signs of life on a stream of events; 15,000 when left out. */
  heartbeatMs?: number | undefined;
  /** Folder of the web console's files. */
  console?: string | undefined;
  version: string;
  log: (line: string) => void;
}

export interface Controller {
  fleet: Fleet;
  /** Undefined where no images are kept. */
  distribution: Distribution | undefined;
  rollouts: Rollouts;
  server: FleetServer;
  deployment: DeploymentService | undefined;
  /** Ends the controller, not the VMs. */
  close(): Promise<void>;
}

export async function openController(options: ControllerOptions): Promise<Controller> {
  const { store, log, images } = options;
  const state = await State.open(store);
  const tokens = new Tokens(state, Date.now);
  if (!tokens.hasOperator()) {
    const { token, change } = tokens.make({ role: 'operator', note: 'made at the first start' });
    // Kept before it is handed out, so that a token that can be read is one that works.
    await state.write([change]);
    await writeFile(options.operatorTokenFile, `${token}\n`, { mode: 0o600 });
    log(`the operator's token is in ${options.operatorTokenFile}`);
  }
  const audit = await AuditLog.open(options.auditFile, log);
  const fleet = new Fleet({ state, link: options.link, graceMs: options.graceMs, log });
  const tasks = new Tasks(fleet.changes, Date.now);
  const services = new Services(fleet, tasks);
  const distribution =
    images === undefined
      ? undefined
      : new Distribution({ images, deltas: options.deltas, capabilities: new Capabilities(), origin: options.origin, inlineBytes: options.inlineBytes, units: () => fleet.units.values(), log });
  if (distribution !== undefined) bringImages(fleet, distribution);
  const rollouts = new Rollouts({ fleet, services, audit, probes: options.probes ?? networkProbes(options.gatesDir) });
  const deployment = options.deployment === undefined ? undefined : await DeploymentService.open({ ...options.deployment, store, rollouts: options.rollouts?.({ fleet, services, tasks, audit }) ?? rollouts, onHosts: (hosts) => labelHosts(services, fleet, hosts) });
  rollouts.record = deployment && ((tenant, name, entry) => deployment.deployment.record.append(tenant, name, entry));
  const context: Context = {
    fleet,
    services,
    rollouts,
    tasks,
    tokens,
    audit,
    version: options.version,
    checkHost: options.checkHost,
    images,
    distribution,
    deployment,
    requests: { count: 0, failed: 0 },
  };
  // It serves before it looks: a second controller on this address ends before it touches a host.
  const server = await serveFleet({ ...options.listen, tls: options.tls, context, console: options.console, heartbeatMs: options.heartbeatMs, log });
  fleet.open();
  rollouts.open();
  const health = new Health(fleet, options.probe);
  return {
    fleet,
    distribution,
    rollouts,
    server,
    deployment,
    close: async () => {
      health.close();
      rollouts.close();
      await server.close();
      await deployment?.close();
      await fleet.close();
      await audit.close();
      await store.close();
    },
  };
}

/** Labels of hosts are the repository's, where it names a host that is known. */
async function labelHosts(services: Services, fleet: Fleet, hosts: readonly { name: string; labels: Record<string, string> }[]): Promise<void> {
  for (const { name, labels } of hosts) {
    const now = fleet.state.get('host', name)?.labels;
    if (now !== undefined && !isDeepStrictEqual(now, labels)) await services.changeHost(name, { labels });
  }
}

/** Hosts get images before VMs of them are launched; one that turns out to have lost its image gets it again. */
function bringImages(fleet: Fleet, distribution: Distribution): void {
  fleet.bringer = distribution;
  fleet.doing.onImageMissing = (unit, copy) => {
    const digest = copy.record.image ?? fleet.versionAt(`${copy.id.tenant}/${copy.id.service}`, copy.id.slot)?.image;
    if (digest === undefined || digest === '') return;
    distribution.forget(unit, digest);
    void distribution.ensure(unit, digest as Digest).then(
      () => {
        const service = `${copy.id.tenant}/${copy.id.service}`;
        fleet.forgive(service);
        fleet.poke(service);
      },
      (error: unknown) => fleet.log(`${unit.record.name}: the image ${digest} could not be brought: ${asShoalError(error).message}`),
    );
  };
}
