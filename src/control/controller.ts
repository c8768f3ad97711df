/** The controller put together: state, loop, health, API. What it is made of comes from its composition root. */
import { writeFile } from 'node:fs/promises';
import { AuditLog } from './audit.ts';
import { Distribution } from './distribution.ts';
import { Fleet } from './fleet.ts';
import { Health, type Probe } from './health.ts';
import type { Context, Images } from './http/route.ts';
import { serveFleet, type FleetServer } from './http/server.ts';
import type { HostLink, StateStore } from './port.ts';
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
  probe?: Probe;
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
  server: FleetServer;
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
  const context: Context = {
    fleet,
    services,
    tasks,
    tokens,
    audit,
    version: options.version,
    checkHost: options.checkHost,
    images,
    distribution,
    requests: { count: 0, failed: 0 },
  };
  // It serves before it looks: a second controller on this address ends before it touches a host.
  const server = await serveFleet({ ...options.listen, tls: options.tls, context, console: options.console, heartbeatMs: options.heartbeatMs, log });
  fleet.open();
  const health = new Health(fleet, options.probe);
  return {
    fleet,
    distribution,
    server,
    close: async () => {
      health.close();
      await server.close();
      await fleet.close();
      await audit.close();
      await store.close();
    },
  };
}

/** Hosts get images before VMs of them are launched; one that turns out to have lost its image gets it again. */
function bringImages(fleet: Fleet, distribution: Distribution): void {
  fleet.bringer = distribution;
  fleet.doing.onImageMissing = (unit, copy) => {
    const service = `${copy.id.tenant}/${copy.id.service}`;
    const image = fleet.wanted(service)?.spec.image;
    const digest = image === undefined ? undefined : fleet.digestOf(image);
    if (digest === undefined) return;
    distribution.forget(unit, digest);
    void distribution.ensure(unit, digest as Digest).then(
      () => {
        fleet.forgive(service);
        fleet.poke(service);
      },
      (error: unknown) => fleet.log(`${unit.record.name}: the image ${digest} could not be brought: ${asShoalError(error).message}`),
    );
  };
}
