/**
 * Which accelerator really boots Xen here. A /dev/kvm that opens proves nothing (KVM has been seen to abort, and to hang, as Xen
 * enters long mode), so the probe boots Xen and dom0 with it, for a bounded time, and the answer is kept for as long as the
 * machine's kernel, the emulator and the image stay the same.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { release as machineRelease, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Dom0Image } from './image.ts';
import { cacheFolder } from './paths.ts';
import { emulator, emulatorVersion, machineArguments, type Accelerator } from './qemu.ts';
import { stateKey } from './state.ts';
import { endProcess, nameProcess } from './processes.ts';

const probeMs = 25_000;

export async function chooseAccelerator(
  image: Dom0Image,
  initramfs: string,
  progress: (text: string) => void,
): Promise<Accelerator> {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return 'tcg';
  }
  const file = join(
    cacheFolder('accelerator'),
    stateKey([machineRelease(), await emulatorVersion(), image.versions.xen, image.versions.kernel]),
  );
  if (existsSync(file)) return readFileSync(file, 'utf8').trim() as Accelerator;
  progress('trying whether KVM boots Xen here');
  const found: Accelerator = (await boots(image, initramfs)) ? 'kvm' : 'tcg';
  writeFileSync(file, `${found}\n`);
  return found;
}

async function boots(image: Dom0Image, initramfs: string): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-probe-'));
  const log = join(folder, 'serial.log');
  const child = spawn(
    emulator,
    [
      ...machineArguments({ ...image, initramfs, accelerator: 'kvm', processors: 2, memoryMib: 1024, store: 'oxenstored' }),
      '-object',
      'memory-backend-ram,id=ram,size=1024M',
      '-netdev',
      'hubport,hubid=1,id=mgmt',
      '-netdev',
      'hubport,hubid=2,id=lab',
      '-serial',
      `file:${log}`,
    ],
    { stdio: 'ignore' },
  );
  let ended = false;
  child.on('error', () => (ended = true));
  child.on('exit', () => (ended = true));
  const name = child.pid === undefined ? undefined : nameProcess(child.pid);
  try {
    for (const start = Date.now(); !ended && Date.now() - start < probeMs; await sleep(50)) {
      if (existsSync(log) && readFileSync(log, 'latin1').includes('shoal: dom0 is ready')) return true;
    }
    return false;
  } finally {
    if (name !== undefined) await endProcess(name, 0);
    rmSync(folder, { recursive: true, force: true });
  }
}
