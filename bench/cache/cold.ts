/** Request to first byte when nothing runs yet: a new event of ours, and nginx in a Debian guest that xl starts. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { outside, type EventLab } from '../../src/cli/event-lab.ts';
import { p50 } from '../../src/cli/demo/statistics.ts';
import type { LabHost } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { ShoalError } from '../../src/model/errors.ts';
import { guestFolder, guestName, inDom0, prepareDebianGuest } from './debian.ts';

const path = '/film/index.m3u8';
const script = join(repositoryRoot, 'bench/cache/cold.mjs');

interface Answered {
  beganMs: number;
  firstByteMs: number;
}

async function ask({ lab }: EventLab, words: readonly string[]): Promise<Answered> {
  const { code, stdout, stderr } = await lab.inside([process.execPath, script, ...words], { timeoutMs: 150_000 });
  if (code !== 0) throw new ShoalError('LAB_FAILED', `no first byte: ${stderr.trim().slice(-300)}`);
  return JSON.parse(stdout) as Answered;
}

/** Milliseconds from the request for the event to the first byte of its playlist, which the cache had to fetch. */
export async function measureEvents(world: EventLab, origin: number, rounds: number, onStep: (text: string) => void): Promise<number[]> {
  const found: number[] = [];
  for (let round = 0; round < rounds; round++) {
    onStep(`new event, round ${round + 1} of ${rounds}`);
    const name = `cold-${round}`;
    const spec = { tenant: 'acme', name, origin: `http://${outside}:${origin}`, path, min: 1, max: 1, shield: false, until: new Date(Date.now() + 600_000).toISOString() };
    const { beganMs, firstByteMs } = await ask(world, ['event', JSON.stringify(spec), 'https://127.0.0.1:7444/v1/video-events', world.controller.caFile, world.controller.tokenFile]);
    found.push(firstByteMs - beganMs);
    await world.events.call('DELETE', `/v1/video-events/acme/${name}`);
    while ((await world.fleet.list('/v1/vms')).length > 0) await sleep(50);
  }
  return found;
}

/** The same of nginx: from `xl create` in dom0 to the first byte. What an empty command takes on the way to dom0 is subtracted. */
export async function measureNginx(world: EventLab, host: LabHost, scratch: string, origin: number, rounds: number, onStep: (text: string) => void): Promise<number[]> {
  const ip = '10.64.251.9';
  await prepareDebianGuest(host, scratch, { ip, gateway: outside, origin: `${outside}:${origin}` });
  const empty: number[] = [];
  for (let i = 0; i < 5; i++) {
    const began = performance.now();
    await inDom0(host, 'true');
    empty.push(performance.now() - began);
  }
  const found: number[] = [];
  for (let round = 0; round < rounds; round++) {
    onStep(`nginx in a Debian guest, round ${round + 1} of ${rounds}`);
    const beganMs = performance.timeOrigin + performance.now() + p50(empty);
    const [answered] = await Promise.all([ask(world, ['wait', `http://${ip}${path}`]), inDom0(host, `xl create -q ${guestFolder}/guest.cfg`)]);
    found.push(answered.firstByteMs - beganMs);
    await inDom0(host, `xl destroy ${guestName}`);
  }
  return found;
}
