/** `shoal demo`: one command from nothing to a thousand unikernels on a real Xen host, each pinged from outside. */
import { statSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { agentBundle } from '../../lab/build.ts';
import { labStatus, labUp } from '../../lab/lab.ts';
import { dom0MemoryMib, defaultMemoryMib } from '../../lab/plan.ts';
import { ShoalError } from '../../model/errors.ts';
import type { Verb } from '../arguments.ts';
import { Client } from '../client.ts';
import { runFleet } from '../demo/fleet.ts';
import { reportHtml } from '../demo/report.ts';
import { demoJson, summarise, summaryTable } from '../demo/summary.ts';
import { count } from '../format.ts';
import { noteOtherBuild, readTarget } from '../target.ts';
import type { Terminal } from '../terminal.ts';
import { build, pingImage } from './build.ts';
import type { HostFacts } from './host-show.ts';

const prefix = 'demo';
/** KiB a guest takes beside its own memory, rounded up: Xen's structures, shadow of the balloon, what dom0 grows by. */
const overheadKib = 512;
/** Of Xen itself, in MiB. */
const xenMib = 256;

export const demo: Verb = {
  name: 'demo',
  summary: 'boot a thousand unikernels on a real Xen host, and ping every one',
  options: {
    vms: { value: 'N', help: 'how many; default 1000' },
    'memory-kib': { value: 'N', help: 'memory of each; default 4096' },
    'xl-samples': { value: 'N', help: 'samples of xl at each of four fleet sizes, to compare with; default 2' },
    report: { value: 'FILE', help: 'where the report goes; default demo-report.html' },
    lab: { value: 'NAME', help: 'lab to use; default "lab". It is brought up when it is not' },
  },
  notes:
    'Sets up and builds what is missing, brings the lab up, destroys VMs of an earlier demo, boots the fleet with one request\n' +
    'a VM, prints a table and writes the report. The fleet stays up.',
  async run(terminal, words) {
    const began = performance.now();
    const vms = words.number('vms', 1000, 1, 10_000);
    const memoryKib = words.number('memory-kib', 4096, 1024, 1024 * 1024);
    const samples = words.number('xl-samples', 2, 0, 100);
    const labName = words.text('lab') ?? 'lab';
    const stop = interruption(terminal, labName);
    try {
      await build(terminal, ['unikernels']);
      const lab = await labUp({
        name: labName,
        ...(await memoryFor(labName, vms, memoryKib)),
        onProgress: (text) => (terminal.live ? terminal.status(`lab: ${text}`) : terminal.note(`lab: ${text}`)),
      });
      terminal.status('');
      const host = lab.hosts[0]!;
      if (!host.agent)
        throw new ShoalError('LAB_FAILED', `The lab "${labName}" was started without a host agent.`, {
          hint: `Run \`shoal lab down${labOption(labName)}\` first.`,
        });
      terminal.note(`lab "${labName}" is up (${lab.accelerator}); booting ${count(vms)} unikernels, one request each`);
      const client = new Client(readTarget(host));
      stop.gently = true;
      try {
        await noteOtherBuild(terminal, client, labName, agentBundle);
        const result = await runFleet({
          terminal,
          lab,
          host,
          client,
          imageFile: pingImage,
          prefix,
          vms,
          memoryKib,
          xlAt: samples === 0 ? [] : [...new Set([0, Math.round(vms / 4), Math.round(vms / 2), vms])],
          xlSamplesEach: samples,
          signal: stop.signal,
        });
        const summary = summarise(vms, result, (performance.now() - began) / 1000);
        const facts = await client.plugin<HostFacts>('facts');
        const file = resolve(words.text('report') ?? 'demo-report.html');
        writeFileSync(
          file,
          reportHtml(result, summary, {
            at: new Date(),
            xen: facts.xen,
            accelerator: lab.accelerator,
            hostMemoryKib: facts.totalKib,
            imageBytes: statSync(pingImage).size,
            memoryKib,
            shoalVersion: facts.agent.version,
          }),
        );
        terminal.print(`\n${summaryTable(summary, terminal.style)}\n`);
        terminal.note(`report: ${file}`);
        hints(terminal, labName, result.boots[0]?.name);
        if (result.error !== undefined) terminal.failure(result.error);
        terminal.printJson(demoJson(summary));
        if (stop.signal.aborted) return 130;
        return result.error === undefined && summary.answered === vms && summary.answering === vms ? 0 : 1;
      } finally {
        await client.close();
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

function hints(terminal: Terminal, labName: string, vm: string | undefined): void {
  const { dim, cyan } = terminal.noteStyle;
  const option = labOption(labName);
  const lines: [string, string][] = [
    [`shoal vm list${option}`, 'the fleet, which stays up'],
    ...(vm === undefined ? [] : ([[`shoal vm console ${vm}${option}`, 'what one of them printed']] as [string, string][])),
    [`shoal lab down${option}`, 'removes everything'],
  ];
  const width = Math.max(...lines.map(([text]) => text.length));
  for (const [text, what] of lines) terminal.note(`  ${cyan(text.padEnd(width))}  ${dim(what)}`);
}

/** Memory of the host for such a fleet, when the lab is not up yet and its default is too little. */
async function memoryFor(labName: string, vms: number, memoryKib: number): Promise<{ memoryMib?: number }> {
  if ((await labStatus(labName)).up) return {};
  const fleetMib = Math.ceil((vms * (memoryKib + overheadKib)) / 1024) + xenMib;
  let memoryMib = defaultMemoryMib;
  while (memoryMib - dom0MemoryMib(memoryMib) < fleetMib) memoryMib += 1024;
  return memoryMib === defaultMemoryMib ? {} : { memoryMib };
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
