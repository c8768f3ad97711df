/** Which addresses a VM keeps as it migrates, foretold. */
import test from 'tape';
import { planAddresses, type PlannedNetwork } from '../../../src/migrate/address-plan.ts';

const net = (name: string, cidr: string, gateway = cidr === '' ? '' : '10.64.0.1'): PlannedNetwork => ({ name, cidr, gateway });
const vifs = [{ network: 'default', addresses: ['10.64.1.0', '10.64.1.1'] }, { network: 'inner', addresses: ['172.16.0.9'] }];
const kept = (...args: Parameters<typeof planAddresses>): [string, boolean][] => planAddresses(...args).map((one) => [one.address, one.kept]);

test('addresses: they go along where the subnet and its gateway are the same, network by network', (t) => {
  const here = [net('default', '10.64.0.0/10'), net('inner', '172.16.0.0/16', '172.16.0.1')];
  t.deepEqual(kept(vifs, here, here, undefined, new Set()), [['10.64.1.0', true], ['10.64.1.1', true], ['172.16.0.9', true]]);
  const there = [net('default', '10.64.0.0/10'), net('inner', '172.17.0.0/16', '172.17.0.1')];
  t.deepEqual(kept(vifs, here, there, undefined, new Set()), [['10.64.1.0', true], ['10.64.1.1', true], ['172.16.0.9', false]]);
  t.deepEqual(kept(vifs.slice(0, 1), here, [net('default', '10.64.0.0/10', '10.64.0.2')], undefined, new Set()), [['10.64.1.0', false], ['10.64.1.1', false]], 'another gateway');
  t.deepEqual(kept(vifs.slice(0, 1), [net('default', '')], [net('default', '')], undefined, new Set()), [['10.64.1.0', false], ['10.64.1.1', false]], 'nobody can say of DHCP');
  t.end();
});

test('addresses: what does not go along is said, and why', (t) => {
  const here = [net('default', '10.64.0.0/10'), net('inner', '172.16.0.0/16', '172.16.0.1')];
  const why = (given: string | undefined, taken: string[], there: PlannedNetwork[] = here): string[] => planAddresses(vifs, here, there, given, new Set(taken)).map((one) => one.why);
  t.match(why('10.64.9.9', [])[0]!, /it is to have 10\.64\.9\.9/);
  t.match(why(undefined, ['10.64.1.1'])[1]!, /another VM there has it/);
  t.match(why(undefined, [], here.slice(0, 1))[2]!, /no network "inner"/);
  t.match(why(undefined, [], [net('default', '10.65.0.0/16', '10.65.0.1')])[0]!, /another subnet \(10\.65\.0\.0\/16\)/);
  t.end();
});
