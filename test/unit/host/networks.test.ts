/** Addresses: given out in a ring, never twice, never a reserved one. */
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import type { Uuid } from '../../../src/model/ids.ts';
import { AddressBook, formatIpv4, MacBook, parseIpv4 } from '../../../src/host/networks.ts';

const book = (first: string, last: string, gateway = '10.0.0.1') =>
  new AddressBook({
    name: 'n',
    bridge: 'b',
    subnet: { prefix: 24, gateway: parseIpv4(gateway)!, first: parseIpv4(first)!, last: parseIpv4(last)! },
  });
const [a, b] = ['5a0a15e4-0000-8000-8000-0000000000ff', '5a0a15e4-0000-8000-8000-0000000000fe'] as Uuid[];

function code(work: () => unknown): string {
  try {
    work();
    return 'none';
  } catch (error) {
    return (error as ShoalError).code;
  }
}

test('addresses as text', (t) => {
  for (const text of ['0.0.0.0', '10.64.1.2', '255.255.255.255', '192.168.0.1']) t.equal(formatIpv4(parseIpv4(text)!), text);
  for (const text of ['', '1.2.3', '1.2.3.4.5', '256.1.1.1', '01.2.3.4', '1.2.3.-4', 'a.b.c.d', '1.2.3.4 ', '1..2.3'])
    t.equal(parseIpv4(text), undefined, `"${text}"`);
  t.end();
});

test('the whole range is given out once, without what is reserved', (t) => {
  const all = book('10.0.0.0', '10.0.0.255');
  const given = Array.from({ length: 253 }, () => all.take(a!));
  t.equal(new Set(given).size, 253, 'each once');
  t.notOk(
    given.some((address) => ['10.0.0.0', '10.0.0.1', '10.0.0.255'].includes(address)),
    'not the network, the gateway, the broadcast address',
  );
  t.equal(
    code(() => all.take(a!)),
    'ADDRESSES_EXHAUSTED',
  );
  all.release('10.0.0.77', a!);
  t.equal(all.take(b!), '10.0.0.77', 'one that came back is found');
  t.equal(all.holder('10.0.0.77'), b);
  t.end();
});

test('an address that was given back is the last to be given again', (t) => {
  const ring = book('10.0.0.10', '10.0.0.12');
  t.equal(ring.take(a!), '10.0.0.10');
  ring.release('10.0.0.10', a!);
  t.deepEqual([ring.take(a!), ring.take(a!), ring.take(a!)], ['10.0.0.11', '10.0.0.12', '10.0.0.10']);
  t.end();
});

test('an address that went to another host is not handed out, until a VM here has it again', (t) => {
  const ring = book('10.0.0.10', '10.0.0.11');
  ring.claim('10.0.0.10', a!);
  ring.release('10.0.0.10', a!);
  ring.goesAway('10.0.0.10');
  ring.goesAway('10.0.0.99');
  t.deepEqual(ring.away(), ['10.0.0.10'], 'those of the own range');
  t.equal(ring.take(a!), '10.0.0.11');
  t.equal(code(() => ring.take(a!)), 'ADDRESSES_EXHAUSTED');
  ring.claim('10.0.0.10', b!);
  t.deepEqual(ring.away(), []);
  ring.release('10.0.0.10', b!);
  t.equal(ring.take(b!), '10.0.0.10');
  t.end();
});

test('one that comes along may be of another range, and must be of the subnet', (t) => {
  const ring = book('10.0.0.10', '10.0.0.11');
  t.equal(code(() => ring.claim('10.0.0.99', a!)), 'ADDRESS_INVALID');
  t.equal(ring.claim('10.0.0.99', a!, true), '10.0.0.99');
  t.equal(code(() => ring.claim('10.0.0.99', b!, true)), 'ADDRESS_IN_USE');
  for (const bad of ['10.0.0.0', '10.0.0.1', '10.0.0.255', '10.0.1.1', '9.255.255.255'])
    t.equal(code(() => ring.claim(bad, b!, true)), 'ADDRESS_INVALID', bad);
  t.end();
});

test('only its holder gives an address back', (t) => {
  const one = book('10.0.0.10', '10.0.0.12');
  one.claim('10.0.0.11', a!);
  one.release('10.0.0.11', b!);
  t.equal(
    code(() => one.claim('10.0.0.11', b!)),
    'ADDRESS_IN_USE',
  );
  t.end();
});

test('MACs that would be the same are not', (t) => {
  const macs = new MacBook();
  const given = [macs.take(a!, 0), macs.take(a!, 0), macs.take(b!, 1), macs.take(b!, 0)];
  t.deepEqual(given, ['00:16:3e:00:00:ff', '00:16:3e:00:01:00', '00:16:3e:00:01:01', '00:16:3e:00:00:fe']);
  t.end();
});
