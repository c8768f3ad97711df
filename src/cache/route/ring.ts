/**
 * Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016): a key goes to the first cache behind it on a ring that is not
 * busier than a bound over the mean. So one segment is held by few caches, a cache that comes or goes moves few keys, and a key that everybody
 * asks for spreads over as many caches as it needs. Pure.
 */

/** Points of one cache on the ring; with 64 the shares of ten caches differ by about an eighth. */
const pointsEach = 64;
/** A cache takes keys of its own until it is so many times busier than the mean. */
export const boundFactor = 1.25;
/** Below so much of its capacity no cache is too busy, whatever the others do: an idle tier keeps each key in one place. */
export const freeLoad = 0.5;
/** Above this it is full, as long as another is not. */
const fullLoad = 0.95;

/** 32 bits, well mixed (FNV-1a, with the last steps of MurmurHash3). */
export function hashOf(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

export interface Ring {
  /** Ascending. */
  points: readonly number[];
  /** Cache of each point, as its place in `ids`. */
  owners: readonly number[];
  ids: readonly string[];
}

/** The same for the same set of ids, in whatever order. */
export function ringOf(ids: readonly string[]): Ring {
  const sorted = [...new Set(ids)].sort();
  const all = sorted.flatMap((id, owner) => Array.from({ length: pointsEach }, (_, i) => ({ point: hashOf(`${id}#${i}`), owner })));
  all.sort((a, b) => a.point - b.point || a.owner - b.owner);
  return { points: all.map((p) => p.point), owners: all.map((p) => p.owner), ids: sorted };
}

/** All caches, in the order in which the key meets them. */
export function walk(ring: Ring, key: string): string[] {
  const { points, owners, ids } = ring;
  if (points.length === 0) return [];
  const hash = hashOf(key);
  let low = 0;
  for (let high = points.length; low < high; ) {
    const middle = (low + high) >>> 1;
    if (points[middle]! < hash) low = middle + 1;
    else high = middle;
  }
  const met: string[] = [];
  const seen = new Set<number>();
  for (let i = 0; i < points.length && met.length < ids.length; i++) {
    const owner = owners[(low + i) % points.length]!;
    if (seen.has(owner)) continue;
    seen.add(owner);
    met.push(ids[owner]!);
  }
  return met;
}

/** Best first: those within the bound in the key's order, then the others by load. `loads`: parts of capacity, by id. */
export function candidates(ring: Ring, key: string, loads: ReadonlyMap<string, number>): string[] {
  const order = walk(ring, key);
  const mean = order.reduce((sum, id) => sum + (loads.get(id) ?? 0), 0) / Math.max(1, order.length);
  const bound = Math.max(freeLoad, Math.min(fullLoad, boundFactor * mean));
  const within = order.filter((id) => (loads.get(id) ?? 0) <= bound);
  const beyond = order.filter((id) => (loads.get(id) ?? 0) > bound).sort((a, b) => (loads.get(a) ?? 0) - (loads.get(b) ?? 0));
  return [...within, ...beyond];
}
