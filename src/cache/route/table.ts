/**
 * Which cache a request goes to: a pure function of the caches as they are, of where the viewer is, and of what he asks for. Near before far, as
 * long as the near ones have room; then by the ring.
 */
import { candidates, ringOf, type Ring } from './ring.ts';

/**
 * starting: not seen to serve yet. serving. suspect: did not answer the last time it was asked. draining: serves those who are there, takes
 * nobody new.
 */
export type CacheState = 'starting' | 'serving' | 'suspect' | 'draining';

export interface CacheView {
  id: string;
  /** Where viewers reach it: "http://10.64.1.7". */
  url: string;
  address: string;
  /** '' when it has none. */
  place: string;
  state: CacheState;
  /** Part of its capacity in use: 0 to 1 and above. */
  load: number;
}

export interface Table {
  caches: ReadonlyMap<string, CacheView>;
  /** Place -> its caches that take viewers; '' has all of them. */
  rings: ReadonlyMap<string, Ring>;
}

/** When none serves, those that drain still do: better than no answer. Suspects are the last resort of DNS only. */
export function tableOf(caches: readonly CacheView[]): Table {
  const serving = caches.filter((cache) => cache.state === 'serving');
  const taking = serving.length > 0 ? serving : caches.filter((cache) => cache.state === 'draining');
  const rings = new Map<string, Ring>([['', ringOf(taking.map((cache) => cache.id))]]);
  for (const place of new Set(taking.map((cache) => cache.place)))
    if (place !== '') rings.set(place, ringOf(taking.filter((cache) => cache.place === place).map((cache) => cache.id)));
  return { caches: new Map(caches.map((cache) => [cache.id, cache])), rings };
}

/** A place whose caches are all this busy sends viewers on. */
const fullLoad = 1;

/** Best first; empty when no cache takes viewers. `loads`: as the caches' own, where something newer is known. */
export function route(table: Table, key: string, place: string, loads?: ReadonlyMap<string, number>): CacheView[] {
  const loadOf = (id: string): number => loads?.get(id) ?? table.caches.get(id)?.load ?? 0;
  const all = table.rings.get('');
  if (all === undefined) return [];
  const known = new Map(all.ids.map((id) => [id, loadOf(id)]));
  const near = place === '' ? undefined : table.rings.get(place);
  const first = near === undefined ? [] : candidates(near, key, known).filter((id) => known.get(id)! < fullLoad);
  const others = candidates(all, key, known).filter((id) => !first.includes(id));
  return [...first, ...others].map((id) => table.caches.get(id)!);
}

/** The key of the ring: what is cached together. Renditions' parts and segments are apart; a query is part of the name. */
export const keyOf = (path: string): string => path;
