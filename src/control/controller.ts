/** The controller put together: state, loop, health, API. What it is made of comes from its composition root. */
import { writeFile } from 'node:fs/promises';
import { AuditLog } from './audit.ts';
import { Fleet } from './fleet.ts';
import { Health, type Probe } from './health.ts';
import { networkProbes, type Probes } from './gates.ts';
import type { Context, Images } from './http/route.ts';
import { serveFleet, type FleetServer } from './http/server.ts';
import type { HostLink, StateStore } from './port.ts';
import { Rollouts, type Record_ } from './rollouts.ts';
import { Services } from './services.ts';
import { State, type HostRecord } from './state.ts';
import { Tasks } from './tasks.ts';
import { Tokens } from './tokens.ts';
import { asShoalError } from '../model/errors.ts';

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
  probe?: Probe;
  /** What rollouts ask of copies; over the network when left out. */
  probes?: Probes;
  /** Folder of the programs that a "command" gate may name. */
  gatesDir?: string | undefined;
  /** Keeps each step of a rollout in the deployment repository. */
  record?: Record_;
  /** Between two signs of life on a stream of events; 15,000 when left out. */
  heartbeatMs?: number | undefined;
  /** Folder of the web console's files. */
  console?: string | undefined;
  version: string;
  log: (line: string) => void;
}

export interface Controller {
  fleet: Fleet;
  rollouts: Rollouts;
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
  if (images !== undefined) bringImages(fleet, images, log);
  const rollouts = new Rollouts({
    fleet,
    services,
    audit,
    probes: options.probes ?? networkProbes(options.gatesDir),
    ...(options.record === undefined ? {} : { record: options.record }),
  });
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
    requests: { count: 0, failed: 0 },
  };
  // It serves before it looks: a second controller on this address ends before it touches a host.
  const server = await serveFleet({ ...options.listen, tls: options.tls, context, console: options.console, heartbeatMs: options.heartbeatMs, log });
  fleet.open();
  rollouts.open();
  const health = new Health(fleet, options.probe);
  return {
    fleet,
    rollouts,
    server,
    close: async () => {
      health.close();
      rollouts.close();
      await server.close();
      await fleet.close();
      await audit.close();
      await store.close();
    },
  };
}

/** A host that misses an image gets it, once at a time. */
function bringImages(fleet: Fleet, images: Images, log: (line: string) => void): void {
  const underWay = new Set<string>();
  fleet.doing.onImageMissing = (unit, copy) => {
    const digest = copy.record.image ?? fleet.versionAt(`${copy.id.tenant}/${copy.id.service}`, copy.id.slot)?.image;
    const key = `${unit.record.name} ${digest}`;
    if (digest === undefined || digest === '' || underWay.has(key)) return;
    underWay.add(key);
    void images
      .bytes(digest)
      .then(async (bytes) => {
        if (bytes === undefined) return;
        await unit.link.putImage(digest, bytes);
        log(`${unit.record.name}: has the image ${digest} now`);
        const service = `${copy.id.tenant}/${copy.id.service}`;
        fleet.forgive(service);
        fleet.poke(service);
      })
      .catch((error: unknown) =>
        log(`${unit.record.name}: the image ${digest} could not be brought: ${asShoalError(error).message}`),
      )
      .finally(() => underWay.delete(key));
  };
}
