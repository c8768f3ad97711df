/** A flash crowd: 1 to 500 viewers in ten seconds, once on caches that come with it and once on a fixed number. */
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { outside, type EventLab } from '../../src/cli/event-lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';

export interface CrowdResult {
  requests: number;
  errors: number;
  /** Answers that took longer than four seconds. */
  late: number;
  problems: Record<string, number>;
  /** From the moment the load passed what caches should carry to a further one serving; 0 when it came before, NaN when none did. */
  reactedMs: number;
  /** Caches serving at the end of the ramp and at the end. */
  caches: { most: number };
  series: { atMs: number; watching: number; slowestMs: number; caches: number; load: number }[];
}

interface EventView {
  caches: { serving: number; total: number };
  edges: { state: string; load: number }[];
}

/** Caches are to be no fuller than this (src/cache/route/scale.ts). */
const wantedLoad = 0.6;

export async function crowd(world: EventLab, name: string, origin: number, size: { viewers: number; rampS: number; holdS: number; min: number; max: number }): Promise<CrowdResult> {
  const { viewers, rampS, holdS, min, max } = size;
  const made = await world.events.call<{ url: string }>('POST', '/v1/video-events', {
    tenant: 'acme', name, origin: `http://${outside}:${origin}`, path: '/film/index.m3u8', min, max, until: new Date(Date.now() + 900_000).toISOString(),
  });
  const view = () => world.events.call<EventView>('GET', `/v1/video-events/acme/${name}`);
  while ((await view()).caches.serving < min) await sleep(50);
  await sleep(1_000);
  const looks: { atMs: number; caches: number; load: number }[] = [];
  let watching = true;
  const looking = (async () => {
    for (; watching; await sleep(100)) {
      const { edges } = await view();
      const serving = edges.filter(({ state }) => state === 'serving');
      looks.push({ atMs: Date.now(), caches: serving.length, load: Math.max(0, ...serving.map(({ load }) => load)) });
    }
  })();
  const { stdout } = await world.lab.inside([process.execPath, join(repositoryRoot, 'bench/cache/crowd.mjs'), made.url, String(viewers), String(rampS), String(holdS)], {
    timeoutMs: (rampS + holdS + 60) * 1000,
  });
  watching = false;
  await looking;
  await world.events.call('DELETE', `/v1/video-events/acme/${name}`);
  const lines = stdout.trim().split('\n').map((line) => JSON.parse(line) as Record<string, number> & { problems?: Record<string, number> });
  const end = lines.at(-1)!;
  const first = looks.find(({ load }) => load > wantedLoad);
  const grown = looks.find(({ caches }) => caches > min);
  return {
    requests: end['requests']!,
    errors: end['errors']!,
    late: end['late']!,
    problems: end.problems ?? {},
    reactedMs: first === undefined || grown === undefined ? NaN : Math.max(0, grown.atMs - first.atMs),
    caches: { most: Math.max(...looks.map(({ caches }) => caches)) },
    series: lines.slice(0, -1).map((line) => {
      const look = looks.findLast(({ atMs }) => atMs <= line['atMs']!);
      return { atMs: line['atMs']! - looks[0]!.atMs, watching: line['watching']!, slowestMs: line['slowestMs']!, caches: look?.caches ?? 0, load: look?.load ?? 0 };
    }),
  };
}
