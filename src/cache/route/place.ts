/** Where a viewer is, by his address: the longest prefix that is known decides. Pure. */

export interface PlacePrefix {
  /** "10.1.0.0/16". */
  cidr: string;
  place: string;
}

export function parseIpv4(text: string): number | undefined {
  const m = /^(?:::ffff:)?(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/i.exec(text);
  if (m === null) return undefined;
  const parts = m.slice(1).map(Number);
  return parts.some((p) => p > 255) ? undefined : parts.reduce((sum, p) => sum * 256 + p, 0);
}

/** `undefined` for what is no prefix. */
export function parseCidr(text: string): { first: number; bits: number } | undefined {
  const [address, length] = text.split('/');
  const first = parseIpv4(address ?? '');
  if (first === undefined || !/^\d{1,2}$/.test(length ?? '') || Number(length) > 32) return undefined;
  return { first, bits: Number(length) };
}

/** '' for an address that no prefix has. */
export function placeOf(address: string, prefixes: readonly PlacePrefix[]): string {
  const number = parseIpv4(address);
  if (number === undefined) return '';
  let best = -1;
  let place = '';
  for (const prefix of prefixes) {
    const parsed = parseCidr(prefix.cidr);
    if (parsed === undefined || parsed.bits <= best) continue;
    const size = 2 ** (32 - parsed.bits);
    if (Math.floor(number / size) === Math.floor(parsed.first / size)) [best, place] = [parsed.bits, prefix.place];
  }
  return place;
}
