/** Sizes as people write them. */
import { ShoalError } from '../model/errors.ts';

/** "4096", "64M": bytes. `name` is the option it was given by. Throws USAGE. */
export function wholeBytes(text: string, name: string): number {
  const scale = { '': 1, k: 1024, m: 1048576, g: 1073741824 }[text.replace(/^\d+/, '').toLowerCase()];
  const value = Number.parseInt(text, 10) * (scale ?? Number.NaN);
  if (!/^\d+[kmg]?$/i.test(text) || !Number.isSafeInteger(value)) throw new ShoalError('USAGE', `${name}: ${text} is not a size`, { hint: 'Give bytes, or K, M, G.' });
  return value;
}
