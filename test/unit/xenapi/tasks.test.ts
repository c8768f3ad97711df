/** Tasks of clients that never come back are bounded in number and in what their results hold. */
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import { Tasks } from '../../../src/xenapi/tasks.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('a task goes through its states, each of them noted', async (t) => {
  const notes: string[] = [];
  const tasks = new Tasks((task, kind) => notes.push(`${kind} ${task.status}`));
  const task = tasks.run('x', async (_, progress) => {
    progress(0.5);
    return 'a<b';
  });
  t.throws(() => tasks.destroy(task), /under way/, 'not while it is under way');
  await turn();
  await turn();
  t.deepEqual([task.status, task.result, task.progress], ['success', '<value>a&lt;b</value>', 1]);
  tasks.cancel(task);
  t.equal(task.status, 'success', 'what ended cannot be cancelled');
  tasks.destroy(task);
  t.deepEqual(notes, ['add pending', 'mod pending', 'mod success', 'del success'], 'success is told before the deletion');
  t.equal(tasks.get(task.ref), undefined);
});

test('progress is told ten times a second, however often it is made, and the end always', async (t) => {
  let nowMs = 0;
  const notes: string[] = [];
  const tasks = new Tasks((task, kind) => notes.push(`${kind} ${task.status} ${task.progress}`), () => nowMs);
  const task = tasks.run('x', async (_, progress) => {
    for (let i = 1; i <= 10_000; i++, nowMs += 0.2) progress(i / 10_001);
  });
  await turn();
  await turn();
  const told = notes.filter((note) => note.startsWith('mod pending')).length;
  t.ok(told >= 19 && told <= 21, `${told} of 10,000 in two seconds`);
  t.equal(notes.at(-1), 'mod success 1');
  t.equal(task.progress, 1);
});

test('only a cancelled task ends as cancelled', async (t) => {
  const tasks = new Tasks(() => {});
  const cancelled = () => Promise.reject(new ShoalError('TASK_CANCELLED', 'because something else was cancelled'));
  const other = tasks.run('x', cancelled);
  const own = tasks.run('y', cancelled);
  tasks.cancel(own);
  t.equal(own.status, 'cancelling');
  await turn();
  await turn();
  t.deepEqual([other.status, own.status], ['failure', 'cancelled']);
});

test('ended tasks are bounded, the oldest go first', async (t) => {
  const tasks = new Tasks(() => {});
  const first = tasks.run('first', async () => 'x');
  for (let i = 0; i < 5000; i++) tasks.run('x', async () => '');
  await turn();
  await turn();
  t.equal([...tasks.all()].length, 4096);
  t.equal(tasks.get(first.ref), undefined);
  const large = 'x'.repeat(10 << 20);
  for (let i = 0; i < 10; i++) tasks.run('large', async () => large);
  await turn();
  await turn();
  t.ok([...tasks.all()].length <= 3, `${[...tasks.all()].length} tasks with large results are kept`);
});

test('tasks that a client steers', (t) => {
  const tasks = new Tasks(() => {});
  const task = tasks.create('upload', '');
  tasks.steer(task, { progress: 7 });
  t.equal(task.progress, 1, 'progress is 0 to 1');
  t.throws(() => tasks.steer(task, { status: 'dancing' }), /not a status/);
  tasks.steer(task, { status: 'success' });
  t.equal(task.status, 'success');
  t.throws(
    () =>
      tasks.steer(
        tasks.run('x', async () => ''),
        { progress: 0 },
      ),
    /steers/,
  );
  t.end();
});
