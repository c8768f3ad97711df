/** event.from: each change once, in order, at the cost of what changed; and the truth about what was lost. */
import test from 'tape';
import { EventLog, Filter } from '../../../src/xenapi/events.ts';
import { failureOf, makeServer } from './rig.ts';
import { image, until } from '../host/rig.ts';

const all = new Filter(['*']);
const short = (log: EventLog, since: number, filter = all) =>
  [...log.since(since, filter).happenings].map((h) => `${h.class} ${h.ref} ${h.operation}`);

test('objects come in the order of their last change, each once', (t) => {
  const log = new EventLog(['VM', 'VIF', 'task']);
  log.note('VM', 'a', 'add');
  log.note('VM', 'b', 'add');
  const since = log.note('VIF', 'f', 'add');
  for (let i = 0; i < 100; i++) log.note('VM', 'a', 'mod');
  log.note('VM', 'c', 'add');
  log.note('VM', 'a', 'mod');
  log.note('VIF', 'f', 'del');
  t.deepEqual(short(log, since), ['VM c add', 'VM a mod', 'VIF f del']);
  t.deepEqual(short(log, -1), ['VM a add', 'VM b add', 'VM c add'], 'from the beginning: what there is now');
  t.deepEqual(
    short(log, since, new Filter(['vif', 'VM/a'])),
    ['VM a mod', 'VIF f del'],
    'classes in any case, and single objects',
  );
  t.deepEqual([log.live('VM'), log.live('VIF')], [3, 0]);
  log.note('VIF', 'f', 'del');
  t.equal(log.live('VIF'), 0, 'what is gone cannot go again');
  t.end();
});

test('what comes and goes between a token and a listing is still said to be gone', (t) => {
  const log = new EventLog(['task']);
  const since = log.note('task', 'x', 'add');
  log.note('task', 'y', 'add');
  log.note('task', 'y', 'del');
  t.deepEqual(short(log, since), ['task y del']);
  t.end();
});

test('a reference used again comes back as added', (t) => {
  const log = new EventLog(['VIF']);
  const since = log.note('VIF', 'f', 'add');
  log.note('VIF', 'f', 'del');
  log.note('VIF', 'f', 'add');
  t.deepEqual([short(log, since), log.live('VIF'), log.gravestones], [['VIF f add'], 1, 0]);
  t.end();
});

test('gravestones are bounded, and who is older than a forgotten one has lost events', (t) => {
  const log = new EventLog(['VM'], 10);
  const first = log.tokenAt(log.note('VM', 'keep', 'add'));
  for (let i = 0; i < 50; i++) log.note('VM', `v${i}`, 'add');
  const before = log.tokenAt(log.note('VM', 'keep', 'mod'));
  for (let i = 0; i < 5; i++) log.note('VM', `v${i}`, 'del');
  t.equal(log.parseToken(first) > 0, true, 'while all gravestones are kept, nothing is lost');
  for (let i = 5; i < 50; i++) log.note('VM', `v${i}`, 'del');
  t.equal(log.gravestones, 10);
  for (const token of [first, before]) {
    try {
      log.parseToken(token);
      t.fail('taken');
    } catch (error) {
      t.equal((error as { code: string }).code, 'EVENTS_LOST');
    }
  }
  t.end();
});

test('the cost of event.from is that of the changes, not of the objects', (t) => {
  const log = new EventLog(['VM']);
  for (let i = 0; i < 200_000; i++) log.note('VM', `v${i}`, 'add');
  const since = log.note('VM', 'v7', 'mod');
  const timed = (work: () => void): number => {
    const began = performance.now();
    work();
    return performance.now() - began;
  };
  const whole = timed(() => [...log.since(-1, all).happenings]);
  const each = timed(() => { for (let i = 0; i < 1000; i++) log.since(since, all); }) / 1000;
  t.ok(each * 100 < whole, `${each.toFixed(4)} ms with 200,000 objects and no change, ${whole.toFixed(1)} ms to say all of them`);
  t.end();
});

test('from the beginning, nothing is gone through before it is asked for', (t) => {
  const log = new EventLog(['VM', 'VIF', 'task']);
  for (let i = 0; i < 1000; i++) log.note('VM', `v${i}`, 'add');
  log.note('VIF', 'f', 'add');
  let asked = 0;
  class Counting extends Filter {
    override matches(name: string, ref: string): boolean {
      asked++;
      return super.matches(name, ref);
    }
  }
  const batch = log.since(-1, new Counting(['vm', 'vif']));
  t.deepEqual([batch.size, asked], [1001, 0], 'how much there is, is known');
  log.note('VM', 'v7', 'del');
  log.note('VM', 'late', 'add');
  const refs = [...batch.happenings].map(({ ref }) => ref);
  t.deepEqual([refs.length, refs.includes('v7'), refs.includes('late')], [1001, false, true], 'it is the truth when it is said');
  t.equal(log.since(-1, new Filter(['task'])).size, 0, 'nothing of a class without objects');
  t.equal(log.since(-1, new Filter(['VM/v1', 'VM/none'])).size, 1, 'of single objects only those there are');
  t.end();
});

test('what goes while an answer is made is told with the next', (t) => {
  const log = new EventLog(['VM']);
  const since = log.note('VM', 'a', 'add');
  log.note('VM', 'b', 'add');
  log.note('VM', 'a', 'mod');
  const { happenings, token } = log.since(since, all);
  log.note('VM', 'a', 'del');
  t.deepEqual(
    [...happenings].map((h) => `${h.ref} ${h.operation}`),
    ['b add', 'a del'],
  );
  t.deepEqual(short(log, log.parseToken(token)), ['VM a del'], 'once more, for the token is older');
  t.end();
});

test('a change after a pause goes out at once, to each that waits; a burst comes in few answers', async (t) => {
  const rig = await makeServer({ api: { eventBatchMs: 400 } });
  const make = (name: string) => rig.agent.definitions.make({ name, image, memoryKib: 4096 });
  const sessions = await Promise.all(
    Array.from({ length: 5 }, () => rig.call('session.login_with_password', 'root', 'correct horse')),
  );
  const { token } = await rig.as('event.from', ['pool'], '', 0);
  const began = performance.now();
  const waiting = sessions.map((session) => rig.call('event.from', session, ['VM'], token, 20));
  await until(() => rig.api.events.waiting === 5, 'all wait');
  const vm = make('a');
  const answers = await Promise.all(waiting);
  t.ok(performance.now() - began < 400, 'nobody waited for more to come');
  t.deepEqual(
    answers.map(({ events }) => events.map((e: any) => e.snapshot.name_label)),
    Array(5).fill(['a']),
  );
  let last = answers[0].token;
  let [count, changes, stop] = [0, 0, false];
  const watching = (async () => {
    while (!stop) {
      const answer = await rig.call('event.from', sessions[0], ['VM'], last, 0.5);
      last = answer.token;
      count += answer.events.length > 0 ? 1 : 0;
      changes += answer.events.length;
    }
  })();
  const burst = performance.now();
  for (let i = 0; i < 100; i++) {
    await rig.agent.definitions.setDescription(vm, String(i));
    make(`b-${i}`);
  }
  const most = Math.ceil((performance.now() - burst) / 400) + 1;
  await until(() => changes >= 101, 'all of it arrives');
  t.ok(count <= most, `${count} answers to a burst of 200 changes`);
  stop = true;
  await watching;
  await rig.close();
});

test('event.from over the wire', async (t) => {
  const rig = await makeServer();
  const from = (classes: string[], token: string, timeout: number) => rig.as('event.from', classes, token, timeout);
  const begin = await from(['VM'], '', 0);
  t.deepEqual([begin.events, begin.valid_ref_counts], [[], { vm: 0 }], 'nothing yet');
  const injected = await rig.as('event.inject', 'pool', rig.api.refs.pool);
  t.deepEqual((await from(['pool'], injected, 0)).events, [], 'an injected event is before its own token');
  t.equal((await from(['pool'], begin.token, 0)).events.length, 1, 'and after an older one');
  t.ok(injected > begin.token, 'tokens compare as text');

  const waiting = from(['vm'], begin.token, 20);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const began = performance.now();
  await rig.plugin('launch', { spec: JSON.stringify({ name: 'a', image, memoryKib: 4096 }) });
  const { events, valid_ref_counts: counts } = await waiting;
  t.ok(performance.now() - began < 5000, 'a waiting client is woken');
  t.deepEqual(
    events.map((e: any) => [e.class, e.operation, e.snapshot.name_label]),
    [['vm', 'add', 'a']],
  );
  t.deepEqual(counts, { vm: 1 });

  const idle = performance.now();
  const { token } = await from(['*'], '', 0);
  t.deepEqual((await from(['*'], token, 0.2)).events, [], 'a timeout gives nothing');
  t.ok(performance.now() - idle >= 190, 'after the time asked for');
  t.deepEqual(await failureOf(from(['VM'], 'nonsense', 0)), ['EVENT_FROM_TOKEN_PARSE_FAILURE', 'nonsense']);
  t.equal(
    (await failureOf(from(['VM'], token.replace(/.{8}$/, '00000000'), 0)))[0],
    'EVENTS_LOST',
    'a token of another life of the agent',
  );
  t.equal((await failureOf(rig.as('event.inject', 'VM', 'OpaqueRef:x')))[0], 'HANDLE_INVALID');
  await rig.close();
});

test('a client that hangs up while it waits leaves nothing; one that is logged out is told', async (t) => {
  const rig = await makeServer();
  const session = await rig.call('session.login_with_password', 'root', 'correct horse');
  const token = (await rig.call('event.from', session, ['*'], '', 0)).token;
  const { request } = await import('node:https');
  const outgoing = request({
    host: '127.0.0.1',
    port: rig.server.port,
    rejectUnauthorized: false,
    method: 'POST',
    path: '/jsonrpc',
    agent: false,
  });
  outgoing.on('error', () => {});
  outgoing.end(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'event.from', params: [session, ['*'], token, 60] }));
  await until(() => rig.api.events.waiting === 1, 'one waits');
  outgoing.destroy();
  await until(() => rig.api.events.waiting === 0, 'nobody waits');
  const waiting = failureOf(rig.call('event.from', session, ['VM'], token, 60));
  await until(() => rig.api.events.waiting === 1, 'one waits');
  await rig.call('session.logout', session);
  await until(() => rig.api.events.waiting === 0, 'nobody waits without a session, though nothing happens');
  t.equal((await waiting)[0], 'SESSION_INVALID');
  await rig.close();
});

test('every event has the record of its class, whole', async (t) => {
  const rig = await makeServer();
  await rig.plugin('launch', { spec: JSON.stringify({ prefix: 'w', count: 3, image, memoryKib: 4096 }) });
  const { events } = await rig.as('event.from', ['*'], '', 0);
  const shapes = new Map<string, Set<string>>();
  for (const { class: name, snapshot } of events)
    shapes.set(name, (shapes.get(name) ?? new Set()).add(JSON.stringify(Object.keys(snapshot))));
  t.ok(
    [...shapes.values()].every((each) => each.size === 1),
    'all records of a class have the same fields',
  );
  t.ok(shapes.size >= 8, `${[...shapes.keys()].join(', ')}`);
  for (const [name, keys] of shapes) {
    const { classes } = await import('../../../src/xenapi/model/model.ts');
    const model = Object.entries(classes).find(([each]) => each.toLowerCase() === name)![1];
    t.deepEqual(JSON.parse([...keys][0]!), Object.keys(model.fields), `${name}: the fields of the model, in its order`);
  }
  await rig.close();
});
