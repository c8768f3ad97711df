/** Numbers, sizes and times as people read them. Pure. */

const grouped = new Intl.NumberFormat('en-GB');
export const count = (n: number): string => grouped.format(n);

/** "1 VM", "300 VMs". */
export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function bytes(n: number): string {
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${n >= 100 || unit === 0 ? Math.round(n) : Math.round(n * 10) / 10} ${units[unit]}`;
}

export const kib = (n: number): string => bytes(n * 1024);

export const percent = (part: number): string => `${Math.floor(part * 100)} %`;

/** "12 s", "4 min", "3 h", "9 d". */
export function span(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86_400)} d`;
}

export const since = (iso: string, nowMs: number): string => span(nowMs - Date.parse(iso));

/** Of the day, in local time. */
export const clock = (ms: number): string => new Date(ms).toLocaleTimeString('en-GB');

export const date = (iso: string): string => new Date(iso).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

/** "sha256:abcdef…": the beginning tells two digests apart. */
export const shortDigest = (digest: string): string => (digest.length > 23 ? `${digest.slice(0, 19)}…` : digest);

/** Console output as plain text: no escape sequences, no control characters but line ends and tabs. */
export const plainText = (text: string): string =>
  text
    .replace(/\u001b\[[0-?]*[ -/]*[@-~]/g, '')
    .replace(/\u001b[@-Z\\-_]/g, '')
    .replace(/\r\n?/g, '\n')
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '');
