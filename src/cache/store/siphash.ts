/**
 * SipHash-2-4 (Aumasson, Bernstein 2012), the check of records and chunks. In 32-bit halves: BigInt arithmetic is a hundred times
 * slower.
 */

/** `key`: 16 bytes. The hash as [low, high] unsigned 32-bit halves. */
export function siphash24(key: Uint8Array, bytes: Uint8Array): [number, number] {
  const keys = new DataView(key.buffer, key.byteOffset, 16);
  const k0l = keys.getUint32(0, true), k0h = keys.getUint32(4, true);
  const k1l = keys.getUint32(8, true), k1h = keys.getUint32(12, true);
  let al = k0l ^ 0x70736575, ah = k0h ^ 0x736f6d65;
  let bl = k1l ^ 0x6e646f6d, bh = k1h ^ 0x646f7261;
  let cl = k0l ^ 0x6e657261, ch = k0h ^ 0x6c796765;
  let dl = k1l ^ 0x79746573, dh = k1h ^ 0x74656462;

  const round = (): void => {
    let low = (al >>> 0) + (bl >>> 0);
    ah = (ah + bh + (low > 0xffffffff ? 1 : 0)) | 0;
    al = low | 0;
    let high = (bh << 13) | (bl >>> 19);
    bl = ((bl << 13) | (bh >>> 19)) ^ al;
    bh = high ^ ah;
    high = ah, ah = al, al = high; // by 32
    low = (cl >>> 0) + (dl >>> 0);
    ch = (ch + dh + (low > 0xffffffff ? 1 : 0)) | 0;
    cl = low | 0;
    high = (dh << 16) | (dl >>> 16);
    dl = ((dl << 16) | (dh >>> 16)) ^ cl;
    dh = high ^ ch;
    low = (al >>> 0) + (dl >>> 0);
    ah = (ah + dh + (low > 0xffffffff ? 1 : 0)) | 0;
    al = low | 0;
    high = (dh << 21) | (dl >>> 11);
    dl = ((dl << 21) | (dh >>> 11)) ^ al;
    dh = high ^ ah;
    low = (cl >>> 0) + (bl >>> 0);
    ch = (ch + bh + (low > 0xffffffff ? 1 : 0)) | 0;
    cl = low | 0;
    high = (bh << 17) | (bl >>> 15);
    bl = ((bl << 17) | (bh >>> 15)) ^ cl;
    bh = high ^ ch;
    high = ch, ch = cl, cl = high; // by 32
  };

  const whole = bytes.length - (bytes.length % 8);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const take = (low: number, high: number): void => {
    dl ^= low, dh ^= high;
    round(), round();
    al ^= low, ah ^= high;
  };
  for (let at = 0; at < whole; at += 8) take(view.getInt32(at, true), view.getInt32(at + 4, true));
  let low = 0, high = (bytes.length & 0xff) << 24;
  for (let i = bytes.length - 1; i >= whole; i--) {
    const place = i - whole;
    if (place >= 4) high |= bytes[i]! << (8 * (place - 4));
    else low |= bytes[i]! << (8 * place);
  }
  take(low, high);
  cl ^= 0xff;
  round(), round(), round(), round();
  return [(al ^ bl ^ cl ^ dl) >>> 0, (ah ^ bh ^ ch ^ dh) >>> 0];
}
