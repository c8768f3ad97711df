import test from 'tape';
import { spawn } from 'node:child_process';
import { locked } from '../../../src/lab/lock.ts';
import { endProcess, isAlive, must, nameProcess, run } from '../../../src/lab/processes.ts';

test('processes: code, output and input of a program', async (t) => {
  t.deepEqual(await run(['sh', '-c', 'cat; echo err >&2; exit 3'], { input: 'in' }), { code: 3, stdout: 'in', stderr: 'err\n' });
  t.equal((await run(['/nonexistent/program'])).code, 127);
  const begun = Date.now();
  t.equal((await run(['sleep', '30'], { timeoutMs: 50 })).code, 124);
  t.ok(Date.now() - begun < 5000, 'a program that takes too long is ended');
  t.equal((await run(['true'], { input: new Uint8Array(1 << 20) })).code, 0, 'input that nobody reads does no harm');
});

test('processes: must throws with the last words of the program', async (t) => {
  try {
    await must(['sh', '-c', 'echo because >&2; exit 9'], { code: 'SETUP_FAILED' });
    t.fail('it did not throw');
  } catch (error) {
    t.equal((error as { code: string }).code, 'SETUP_FAILED');
    t.match((error as Error).message, /exit code 9: because/);
  }
});

test('processes: a pid alone does not name a process', async (t) => {
  const child = spawn('sleep', ['30'], { stdio: 'ignore' });
  const name = nameProcess(child.pid!)!;
  t.ok(isAlive(name));
  const other = { pid: name.pid, startTicks: name.startTicks + 1 };
  t.notOk(isAlive(other), 'same pid, another start');
  await endProcess(other, 0);
  t.ok(isAlive(name), 'the process that only has the pid is left alone');
  await endProcess(name, 1000);
  t.notOk(isAlive(name));
  await endProcess(name, 0);
  t.pass('ending it again is fine');
});

test('lock: one at a time, and a waiter is told', async (t) => {
  const order: string[] = [];
  let told = 0;
  const first = locked(
    'unit-test',
    5000,
    () => undefined,
    async () => {
      order.push('first in');
      await new Promise((resolve) => setTimeout(resolve, 150));
      order.push('first out');
    },
  );
  await new Promise((resolve) => setTimeout(resolve, 30));
  await locked(
    'unit-test',
    5000,
    () => (told += 1),
    async () => void order.push('second in'),
  );
  await first;
  t.deepEqual(order, ['first in', 'first out', 'second in']);
  t.equal(told, 1);
  const held = locked(
    'unit-test',
    5000,
    () => undefined,
    () => new Promise((resolve) => setTimeout(resolve, 600)),
  );
  await new Promise((resolve) => setTimeout(resolve, 30));
  try {
    await locked(
      'unit-test',
      150,
      () => undefined,
      async () => t.fail('two at once'),
    );
    t.fail('it did not give up');
  } catch (error) {
    t.equal((error as { code: string }).code, 'TIMEOUT');
  }
  await held;
});
