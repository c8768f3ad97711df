/**
 * The hosts of a lab: the two layers of snapshots that each one starts from (dom0 at rest; and on it one host's identity with
 * its agent running), and what makes a restored machine that host, now.
 */
import { randomBytes } from 'node:crypto';
import { release as machineRelease } from 'node:os';
import { agentKey, installAgent, untilAgentAnswers } from './agent.ts';
import type { Identity } from './identity.ts';
import { hostPlan } from './plan.ts';
import { emulatorVersion, machineArguments, startMachine, type MachineSeat, type MachineShape } from './qemu.ts';
import type { HostRecord } from './record.ts';
import { makeState, stateKey, stateNamed, untilConsoleSays, type SavedState } from './state.ts';
import { connect, disconnect, mustExec, type SshTarget } from './ssh.ts';

const target = (
  seat: MachineSeat,
  machine: { sshPort: number },
  who: { keyFile: string; knownHostsFile: string },
): SshTarget => ({ folder: seat.folder, port: machine.sshPort, keyFile: who.keyFile, knownHostsFile: who.knownHostsFile });

const waiting = (progress: (text: string) => void) => () => progress('waiting for another process that makes the same snapshot');

/** dom0 up and at rest, not yet any particular host. */
export async function baseState(
  shape: MachineShape,
  seat: MachineSeat,
  who: Identity,
  content: string,
  progress: (text: string) => void,
): Promise<SavedState> {
  const key = stateKey(['base', content, await emulatorVersion(), machineRelease(), ...machineArguments(shape)]);
  return stateNamed(key, waiting(progress), () => {
    progress(`booting Xen and dom0 for the snapshot (${shape.accelerator})`);
    return makeState(key, undefined, shape, seat, async (machine) => {
      await untilConsoleSays(machine, seat, 'shoal: dom0 is ready', shape.accelerator === 'kvm' ? 60_000 : 240_000);
      const ssh = target(seat, machine, who);
      await connect(ssh, 60_000);
      // what every run uses first is in memory then
      await mustExec(ssh, 'xl list >/dev/null; node -e 0; sync', { timeoutMs: 60_000 });
      await disconnect(ssh);
      progress('saving the snapshot');
    });
  });
}

/** The base state with one host's identity and its agent running. */
export async function agentState(
  base: SavedState,
  shape: MachineShape,
  seat: MachineSeat,
  who: Identity,
  progress: (text: string) => void,
): Promise<SavedState> {
  const key = stateKey(['agent', base.key, seat.index, await agentKey(seat.index, shape.processors, seat.oneSubnet)]);
  return stateNamed(key, waiting(progress), () => {
    progress(`starting the host agent for the snapshot of host${seat.index}`);
    return makeState(key, base, shape, seat, async (machine) => {
      const ssh = target(seat, machine, who);
      await connect(ssh, 60_000);
      await personalise(ssh, seat);
      await installAgent(ssh, seat.index, shape.processors, seat.oneSubnet);
      await untilAgentAnswers(machine.agentPort, seat.index, ssh, 120_000);
      await disconnect(ssh);
    });
  });
}

/** Clock, random pool, name and addresses. */
async function personalise(ssh: SshTarget, { index, oneSubnet }: MachineSeat): Promise<void> {
  const plan = hostPlan(index, oneSubnet);
  const argv = [Date.now() * 1000, plan.name, plan.mac, `${plan.address}/${plan.prefixLength}`, plan.gateway];
  await mustExec(ssh, `/usr/lib/shoal/personalise ${argv.join(' ')}`, { input: randomBytes(64), timeoutMs: 30_000 });
}

/** Starts a host from its state. It answers ssh, and so does its agent if it has one, when this resolves. */
export async function startHost(
  shape: MachineShape,
  seat: MachineSeat,
  state: SavedState,
  who: Identity,
  agent: boolean,
): Promise<HostRecord> {
  const machine = await startMachine(shape, seat, { file: state.memoryFile, shared: false, restoreFrom: state.deviceFile });
  machine.qmp.close();
  const ssh = target(seat, machine, who);
  await connect(ssh, 60_000);
  await personalise(ssh, seat);
  if (agent) await untilAgentAnswers(machine.agentPort, seat.index, ssh, 60_000);
  return { index: seat.index, process: machine.process, sshPort: machine.sshPort, agentPort: machine.agentPort, agent };
}
