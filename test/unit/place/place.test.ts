/** The placer: where copies go, why they do not, always the same, and 10,000 of them at once. And who holds which address. */
import test from 'tape';
import type { Host } from '../../../src/model/fleet.ts';
import { completed } from '../../../src/model/service.ts';
import { FleetAddresses } from '../../../src/place/addresses.ts';
import { place, type Request } from '../../../src/place/place.ts';

const gib = 1024 * 1024;
const hostOf = (name: string, more: Partial<Host> = {}): Host => ({
  name,
  state: 'up',
  awaySinceMs: 0,
  drained: false,
  dead: false,
  labels: {},
  totalKib: 16 * gib,
  freeKib: 15 * gib,
  promisedKib: 0,
  vifs: 0,
  maxVifs: 1000,
  vms: 0,
  load: 0,
  networks: ['default'],
  ...more,
});
const specOf = (more: object = {}) =>
  completed({ tenant: 't', name: 's', image: 'sha256:0', count: 1, memoryKib: 4096, ...more });
const requests = (n: number, more: object = {}, rest: Partial<Request> = {}): Request[] =>
  Array.from({ length: n }, (_, slot) => ({
    key: 't/s',
    spec: specOf(more),
    slot,
    avoid: undefined,
    replacesOn: undefined,
    ...rest,
  }));
const none = () => 0;
const where = (asked: Request[], hosts: Host[], copies: (key: string, host: string) => number = none) =>
  place(asked, { hosts, copies }).map((p) => p.host ?? p.why);

test('spread goes round, pack fills up, ties go to the first name', (t) => {
  const abc = ['c', 'a', 'b'].map((name) => hostOf(name));
  t.deepEqual(where(requests(4), abc), ['a', 'b', 'c', 'a'], 'spread');
  t.deepEqual(where(requests(4, { placement: { strategy: 'pack' } }), abc), ['a', 'a', 'a', 'a'], 'pack');
  const small = [hostOf('a', { freeKib: 16 * 1024 + 2 * 4608 }), hostOf('b')];
  t.deepEqual(
    where(requests(3, { placement: { strategy: 'pack' } }), small),
    ['a', 'a', 'b'],
    'pack goes on when the first is full',
  );
  t.deepEqual(
    where(requests(2), abc, (_, host) => (host === 'a' ? 1 : 0)),
    ['b', 'c'],
    'copies there already are counted',
  );
  t.deepEqual(where(requests(1), [hostOf('a', { load: 1 }), hostOf('b', { vms: 900 })]), ['b'], 'a busy host waits');
  t.deepEqual(where(requests(1), [hostOf('a', { freeKib: 4 * gib }), hostOf('b')]), ['b'], 'memory counts');
  t.end();
});

test('what a host must have', (t) => {
  const hosts = [
    hostOf('a', { labels: { zone: 'x' } }),
    hostOf('b', { labels: { zone: 'y' }, networks: ['default', 'lan'] }),
    hostOf('c', { drained: true }),
    hostOf('d', { state: 'away' }),
    hostOf('e', { dead: true }),
  ];
  t.deepEqual(where(requests(2, { placement: { labels: { zone: 'y' } } }), hosts), ['b', 'b'], 'labels');
  t.deepEqual(where(requests(1, { networks: [{ name: 'lan' }] }), hosts), ['b'], 'networks');
  t.deepEqual(where(requests(3), hosts), ['a', 'b', 'a'], 'drained, away and dead hosts take nothing');
  t.deepEqual(where(requests(1, {}, { avoid: 'a' }), hosts), ['b'], 'avoided');
  t.deepEqual(where(requests(1, {}, { avoid: 'a' }), hosts.slice(0, 1)), ['a'], 'unless there is no other');
  const must = { placement: { required: true } };
  t.deepEqual(
    where(requests(3, must), hosts),
    ['a', 'b', 'each of 2 hosts has a copy already, and no second one is allowed'],
    'spread required',
  );
  t.deepEqual(
    where(requests(1, must, { replacesOn: 'a' }), hosts, () => 1),
    ['a'],
    'the copy to be replaced is no second one',
  );
  t.end();
});

test('why there is no host', (t) => {
  const why = (hosts: Host[], more: object = {}) => where(requests(1, more), hosts)[0]!;
  t.equal(why([]), 'the fleet has no hosts');
  t.ok(/^none of 1 hosts takes new VMs/.test(why([hostOf('a', { drained: true })])));
  t.ok(/labels and networks/.test(why([hostOf('a')], { placement: { labels: { zone: 'x' } } })));
  t.equal(why([hostOf('a', { freeKib: 20_000 })]), 'none of 1 hosts has 4608 KiB free');
  t.equal(why([hostOf('a', { promisedKib: 15 * gib })]), 'none of 1 hosts has 4608 KiB free', 'what was promised is not free');
  t.equal(why([hostOf('a', { vifs: 1000 })]), 'none of 1 hosts has room for 1 more vifs');
  t.end();
});

test('10,000 copies on 50 hosts, twice the same, evenly, and again after a host failed', (t) => {
  const hosts = Array.from({ length: 50 }, (_, i) =>
    hostOf(`h${String(i).padStart(2, '0')}`, { totalKib: 4 * gib, freeKib: 3 * gib }),
  );
  const services = Array.from({ length: 100 }, (_, s) => requests(100, {}, { key: `t/s${s}` })).flat();
  const began = performance.now();
  const first = place(services, { hosts, copies: none });
  const ms = performance.now() - began;
  t.ok(ms < 2000, `from scratch in ${Math.round(ms)} ms`);
  t.deepEqual(place(services, { hosts: [...hosts].reverse(), copies: none }), first, 'the same, whatever the order of the hosts');
  const load = new Map<string, number>();
  const perService = new Map<string, number>();
  for (const { request, host } of first) {
    load.set(host!, (load.get(host!) ?? 0) + 1);
    perService.set(`${request.key} ${host}`, (perService.get(`${request.key} ${host}`) ?? 0) + 1);
  }
  t.ok(
    [...load.values()].every((n) => n >= 190 && n <= 210),
    'hosts have about 200 each',
  );
  t.ok(
    [...perService.values()].every((n) => n === 2),
    'two of each service on each host',
  );
  const lost = first.filter(({ host }) => host === 'h07').map(({ request }) => request);
  const left = hosts.map((host) => (host.name === 'h07' ? { ...host, state: 'away' as const } : { ...host, vms: 200 }));
  const again = place(lost, { hosts: left, copies: (key, host) => perService.get(`${key} ${host}`) ?? 0 });
  t.ok(
    again.every(({ host }) => host !== undefined && host !== 'h07'),
    'all placed elsewhere',
  );
  t.ok(new Set(again.map(({ host }) => host)).size >= 40, 'over the other hosts');
  t.end();
});

test('addresses go round, are held by all who say so, and doubles are seen', (t) => {
  const book = new FleetAddresses();
  const range = { first: 10, last: 13, except: (a: number) => a === 12 };
  t.deepEqual(
    [1, 2, 3, 4].map((n) => book.take('net', range, `o${n}`)),
    [10, 11, 13, undefined],
  );
  book.release('net', 10, 'o9');
  t.notOk(book.isFree('net', 10), 'only its owner can give it back');
  book.release('net', 10, 'o1');
  book.release('net', 13, 'o3');
  t.equal(book.take('net', range, 'x'), 10, 'the ring goes on behind the last one given');
  t.equal(book.take('other', range, 'x'), 10, 'networks are apart');
  book.hold('net', 11, 'z');
  t.deepEqual(book.doubles(), [{ network: 'net', address: 11, owners: ['o2', 'z'] }]);
  book.release('net', 11, 'o2');
  t.deepEqual([book.isFree('net', 11), book.doubles()], [false, []], 'held until the last lets go');
  t.end();
});
