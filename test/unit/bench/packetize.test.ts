/** What the packetizer's measurement makes of its rows. Pure. */
import test from 'tape';
import { leastFrom16Kib, medianGbps, packetizeCsv, packetizePlot, type PacketizeRow } from '../../../bench/minicache/packetize.ts';

const row = (blockBytes: number, gbps: number, round: number, more: Partial<PacketizeRow> = {}): PacketizeRow => ({
  sink: 'null', source: 'memory', payloadBytes: 1024, blockBytes, round, gbps, datagramsPerS: gbps * 1e5, ...more,
});

test('the promise is about the worst block size of 16 KiB and more', (t) => {
  const rows = [row(4096, 1, 1), row(16384, 30, 1), row(16384, 20, 2), row(16384, 10, 3), row(65536, 25, 1), row(65536, 0.1, 1, { sink: 'veth' }), row(65536, 0.2, 1, { payloadBytes: 1316 })];
  t.equal(leastFrom16Kib(rows), 20);
  t.equal(medianGbps(rows, { sink: 'veth' }), 0.1);
  t.equal(packetizeCsv(rows).trim().split('\n').length, 8);
  t.match(packetizePlot(rows), /^<svg/);
  t.end();
});
