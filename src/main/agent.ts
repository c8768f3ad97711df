/**
 * The host agent's composition root: configuration, hypervisor, image store, host logic and XenAPI server put together. It
 * listens first, so that a second agent on the same host ends before it touches a domain; calls that come meanwhile wait until
 * what runs was adopted.
 *
 * `node agent.cjs CONFIG` ends with 1 and one line on stderr when it cannot start. SIGTERM and SIGINT end the agent, never a VM.
 */
import { networkInterfaces } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Hypervisor } from '../hypervisor/port.ts';
import { SimHypervisor } from '../hypervisor/sim/sim.ts';
import { openXen } from '../hypervisor/xen/adapter.ts';
import { makeVolume } from '../cache/store/volume.ts';
import { openAgent, type HostAgent } from '../host/agent.ts';
import { launchSteps, type StepHook } from '../host/launch.ts';
import { parseKernel } from '../image/elf.ts';
import { ImageStore } from '../image/store.ts';
import { ShoalError } from '../model/errors.ts';
import { Api } from '../xenapi/api.ts';
import { listen } from '../xenapi/server.ts';
import { closeOnSignal, log, readNeeded, runDaemon } from './daemon.ts';
import { parseAgentConfig, type AgentConfig } from './agent-config.ts';

/** Replaced by the bundler. */
declare const SHOAL_VERSION: string | undefined;
const version = typeof SHOAL_VERSION === 'string' ? SHOAL_VERSION : '0.1.0';

async function hypervisorOf(config: AgentConfig): Promise<Hypervisor> {
  const networks = config.networks.map(({ name, bridge }) => ({ name, bridge, backend: config.backends.get(name) }));
  if (config.hypervisor === 'sim') {
    return new SimHypervisor({
      networks: networks.map(({ name }) => name),
      ...(config.simTotalKib === undefined ? {} : { totalKib: config.simTotalKib }),
    });
  }
  // Beside the bundle.
  const addonPath = join(dirname(resolve(process.argv[1] ?? '.')), 'shoal_xen.node');
  return openXen({ addonPath, networks, switchPath: config.switchPath, guestCpus: config.guestCpus });
}

/** SHOAL_CRASH_AT=step, after:step or a moment of a migration (AgentOptions.migrationHook): the agent kills itself there, for tests of what the next agent makes of it. */
function crashHook(moment: string | undefined): StepHook | undefined {
  if (moment === undefined || moment === '') return undefined;
  if (/^(source|target) /.test(moment)) return killAt(moment);
  const step = moment.replace(/^after:/, '');
  if (!(launchSteps as readonly string[]).includes(step))
    throw new ShoalError('CONFIG_INVALID', `SHOAL_CRASH_AT: there is no step "${step}".`);
  return killAt(moment);
}

const killAt = (moment: string): StepHook => (now) => {
  if (now !== moment) return undefined;
  process.kill(process.pid, 'SIGKILL');
  return new Promise(() => {});
};

function firstAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  return all.find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? '127.0.0.1';
}

async function main(): Promise<void> {
  const path = process.argv[2];
  if (path === undefined)
    throw new ShoalError('USAGE', 'usage: agent CONFIG', { hint: 'Give the path of the configuration file.' });
  const config = parseAgentConfig(readNeeded(path, 'configuration'));
  const password = readNeeded(config.passwordFile, 'password file').replace(/\r?\n$/, '');
  const hook = crashHook(process.env['SHOAL_CRASH_AT']);
  const tls =
    config.tls === undefined
      ? undefined
      : {
          cert: readNeeded(config.tls.certFile, 'certificate'),
          key: readNeeded(config.tls.keyFile, 'key'),
        };

  let ready: (api: Api) => void = () => {};
  const api = new Promise<Api>((done) => (ready = done));
  const server = await listen({ ...config.listen, tls, api, log });

  const hypervisor = await hypervisorOf(config);
  const images = await ImageStore.open(join(config.stateDir, 'images'), { parse: parseKernel });
  const agent: HostAgent = await openAgent({
    hypervisor,
    images,
    stateDir: config.stateDir,
    runDir: config.switchPath === undefined ? undefined : dirname(config.switchPath),
    networks: config.networks,
    credentials: tls,
    makeStore: async (path) => void (await makeVolume(path)),
    hook,
    migrationHook: hook,
    log,
    ...(config.shells === undefined ? {} : { shells: config.shells }),
    ...(config.launches === undefined ? {} : { launches: config.launches }),
    ...(config.memoryReserveKib === undefined ? {} : { memoryReserveKib: config.memoryReserveKib }),
  });
  for (const url of config.neighbours) agent.neighbours.name(url);
  ready(new Api({ agent, version, address: config.address ?? firstAddress(), password }));
  log(
    `agent: ready on ${config.listen.host}:${server.port}${tls === undefined ? ' (no TLS)' : ''}, ${Math.round(process.uptime() * 1000)} ms after its start`,
  );

  // What is under way may take longer than whoever sent the signal waits: the next agent finds its way back all the same.
  closeOnSignal(async () => {
    await server.close();
    await agent.close();
    await hypervisor.close();
  });
}

runDaemon(main);
