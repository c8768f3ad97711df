import test from 'tape';
import { machineArguments, xenOptions, type MachineShape } from '../../../src/lab/qemu.ts';
import { staleStates, stateKey } from '../../../src/lab/state.ts';

const shape: MachineShape = {
  accelerator: 'tcg',
  processors: 2,
  memoryMib: 2048,
  store: 'oxenstored',
  xen: '/c/xen',
  kernel: '/c/vmlinuz',
  initramfs: '/c/init',
};
const keyOf = (changed: Partial<MachineShape>) =>
  stateKey(['base', 'content', 'version', ...machineArguments({ ...shape, ...changed })]);

test('state: the key changes with whatever changes the machine, and with nothing else', (t) => {
  t.equal(keyOf({}), keyOf({}), 'same machine, same key');
  const keys = [
    keyOf({}),
    keyOf({ memoryMib: 4096 }),
    keyOf({ processors: 1 }),
    keyOf({ accelerator: 'kvm' }),
    keyOf({ store: 'xenstored' }),
    keyOf({ initramfs: '/c/other' }),
  ];
  t.equal(new Set(keys).size, keys.length);
  t.notEqual(stateKey(['a', 'bc']), stateKey(['ab', 'c']), 'ingredients do not run together');
  t.notEqual(stateKey([1]), stateKey(['1']));
  t.end();
});

test('state: the emulator gets what the recipe found necessary', (t) => {
  const argv = machineArguments(shape);
  t.ok(argv.includes('max,-smap,-smep'), 'no SMAP under emulation: dom0 dies of it');
  t.match(xenOptions(8192), /dom0_mem=2048M,max:2048M/);
  t.match(argv[argv.indexOf('-initrd') + 1]!, /^\/c\/vmlinuz .*shoal\.store=oxenstored,\/c\/init$/);
  t.notOk(
    argv.some((word) => /hostfwd|mem-path|fd=/.test(word)),
    'nothing that differs from start to start',
  );
  t.end();
});

test('state: of many, the ones used last are kept; interrupted work never', (t) => {
  const found = [
    { name: 'old', usedMs: 1 },
    { name: 'building-abc-7-1', usedMs: 99 },
    { name: 'building-abc-8-1', usedMs: 98 },
    { name: 'building-odd', usedMs: 97 },
    { name: 'new', usedMs: 3 },
    { name: 'middle', usedMs: 2 },
  ];
  const alive = ({ pid, startTicks }: { pid: number; startTicks: number }) => pid === 8 && startTicks === 1;
  t.deepEqual(staleStates(found, 2, alive), ['building-abc-7-1', 'building-odd', 'old']);
  t.deepEqual(staleStates(found, 5, alive), ['building-abc-7-1', 'building-odd']);
  t.deepEqual(staleStates([], 2, alive), []);
  t.end();
});
