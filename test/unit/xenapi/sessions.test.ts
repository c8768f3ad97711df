/** Guessing passwords: slower with each failure, and bounded in what it can take. */
import test from 'tape';
import { Sessions } from '../../../src/xenapi/sessions.ts';

const fails = (sessions: Sessions, address = 'a') =>
  sessions.login('root', 'wrong', '', address).then(
    () => false,
    () => true,
  );

test('each attempt after a failure waits twice as long', async (t) => {
  const sessions = new Sessions({ password: 'right', penaltyMs: 40 });
  const times: number[] = [];
  for (let i = 0; i < 4; i++) {
    const began = performance.now();
    t.ok(await fails(sessions), 'refused');
    times.push(performance.now() - began);
  }
  t.ok(times[0]! < 35, `the first does not wait: ${times[0]!.toFixed(1)} ms`);
  for (const [i, least] of [
    [1, 39],
    [2, 79],
    [3, 159],
  ] as const)
    t.ok(times[i]! >= least, `${times[i]!.toFixed(1)} ms, at least ${least}`);
  const other = performance.now();
  await sessions.login('root', 'right', '', 'b');
  t.ok(performance.now() - other < 35, 'another address does not wait');
  t.ok(await sessions.login('root', 'right', '', 'a'), 'the right password enters after its wait');
  const again = performance.now();
  await sessions.login('root', 'right', '', 'a');
  t.ok(performance.now() - again < 35, 'and clears the record');
});

test('few attempts wait at once, the others are refused without a look', async (t) => {
  const sessions = new Sessions({ password: 'right', penaltyMs: 50 });
  await fails(sessions);
  const began = performance.now();
  const waiting = Array.from({ length: 100 }, () =>
    sessions.login('root', 'right', '', 'a').then(
      () => 'in',
      () => 'refused',
    ),
  );
  const first = await Promise.race(waiting.map((each) => each.then((result) => [result, performance.now() - began] as const)));
  t.deepEqual([first[0], first[1] < 40], ['refused', true], 'at once');
  t.equal((await Promise.all(waiting)).filter((result) => result === 'refused').length, 92, 'all but eight');
});

test('an empty password file is refused', (t) => {
  t.throws(() => new Sessions({ password: '' }), /empty/);
  t.end();
});
