/** `shoal demo`: one command from nothing to a thousand unikernels on real Xen hosts, through the controller, each pinged from outside. */
import { statSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { agentBundle } from '../../lab/build.ts';
import type { LabController } from '../../lab/controller.ts';
import { labStatus, labUp } from '../../lab/lab.ts';
import { dom0MemoryMib } from '../../lab/plan.ts';
import { ShoalError } from '../../model/errors.ts';
import type { Verb } from '../arguments.ts';
import { Client } from '../client.ts';
import { reportHtml } from '../demo/report.ts';
import { runService } from '../demo/service.ts';
import { demoJson, summarise, summaryTable } from '../demo/summary.ts';
import { openLabFleet } from '../fleet-lab.ts';
import { count, plural } from '../format.ts';
import { noteOtherBuild, readTarget } from '../target.ts';
import type { Terminal } from '../terminal.ts';
import { build, pingImage } from './build.ts';
import type { HostFacts } from './host-show.ts';

const service = 'demo/ping';
/** KiB a guest takes beside its own memory, rounded up: Xen's structures, shadow of the balloon, what dom0 grows by. */
const overheadKib = 512;
/** Of Xen itself, in MiB. */
const xenMib = 256;

export const demo: Verb = {
  name: 'demo',
  summary: 'boot a thousand unikernels on real Xen hosts, and ping every one',
  options: {
    vms: { value: 'N', help: 'how many; default 1000' },
    hosts: { value: 'N', help: 'Xen hosts to spread them over, 1 or 2; default 2' },
    'memory-kib': { value: 'N', help: 'memory of each; default 1024' },
    'xl-samples': { value: 'N', help: 'samples of xl at each of four fleet sizes, to compare with; default 2' },
    report: { value: 'FILE', help: 'where the report goes; default demo-report.html' },
    lab: { value: 'NAME', help: 'lab to use; default "lab". It is brought up when it is not' },
  },
  notes:
    'Sets up and builds what is missing, brings up the lab and a controller over its hosts, ends the service of an earlier demo,\n' +
    'grows one of so many VMs with one request a VM, prints a table and writes the report. The fleet stays up.',
  async run(terminal, words) {
    const began = performance.now();
    const vms = words.number('vms', 1000, 1, 10_000);
    const memoryKib = words.number('memory-kib', 1024, 1024, 1024 * 1024);
    const hostCount = words.number('hosts', 2, 1, 2);
    const samples = words.number('xl-samples', 2, 0, 100);
    const labName = words.text('lab') ?? 'lab';
    const stop = interruption(terminal, labName);
    const clients: Client[] = [];
    try {
      await build(terminal, ['unikernels', 'controller']);
      const lab = await labUp({
        name: labName,
        hosts: hostCount,
        ...(await memoryFor(labName, Math.ceil(vms / hostCount), memoryKib)),
        onProgress: (text) => (terminal.live ? terminal.status(`lab: ${text}`) : terminal.note(`lab: ${text}`)),
      });
      terminal.status('');
      const hosts = lab.hosts.slice(0, hostCount);
      if (hosts.some((host) => !host.agent))
        throw new ShoalError('LAB_FAILED', `The lab "${labName}" was started without a host agent.`, {
          hint: `Run \`shoal lab down${labOption(labName)}\` first.`,
        });
      terminal.status('lab: starting the controller');
      const { control, controller } = await openLabFleet(labName, hosts);
      terminal.status('');
      terminal.note(
        `lab "${labName}" is up (${lab.accelerator}), a controller over ${plural(hosts.length, 'Xen host')}; booting ${count(vms)} unikernels, one request each`,
      );
      stop.gently = true;
      try {
        const withClients = hosts.map((host) => ({ host, client: new Client(readTarget(host)) }));
        clients.push(...withClients.map(({ client }) => client));
        await noteOtherBuild(terminal, clients[0]!, labName, agentBundle);
        const result = await runService({
          terminal,
          lab,
          hosts: withClients,
          control,
          controller,
          imageFile: pingImage,
          service,
          vms,
          memoryKib,
          xlAt: samples === 0 ? [] : [...new Set([0, Math.round(vms / 4), Math.round(vms / 2), vms])],
          xlSamplesEach: samples,
          signal: stop.signal,
        });
        const summary = summarise(vms, result, (performance.now() - began) / 1000);
        const facts = await clients[0]!.plugin<HostFacts>('facts');
        const file = resolve(words.text('report') ?? 'demo-report.html');
        writeFileSync(
          file,
          reportHtml(result, summary, {
            at: new Date(),
            xen: facts.xen,
            accelerator: lab.accelerator,
            hosts: hosts.length,
            hostMemoryKib: facts.totalKib,
            imageBytes: statSync(pingImage).size,
            memoryKib,
            shoalVersion: facts.agent.version,
          }),
        );
        terminal.print(`\n${summaryTable(summary, terminal.style)}\n`);
        terminal.note(`report: ${file}`);
        hints(terminal, labName, controller);
        if (result.error !== undefined) terminal.failure(result.error);
        terminal.printJson(demoJson(summary));
        if (stop.signal.aborted) return 130;
        return result.error === undefined && summary.answered === vms && summary.answering === vms ? 0 : 1;
      } finally {
        await Promise.all(clients.map((client) => client.close()));
        control.close();
      }
    } catch (error) {
      if (stop.gently) terminal.note(`The lab is still up; ${cleanUpHint(labName)}`);
      throw error;
    } finally {
      stop.end();
    }
  },
};

const labOption = (name: string): string => (name === 'lab' ? '' : ` --lab ${name}`);

const cleanUpHint = (name: string): string =>
  `\`shoal lab down${labOption(name)}\` removes everything; \`shoal demo${labOption(name)}\` starts again.`;

function hints(terminal: Terminal, labName: string, { url, tokenFile, environmentFile }: LabController): void {
  const { dim, cyan } = terminal.noteStyle;
  const lines: [string, string][] = [
    [`${url}/`, 'the console, which watches the fleet'],
    [`cat ${tokenFile}`, 'the token to sign in with'],
    [`. ${environmentFile}`, 'then `shoal get vms`, `shoal scale`, `shoal drain` speak to this controller'],
    [`shoal lab down${labOption(labName)}`, 'removes everything'],
  ];
  const width = Math.max(...lines.map(([text]) => text.length));
  for (const [text, what] of lines) terminal.note(`  ${cyan(text.padEnd(width))}  ${dim(what)}`);
}

/** dom0's share for so many VMs on its host, in MiB: the system, the agent, and what each VM costs there. */
const dom0NeedsMib = (vms: number): number => 512 + 300 + Math.ceil(vms / 10);

/** Memory of a lab host that holds so many VMs, in MiB; exported for its test. Pure. */
export function hostMemoryMib(vms: number, memoryKib: number): number {
  const fleetMib = Math.ceil((vms * (memoryKib + overheadKib)) / 1024) + xenMib;
  let memoryMib = 1024;
  while (memoryMib - dom0MemoryMib(memoryMib) < fleetMib || dom0MemoryMib(memoryMib) < dom0NeedsMib(vms)) memoryMib += 1024;
  return memoryMib;
}

/** A lab that is up keeps the memory it has. */
async function memoryFor(labName: string, vmsOnHost: number, memoryKib: number): Promise<{ memoryMib?: number }> {
  return (await labStatus(labName)).up ? {} : { memoryMib: hostMemoryMib(vmsOnHost, memoryKib) };
}

interface Interruption {
  signal: AbortSignal;
  /** Once the fleet is being booted, the first Ctrl-C ends it at the next VM; before, it ends the command. */
  gently: boolean;
  end(): void;
}

/** Ctrl-C: nothing half built is left, and the operator is told what there is. */
function interruption(terminal: Terminal, labName: string): Interruption {
  const controller = new AbortController();
  const onSignal = () => {
    if (interrupted.gently && !controller.signal.aborted) {
      terminal.note('stopping after the VM under way; Ctrl-C again ends at once');
      controller.abort();
      return;
    }
    terminal.status('');
    terminal.note(`interrupted. ${cleanUpHint(labName)}`);
    process.exit(130);
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  const interrupted: Interruption = {
    signal: controller.signal,
    gently: false,
    end() {
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
    },
  };
  return interrupted;
}
