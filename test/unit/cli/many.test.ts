/** One call for each of many VMs. */
import test from 'tape';
import { eachVm } from '../../../src/cli/many.ts';
import { Terminal } from '../../../src/cli/terminal.ts';
import { ShoalError } from '../../../src/model/errors.ts';

const sink = { write: () => true };
const terminal = new Terminal({ stdout: sink, stderr: sink, env: {}, json: false });
const vms = Array.from({ length: 20 }, (_, i) => ({ ref: `r${i}`, uuid: `u${i}`, name: `vm-${i}` }));
const turn = () => new Promise((done) => setImmediate(done));

test('four at a time; one that fails keeps no other from its turn', async (t) => {
  let [now, most] = [0, 0];
  const outcome = await eachVm(terminal, 'doing', vms, 4, async ({ name }) => {
    most = Math.max(most, ++now);
    await turn();
    now--;
    if (name === 'vm-3') throw new ShoalError('NAME_IN_USE', 'as arranged');
  });
  t.deepEqual([most, outcome.done, outcome.failed.map(({ name, error }) => `${name} ${error.code}`)], [4, 19, ['vm-3 NAME_IN_USE']]);
  t.deepEqual(await eachVm(terminal, 'doing', [], 4, turn), { done: 0, failed: [] });
  t.end();
});

test('a host that is gone: what is under way ends, and no further one begins', async (t) => {
  let [begun, ended] = [0, 0];
  const work = eachVm(terminal, 'doing', vms, 4, async ({ name }) => {
    begun++;
    await turn();
    if (name === 'vm-5') throw new ShoalError('CONNECTION_FAILED', 'as arranged');
    await turn();
    ended++;
  });
  t.equal(await work.then(() => 'none', (error: ShoalError) => error.code), 'CONNECTION_FAILED');
  t.equal(begun, ended + 1, 'nothing is under way when it is told');
  t.ok(begun < 12, `${begun} of 20 were begun`);
  t.end();
});
