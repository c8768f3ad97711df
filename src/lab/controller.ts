/**
 * A controller beside a lab's hosts: a real process in the router's namespace, where it reaches agents and guests alike, and a
 * port of the machine's loopback that leads to its API. Certificate, credentials of the hosts, state and log are in the lab's
 * folder; so `lab down` finds and ends both processes whatever was killed when, and nothing of them outlives the lab.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShoalError } from '../model/errors.ts';
import { answers } from './agent.ts';
import { buildController, buildTools, controllerBundle } from './build.ts';
import { hostIdentity, makeCertificate } from './identity.ts';
import { locked } from './lock.ts';
import { enter, namespacePath } from './network.ts';
import { labFolder } from './paths.ts';
import { hostPlan, routerNamespace } from './plan.ts';
import { argumentsOf, endProcess, isAlive, lastLines, nameProcess, type ProcessName } from './processes.ts';
import { processesOf, readRecord, writeRecord, type ControllerRecord, type LabRecord } from './record.ts';

/** Of the machine's loopback when it is free, where the command looks first; another one otherwise. */
const preferredPort = 7443;
/** In the router's namespace, which has one controller. */
const insidePort = 7443;
const startMs = 60_000;

/** What the controller's configuration may say beside where things are. */
export interface ControllerSettings {
  graceMs?: number;
  pollS?: number;
  patienceMs?: number;
  /** Where hosts reach it, to fetch images by themselves; it listens on every address of the router's namespace then. */
  url?: string;
  /** Its deployment repository; `signersFile`: who may make the first commit. */
  deployment?: { signersFile: string; branch?: string; pushMib?: number };
  gatesDir?: string;
}

/** What hosts know the controller of a lab as. */
export const urlForHosts = (): string => `https://${hostPlan(0).gateway}:${insidePort}`;

export interface LabController {
  /** From the machine's loopback; the same after the controller was started anew. */
  url: string;
  /** Its certificate, which is its own authority. */
  caFile: string;
  /** The operator's token, one line. */
  tokenFile: string;
  /** A shell reads it to have the command speak to this controller. */
  environmentFile: string;
  stateDir: string;
  logFile: string;
  process: ProcessName;
}

function filesOf(lab: string) {
  const folder = join(labFolder(lab), 'fleet');
  const inFolder = (name: string) => join(folder, name);
  return {
    folder,
    caFile: inFolder('cert.pem'),
    keyFile: inFolder('key.pem'),
    configFile: inFolder('controller.json'),
    credentialsDir: inFolder('credentials'),
    stateDir: inFolder('state'),
    tokenFile: inFolder('state/operator.token'),
    environmentFile: inFolder('environment'),
    logFile: inFolder('controller.log'),
    /** Among the forwarder's words: tells whose it is. */
    label: inFolder('forward'),
  };
}

function viewOf(lab: string, { process, port }: ControllerRecord): LabController {
  const { caFile, tokenFile, environmentFile, stateDir, logFile } = filesOf(lab);
  return { url: `https://127.0.0.1:${port}`, caFile, tokenFile, environmentFile, stateDir, logFile, process };
}

/** The controller that was started last; it may have ended since. Undefined when there was none. */
export function labController(lab: string): LabController | undefined {
  const record = readRecord(lab)?.controller;
  return record === undefined ? undefined : viewOf(lab, record);
}

/**
 * Starts a controller over the lab's state, or attaches to the one that runs. It answers when this resolves; which hosts it has is
 * its own state. `settings` count from its next start on, and stay. Throws LAB_NOT_UP, LAB_FAILED.
 */
export async function startController(lab: string, settings?: ControllerSettings): Promise<LabController> {
  const tools = await buildTools();
  await buildController();
  return underLock(lab, async (record) => {
    const files = filesOf(lab);
    const before = record.controller;
    if (before !== undefined && isAlive(before.process) && isAlive(before.forwarder)) {
      if (settings !== undefined) writeConfig(lab, settings);
      return viewOf(lab, before);
    }
    // started by someone who was killed before it was written down
    await endThoseWith(lab, files.configFile);
    await prepare(record, settings);
    let { forwarder, port } = before ?? { forwarder: undefined, port: preferredPort };
    if (forwarder === undefined || !isAlive(forwarder)) {
      await endThoseWith(lab, files.label);
      ({ forwarder, port } = await startForwarder(lab, tools, files.label, port, insidePort));
    }
    record.controller = { process: startProcess(lab), forwarder, port };
    writeRecord(record);
    const view = viewOf(lab, record.controller);
    await untilAnswers(view, port);
    writeWhole(
      files.environmentFile,
      `export SHOAL_CONTROLLER=${view.url} SHOAL_CONTROLLER_CA=${view.caFile} SHOAL_TOKEN_FILE=${view.tokenFile}\n`,
    );
    return view;
  });
}

/** Ends the controller; VMs, state and the port stay. Fine when there is none. */
export const endController = (lab: string): Promise<void> =>
  underLock(lab, async () => endThoseWith(lab, filesOf(lab).configFile, 5_000));

function underLock<T>(lab: string, work: (record: LabRecord) => Promise<T>): Promise<T> {
  return locked(
    `lab-${lab}`,
    120_000,
    () => undefined,
    async () => {
      const record = readRecord(lab);
      if (record === undefined) throw new ShoalError('LAB_NOT_UP', `lab ${lab} is not up`);
      return work(record);
    },
  );
}

async function endThoseWith(lab: string, word: string, graceMs = 0): Promise<void> {
  for (const each of await processesOf(lab)) if (argumentsOf(each.pid).includes(word)) await endProcess(each, graceMs);
}

function writeWhole(file: string, text: string): void {
  const part = `${file}.part`;
  writeFileSync(part, text, { mode: 0o600 });
  renameSync(part, file);
}

function controllerConfig(lab: string, settings: ControllerSettings): Record<string, unknown> {
  const { caFile, keyFile, stateDir, credentialsDir } = filesOf(lab);
  const host = settings.url === undefined ? '127.0.0.1' : '0.0.0.0';
  return { listen: { host, port: insidePort }, certFile: caFile, keyFile, stateDir, credentialsDir, ...settings };
}

const writeConfig = (lab: string, settings: ControllerSettings): void =>
  writeWhole(filesOf(lab).configFile, `${JSON.stringify(controllerConfig(lab, settings), null, 2)}\n`);

async function prepare(record: LabRecord, settings: ControllerSettings | undefined): Promise<void> {
  const { name } = record;
  const files = filesOf(name);
  mkdirSync(files.credentialsDir, { recursive: true, mode: 0o700 });
  for (const { index } of record.hosts)
    writeWhole(join(files.credentialsDir, hostPlan(index).name), readFileSync((await hostIdentity(index)).passwordFile, 'utf8'));
  if (!existsSync(files.caFile))
    await makeCertificate('controller', ['127.0.0.1'], { certFile: files.caFile, keyFile: files.keyFile });
  if (settings !== undefined || !existsSync(files.configFile)) writeConfig(name, settings ?? {});
}

/** A port of the machine's loopback, `wanted` when that is free, that leads to one of the router's. Ends with the lab. */
export const forwardInto = async (lab: string, name: string, wanted: number, inside: number): Promise<number> =>
  (await startForwarder(lab, await buildTools(), join(labFolder(lab), name), wanted, inside)).port;

async function startForwarder(lab: string, tools: string, label: string, wanted: number, inside: number): Promise<{ forwarder: ProcessName; port: number }> {
  const words = [label, String(wanted), namespacePath(routerNamespace(lab)), String(inside)];
  const child = spawn(join(tools, 'forward'), words, { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
  const port = await new Promise<number>((resolve, reject) => {
    child.stdout.once('data', (line: Buffer) => resolve(Number(/^ready (\d+)/.exec(line.toString())?.[1])));
    child.once('error', reject);
    child.once('exit', (code) => reject(new ShoalError('LAB_FAILED', `the forwarder of a port ended with ${code}`)));
  });
  child.stdout.destroy();
  child.unref();
  return { forwarder: named(child.pid, 'forwarder'), port };
}

function startProcess(lab: string): ProcessName {
  const { logFile, configFile } = filesOf(lab);
  const log = openSync(logFile, 'a', 0o600);
  try {
    const argv = [...enter(routerNamespace(lab)), process.execPath, controllerBundle, configFile];
    const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', log, log], detached: true });
    child.once('error', () => undefined); // it has no pid then
    child.unref();
    return named(child.pid, 'controller');
  } finally {
    closeSync(log);
  }
}

function named(pid: number | undefined, what: string): ProcessName {
  const name = pid === undefined ? undefined : nameProcess(pid);
  if (name === undefined) throw new ShoalError('LAB_FAILED', `the ${what} ended as it was started`);
  return name;
}

async function untilAnswers({ caFile, logFile, process }: LabController, port: number): Promise<void> {
  const ca = readFileSync(caFile, 'utf8');
  const began = Date.now();
  while (!(await answers(port, ca))) {
    const ended = !isAlive(process);
    if (ended || Date.now() - began > startMs) {
      const said = lastLines(readFileSync(logFile, 'utf8'), 3);
      throw new ShoalError('LAB_FAILED', `the controller ${ended ? 'ended' : `gave no answer in ${startMs / 1000} s`}; its log:\n${said}`);
    }
    await sleep(50);
  }
}
