/** The spec of a service: what is left out, what is refused, and that all reasons come at once. */
import test from 'tape';
import { readSpec } from '../../../src/control/schema.ts';
import { formatCopyId, parseCopyId, vmNameOf } from '../../../src/model/fleet.ts';
import { hasListedAddresses, revisionText, scaled } from '../../../src/model/service.ts';

const good = { tenant: 'acme', name: 'web', image: 'ping', count: 25, memoryKib: 4096 };
const paths = (value: unknown) =>
  readSpec(value)
    .reasons.map(({ path }) => path)
    .sort();

test('what is left out has its value', (t) => {
  const { spec } = readSpec({ ...good, health: { kind: 'http', path: '/up' }, restart: { maxMs: 5000 } });
  t.deepEqual(spec!.networks, [{ name: 'default', addresses: { from: 'host' } }]);
  t.deepEqual(spec!.health, {
    kind: 'http',
    port: 80,
    path: '/up',
    intervalMs: 5000,
    timeoutMs: 1000,
    healthyAfter: 1,
    unhealthyAfter: 3,
    graceMs: 10_000,
  });
  t.deepEqual(spec!.placement, { strategy: 'spread', required: false, labels: {} });
  t.deepEqual(
    [spec!.restart, spec!.update, spec!.args],
    [{ firstMs: 1000, maxMs: 5000, resetAfterMs: 600_000 }, { maxAtOnce: 3, order: 'start-first' }, ''],
  );
  t.deepEqual(readSpec({ ...good, networks: [] }).spec!.networks, [], 'no network at all can be asked for');
  t.end();
});

test('each field that is wrong is named', (t) => {
  const wrong: [object, string][] = [
    [{ colour: 1 }, 'colour'],
    [{ tenant: undefined }, 'tenant'],
    [{ tenant: 'ACME' }, 'tenant'],
    [{ tenant: '../etc' }, 'tenant'],
    [{ name: 'a/b' }, 'name'],
    [{ name: 'x'.repeat(29) }, 'name'],
    [{ image: '' }, 'image'],
    [{ count: -1 }, 'count'],
    [{ count: 1.5 }, 'count'],
    [{ count: '3' }, 'count'],
    [{ memoryKib: 4097 }, 'memoryKib'],
    [{ memoryKib: 4 }, 'memoryKib'],
    [{ args: 'é' }, 'args'],
    [{ networks: [{ name: 'a', mtu: 9000 }] }, 'networks/0/mtu'],
    [{ networks: [{ name: 'a', addresses: { from: 'pool' } }] }, 'networks/0/addresses/pool'],
    [{ networks: [{ name: 'a', addresses: { from: 'host', pool: 'x' } }] }, 'networks/0/addresses/pool'],
    [{ count: 2, networks: [{ name: 'a', addresses: { from: 'list', list: ['10.0.0.1'] } }] }, 'networks/0/addresses/list'],
    [{ count: 1, networks: [{ name: 'a', addresses: { from: 'list', list: ['10.0.0.256'] } }] }, 'networks/0/addresses/list/0'],
    [
      { count: 2, networks: [{ name: 'a', addresses: { from: 'list', list: ['10.0.0.1', '10.0.0.1'] } }] },
      'networks/0/addresses/list/1',
    ],
    [{ health: { kind: 'tcp' } }, 'health/kind'],
    [{ health: { kind: 'none', intervalMs: 1000 } }, 'health'],
    [{ health: { kind: 'icmp', port: 80 } }, 'health/port'],
    [{ health: { kind: 'http', timeoutMs: 9000 } }, 'health/timeoutMs'],
    [{ health: { kind: 'http' }, networks: [] }, 'health'],
    [{ placement: { strategy: 'random' } }, 'placement/strategy'],
    [{ placement: { strategy: 'pack', required: true } }, 'placement/required'],
    [{ placement: { labels: { zone: 1 } } }, 'placement/labels/zone'],
    [{ restart: { firstMs: 10, maxMs: 5 } }, 'restart/firstMs'],
    [{ update: { maxAtOnce: 0 } }, 'update/maxAtOnce'],
  ];
  for (const [change, path] of wrong) t.deepEqual(paths({ ...good, ...change }), [path], JSON.stringify(change));
  for (const value of [null, [], 'x', 3]) t.ok(readSpec(value).reasons.length > 0, JSON.stringify(value));
  t.end();
});

test('all reasons at once, those of shape and those of meaning', (t) => {
  const { spec, reasons } = readSpec({
    tenant: 'T',
    name: 'web',
    count: 2,
    memoryKib: 5,
    colour: 1,
    networks: [{ name: 'a', addresses: { from: 'list', list: ['1.2.3.4'] } }],
    health: { kind: 'icmp', port: 1 },
  });
  t.equal(spec, undefined);
  t.deepEqual([...new Set(reasons.map(({ path }) => path))].sort(), [
    'colour',
    'health/port',
    'image',
    'memoryKib',
    'networks/0/addresses/list',
    'tenant',
  ]);
  t.ok(
    reasons.every(({ message, hint }) => message !== '' && hint !== ''),
    'each with what to do',
  );
  t.ok(readSpec({ ...good, networks: Array.from({ length: 5000 }, () => 7) }).reasons.length <= 100, 'but not without end');
  t.end();
});

test('scaled: what follows from the number follows it, what was given stays', (t) => {
  const spec = readSpec(good).spec!;
  t.deepEqual([spec.update.maxAtOnce, scaled(spec, 1000).update.maxAtOnce, scaled(spec, 1000).count], [3, 100, 1000]);
  const given = readSpec({ ...good, update: { maxAtOnce: 7 } }).spec!;
  t.equal(scaled(given, 1000).update.maxAtOnce, 7);
  t.equal(spec.count, 25, 'the spec itself is as it was');
  t.end();
});

test('what makes a copy outdated, and what does not', (t) => {
  const spec = readSpec(good).spec!;
  const text = (change: object, image = 'd', nonce = 0) => revisionText({ ...spec, ...change }, image, nonce);
  for (const change of [
    { count: 9 },
    { restart: { ...spec.restart, maxMs: 1 } },
    { placement: { ...spec.placement, labels: { a: 'b' } } },
    { image: 'other-name' },
  ])
    t.equal(text(change), text({}), `not ${Object.keys(change)[0]}`);
  for (const change of [{ memoryKib: 8192 }, { args: 'x' }, { networks: [] }])
    t.notEqual(text(change), text({}), Object.keys(change)[0]);
  t.notEqual(text({}, 'e'), text({}), 'the digest');
  t.notEqual(text({}, 'd', 1), text({}), 'a restart that was asked for');
  t.ok(hasListedAddresses({ ...spec, networks: [{ name: 'a', addresses: { from: 'list', list: [] } }] }));
  t.end();
});

test('a copy says which it is; what is not of this form is nobody', (t) => {
  const id = { fleet: '0123abcd', tenant: 'acme', service: 'web', slot: 12, serial: 4711, revision: 'deadbeef' };
  t.deepEqual(parseCopyId(formatCopyId(id)), id);
  t.equal(vmNameOf(id), 'acme.web.12.3mv');
  t.ok(vmNameOf({ ...id, tenant: 'x'.repeat(16), service: 'y'.repeat(28), slot: 9999, serial: 10 ** 12 }).length <= 64);
  for (const text of ['', 'x', `${formatCopyId(id)}/`, formatCopyId(id).replace('4711', '-1'), '0123abcd/a/../1/2/deadbeef'])
    t.equal(parseCopyId(text), undefined, text);
  t.end();
});
