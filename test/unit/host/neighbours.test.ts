/** Other hosts as an agent sees them: measured, remembered, bounded. */
import { createServer, type AddressInfo } from 'node:net';
import test from 'tape';
import { Neighbours } from '../../../src/host/neighbours.ts';
import { formula, type Past } from '../../../src/migrate/estimate.ts';

const past = (bandwidthBps: number): Past => {
  const plain = formula({ memoryKib: 1024, filled: 1, dirtyBps: 0 }, { rttMs: 1, bandwidthBps }, false);
  return { formula: plain, bytes: 1, totalMs: 1, downtimeMs: 1, live: false, filled: 1, dirtyBps: 0, bandwidthBps };
};

test('a round trip is measured by connecting; a host that is away has none', async (t) => {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const neighbours = new Neighbours();
  neighbours.name(url);
  t.deepEqual(neighbours.way(url), { rttMs: undefined, bandwidthBps: undefined }, 'named, not measured');
  const rttMs = await neighbours.measure(url);
  t.ok(rttMs !== undefined && rttMs > 0);
  t.equal(neighbours.list()[0]!.rttMs, rttMs);
  await new Promise((resolve) => server.close(resolve));
  await neighbours.measureAll();
  t.equal(neighbours.way(url).rttMs, undefined, 'it is away');
  neighbours.name('ftp://nowhere');
  t.equal(neighbours.list().length, 1, 'what is no address of an agent is none');
  neighbours.close();
});

test('what past migrations were like is kept, the last of them, of the last hosts', (t) => {
  const neighbours = new Neighbours();
  const url = 'https://10.0.0.1';
  for (let i = 1; i <= 50; i++) neighbours.learn(`${url}/somewhere`, past(i));
  t.equal(neighbours.past(url).length, 32);
  t.equal(neighbours.way(url).bandwidthBps, 49, 'the median of the last three');
  for (let i = 0; i < 1024; i++) neighbours.name(`https://10.1.${i >> 8}.${i & 255}`);
  t.equal(neighbours.list().length, 1024);
  t.equal(neighbours.past(url).length, 0, 'the first that was named gave way');
  neighbours.close();
  t.end();
});
