/**
 * Video events over a lab: two places, each a Xen host, with a controller; an origin and an event router beside them in the router's namespace,
 * as real processes. Viewers are whoever is in that namespace. All of it ends with `lab down`.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { forwardInto, type LabController } from '../lab/controller.ts';
import { labUp, type Lab } from '../lab/lab.ts';
import { enter } from '../lab/network.ts';
import { labFolder, repositoryRoot } from '../lab/paths.ts';
import { routerNamespace } from '../lab/plan.ts';
import { lastLines } from '../lab/processes.ts';
import { ShoalError } from '../model/errors.ts';
import { Control } from './control.ts';
import { openLabFleet } from './fleet-lab.ts';
import { digestOf } from './images.ts';

/** The router's own address, where origin and viewers' URL are. */
export const outside = '10.64.0.1';
const viewersPort = 8000;
const apiPort = 7444;
const readyMs = 120_000;

export interface Running {
  pid: number;
  logFile: string;
  /** kill -9. */
  kill(): void;
}

export interface EventLab {
  lab: Lab;
  fleet: Control;
  controller: LabController;
  /** The event router's API. */
  events: Control;
  router: Running;
  /** Its address, for who starts the command. */
  environment: Record<string, string>;
  /** Starts a process in the router's namespace; resolves when it has written `ready` to its log. Throws LAB_FAILED. */
  start(name: string, argv: readonly string[], ready: RegExp): Promise<Running>;
  /** `shoal origin` at http://10.64.0.1:PORT. */
  startOrigin(input: string, port: number, options?: Record<string, unknown>): Promise<Running>;
  startRouter(): Promise<Running>;
  close(): Promise<void>;
}

export interface EventLabOptions {
  name: string;
  /** Of each host; left out for a lab that is up. */
  memoryMib?: number;
  /** Of one cache; emulated hosts serve less than real ones. */
  capacity?: { mbps?: number; requestsPerS?: number; connections?: number };
  scale?: { holdMs?: number; drainMs?: number };
}

const source = (main: string): string[] => [process.execPath, '--import', 'tsx', join(repositoryRoot, 'src/main', main)];

/** Throws LAB_FAILED. */
export async function openEventLab({ name, memoryMib, capacity, scale }: EventLabOptions): Promise<EventLab> {
  const lab = await labUp({ name, hosts: 2, ...(memoryMib === undefined ? {} : { memoryMib }) });
  const { controller, control: fleet } = await openLabFleet(name, lab.hosts);
  for (const [i, host] of lab.hosts.entries()) await fleet.call('PATCH', `/v1/hosts/${host.name}`, { labels: { place: ['east', 'west'][i] } });
  const image = readFileSync(join(repositoryRoot, 'build/unikernels/minicache.elf'));
  const digest = digestOf(image);
  await fleet.call('PUT', `/v1/images/${digest}`, image);
  await fleet.call('PUT', '/v1/releases/minicache', { digest });

  const folder = join(labFolder(name), 'event');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const fleetFolder = join(controller.caFile, '..');
  const configFile = join(folder, 'router.json');
  const config = {
    stateDir: join(folder, 'state'),
    controller: { caFile: controller.caFile, tokenFile: controller.tokenFile },
    certFile: controller.caFile,
    keyFile: join(fleetFolder, 'key.pem'),
    viewers: { host: outside, port: viewersPort },
    api: { port: apiPort },
    places: lab.hosts.map((host, i) => ({ cidr: host.cidr, place: ['east', 'west'][i] })),
    ...(capacity === undefined ? {} : { capacity }),
    ...(scale === undefined ? {} : { scale }),
  };
  mkdirSync(config.stateDir, { recursive: true, mode: 0o700 });
  writeFileSync(configFile, JSON.stringify(config, null, 2), { mode: 0o600 });

  const start = async (label: string, argv: readonly string[], ready: RegExp): Promise<Running> => {
    const logFile = join(folder, `${label}.log`);
    const log = openSync(logFile, 'w', 0o600);
    const [program, ...words] = [...enter(routerNamespace(name)), ...argv];
    const child = spawn(program!, words, { stdio: ['ignore', log, log], detached: true });
    closeSync(log);
    let ended = false;
    child.once('exit', () => (ended = true));
    child.once('error', () => (ended = true));
    child.unref();
    for (const end = Date.now() + readyMs; !ready.test(readFileSync(logFile, 'utf8')); await sleep(50))
      if (ended || Date.now() > end) throw new ShoalError('LAB_FAILED', `${label} ${ended ? 'ended' : 'is not ready'}: ${lastLines(readFileSync(logFile, 'utf8'), 5)}`);
    return { pid: child.pid!, logFile, kill: () => void (ended || process.kill(child.pid!, 'SIGKILL')) };
  };
  const startRouter = (): Promise<Running> => start('router', [...source('events.ts'), configFile], /events: ready/);
  const router = await startRouter();
  const port = await forwardInto(name, 'events-forward', apiPort, apiPort);
  const url = `https://127.0.0.1:${port}`;
  const events = new Control(url, readFileSync(controller.caFile, 'utf8'), readFileSync(controller.tokenFile, 'utf8').trim());
  return {
    lab,
    fleet,
    controller,
    events,
    router,
    environment: { SHOAL_EVENTS: url, SHOAL_CONTROLLER: controller.url, SHOAL_CONTROLLER_CA: controller.caFile, SHOAL_TOKEN_FILE: controller.tokenFile },
    start,
    startRouter,
    startOrigin: (input, at, options = {}) =>
      start(
        `origin-${at}`,
        [...source('origin.ts'), JSON.stringify({ inputs: [input], listen: { host: outside, port: at }, stateFolder: join(folder, `origin-${at}`), json: false, ...options })],
        /origin: ready/,
      ),
    close: async () => {
      events.close();
      fleet.close();
    },
  };
}
