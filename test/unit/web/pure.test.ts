/** The parts of the console that need no browser: events out of text, filter, layout, addresses, texts, what is known of the fleet. */
import test from 'tape';
import type { taskView } from '../../../src/control/tasks.ts';
import type { rolloutView } from '../../../src/control/rollout-view.ts';
import type { hostView, serviceView, vmView } from '../../../src/control/views.ts';
import { matches, parseFilter } from '../../../src/web/filter.ts';
import { bytes, plainText, span } from '../../../src/web/format.ts';
import { cellAt, cornerOf, groupOf, layOut, minPitch, move } from '../../../src/web/layout.ts';
import { FleetModel } from '../../../src/web/model.ts';
import { problemOf } from '../../../src/web/problem.ts';
import { hashOf, parseRoute, serviceHash, vmHash } from '../../../src/web/route.ts';
import { isBad, rolloutWords } from '../../../src/web/rollout-words.ts';
import { EventParser } from '../../../src/web/sse.ts';
import { may, standingOf, type Doing } from '../../../src/web/standing.ts';
import type { Host, Rollout, Service, Task, Vm, Who } from '../../../src/web/types.ts';

/** The shapes the console reads are the shapes the controller answers: the compiler says so, or this file is not compiled. */
const shapes = {
  vm: (view: ReturnType<typeof vmView>): Vm => view,
  service: (view: ReturnType<typeof serviceView>): Service => view,
  host: (view: ReturnType<typeof hostView>): Host => view,
  task: (view: ReturnType<typeof taskView>): Task => view,
  rollout: (view: ReturnType<typeof rolloutView>): Rollout => view,
};

const vm = (id: string, more: Partial<Vm> = {}): Vm => ({
  id,
  name: id,
  host: 'a',
  state: 'running',
  ready: true,
  memoryKib: 1024,
  addresses: ['10.0.0.1'],
  foreign: false,
  tenant: 'acme',
  service: 'web',
  slot: 0,
  revision: 'one',
  ...more,
});

test('events: however the bytes are cut, the same events', (t) => {
  t.equal(Object.keys(shapes).length, 5);
  const text =
    'id: x-1\nevent: hello\ndata: {}\n\n: x-1\n\nid: x-2\nevent: vm\ndata: {"op":"put","key":"a: b"}\n\nevent: vm\ndata: 1\ndata: 2\n\ndata: no name\n\n';
  const whole = new EventParser().push(text);
  t.deepEqual(whole, [
    { id: 'x-1', event: 'hello', data: '{}' },
    { id: 'x-2', event: 'vm', data: '{"op":"put","key":"a: b"}' },
    { id: '', event: 'vm', data: '1\n2' },
  ]);
  for (const size of [1, 2, 7]) {
    const parser = new EventParser();
    const parts = [];
    for (let i = 0; i < text.length; i += size) parts.push(...parser.push(text.slice(i, i + size)));
    t.deepEqual(parts, whole, `in pieces of ${size}`);
  }
  t.throws(() => new EventParser().push('x'.repeat(5 * 1024 * 1024)), 'what never ends is refused');
  t.end();
});

test('filter: words, fields, and not', (t) => {
  const fields = { name: 'acme.web.1.a', host: 'Alpha', state: 'running ready', ip: '10.0.0.12' };
  for (const [text, found] of [
    ['', true],
    ['WEB alpha', true],
    ['web beta', false],
    ['host:alpha', true],
    ['host:web', false],
    ['-host:alpha', false],
    ['-beta', true],
    ['state:ready ip:10.0.', true],
    ['nosuch:alpha', false],
    ['__proto__:x', false],
    ['- ', true],
  ] as const)
    t.equal(matches(parseFilter(text), fields), found, `"${text}"`);
  t.equal(parseFilter('a '.repeat(1000)).length, 16, 'words are bounded');
  t.end();
});

test('layout: every cell has one place, inside, and is found there again', (t) => {
  for (const [sizes, width, room] of [
    [[3334, 3333, 3333], 1232, 600],
    [[3334, 3333, 3333], 358, 600],
    [[1, 0, 500, 7], 800, 500],
    [Array.from({ length: 300 }, (_, i) => i % 40), 1232, 600],
    [[10], 5, 5],
    [[], 1232, 600],
  ] as [number[], number, number][]) {
    const total = sizes.reduce((sum, each) => sum + each, 0);
    const layout = layOut(
      sizes.map((cells, i) => ({ key: `g${i}`, cells })),
      width,
      room,
    );
    t.equal(layout.cells, total, `${sizes.length} groups, ${total} cells in ${width} x ${room}`);
    const corners = new Set<string>();
    let wrong = 0;
    for (let i = 0; i < total; i++) {
      const { x, y } = cornerOf(layout, i);
      corners.add(`${x} ${y}`);
      if (x < 0 || (x + layout.side > width && width > 30) || y + layout.side > layout.height || cellAt(layout, x + 1, y + 1) !== i) wrong++;
      if (groupOf(layout, i).cells === 0) wrong++;
    }
    t.deepEqual([corners.size, wrong], [total, 0], 'places');
    t.ok(layout.height <= room || layout.pitch === minPitch || sizes.length > 100, 'as small as needed to be seen at once');
    // Nothing is found behind the last cell of a group.
    const ghosts = layout.groups.filter(({ x, cellsY, cells, perRow }) => {
      const [column, rows] = [cells % perRow, Math.floor(cells / perRow)];
      return cellAt(layout, x + column * layout.pitch + 1, cellsY + rows * layout.pitch + 1) !== undefined;
    });
    t.deepEqual(ghosts, [], 'nothing behind the last');
    t.equal(cellAt(layout, -1, -1), undefined);
    t.equal(cellAt(layout, width + 5, 10), undefined);
  }
  t.end();
});

test('layout: keys lead to every cell and never out', (t) => {
  const layout = layOut(
    [40, 0, 25].map((cells, i) => ({ key: `g${i}`, cells })),
    320,
    400,
  );
  const seen = new Set([0]);
  for (let at = 0; at < layout.cells - 1; at = move(layout, at, 'right')) seen.add(move(layout, at, 'right'));
  t.equal(seen.size, 65, 'to the right through all');
  for (let i = 0; i < 65; i++)
    for (const to of ['left', 'right', 'up', 'down', 'first', 'last', 'groupBefore', 'groupAfter'] as const) {
      const next = move(layout, i, to);
      if (!(next >= 0 && next < 65)) t.fail(`${to} of ${i} is ${next}`);
    }
  t.deepEqual([move(layout, 5, 'groupAfter'), move(layout, 50, 'groupBefore'), move(layout, 50, 'last')], [40, 0, 64]);
  t.equal(move(layOut([], 100, 100), 3, 'down'), 0, 'without cells');
  t.end();
});

test('addresses of pages: there and back, and nothing that breaks them', (t) => {
  t.deepEqual(parseRoute(vmHash('acme.web.1.a')), { page: 'vm', id: 'acme.web.1.a', query: {} });
  t.deepEqual(parseRoute(serviceHash('acme/web')), { page: 'service', id: 'acme/web', query: {} });
  t.deepEqual(parseRoute(hashOf('fleet', { by: 'service', q: 'a b&c', none: '' })), {
    page: 'fleet',
    id: '',
    query: { by: 'service', q: 'a b&c' },
  });
  t.equal(parseRoute('').page, 'fleet');
  t.equal(parseRoute(vmHash('<img src=x>')).id, '<img src=x>');
  for (const bad of ['#/%', '#/nosuch', '#/services/a', '#/services/a/b/c', '#/tasks/x', '#/__proto__', '#/vms/%E0%A4%A'])
    t.equal(parseRoute(bad).page, 'none', bad);
  t.end();
});

test('texts: sizes, times, and console output without what steers a terminal', (t) => {
  t.deepEqual([0, 1023, 1024, 1536, 200 * 1024, 5 * 1024 ** 4].map(bytes), ['0 B', '1023 B', '1 KiB', '1.5 KiB', '200 KiB', '5 TiB']);
  t.deepEqual([-5, 1500, 119_000, 3_600_000, 7 * 86_400_000].map(span), ['0 s', '2 s', '119 s', '60 min', '7 d']);
  t.equal(plainText('a\u001b[31mred\u001b[0m\r\nb\u0007\u0000\tc\u202e<b>'), 'ared\nb\tc<b>');
  t.end();
});

test('problems: documents of the API, answers that are none, no answer', (t) => {
  const own = problemOf({ code: 'NOT_FOUND', detail: 'There is no x.', hint: 'Look.', reasons: [] }, 404);
  t.deepEqual([own.status, own.code, own.message, own.hint], [404, 'NOT_FOUND', 'There is no x.', 'Look.']);
  t.equal(problemOf(undefined, 502).message, 'The controller answered 502.');
  t.equal(problemOf(new TypeError('Failed to fetch')).code, 'CONNECTION_FAILED');
  t.equal(problemOf(Object.assign(new Error('x'), { name: 'TimeoutError' })).code, 'TIMEOUT');
  t.equal(problemOf(own), own);
  t.end();
});

test('who may do what is what the API says', (t) => {
  const all: Doing[] = ['scale', 'restart', 'delete', 'cancel', 'drain', 'vm', 'seeHosts'];
  const of = (role: string, tenant?: string): Doing[] =>
    all.filter((doing) => may({ id: '', role, version: '', fleet: '', ...(tenant === undefined ? {} : { tenant }) } as Who, doing));
  t.deepEqual(of('operator'), all);
  t.deepEqual(of('tenant', 'acme'), ['scale', 'restart', 'delete', 'cancel', 'vm']);
  t.deepEqual(of('ci', 'acme'), ['scale', 'restart', 'cancel']);
  t.deepEqual([of('viewer'), of('viewer', 'acme')], [['seeHosts'], []]);
  t.end();
});

test('how a VM stands', (t) => {
  t.deepEqual(
    [
      standingOf(vm('a'), true),
      standingOf(vm('a', { ready: false }), true),
      standingOf(vm('a', { state: 'asked' }), undefined),
      standingOf(vm('a'), false),
      standingOf(vm('a', { hostAway: true }), undefined),
      standingOf(vm('a', { hostAway: true }), true),
      standingOf(vm('a', { foreign: true }), true),
      standingOf(vm('a', { state: 'failed' }), true),
      standingOf(vm('a', { state: 'paused' }), true),
      standingOf(vm('a', { state: 'halted' }), true),
    ],
    ['ready', 'probing', 'starting', 'away', 'away', 'ready', 'foreign', 'failed', 'paused', 'halted'],
  );
  t.end();
});

test('the model: lists, then changes; news are bounded and count what differs', (t) => {
  const model = new FleetModel();
  const service = { id: 'acme/web', revision: 'two', copies: { wanted: 2, ready: 1 }, deleting: false } as Service;
  model.replace({ vms: [vm('a'), vm('b', { revision: 'two' })], services: [service], hosts: [{ id: 'a', state: 'up' } as Host], tasks: [], rollouts: [] });
  t.deepEqual([model.vms.size, model.counts().ready, model.isOutdated(model.vms.get('a')!), model.isOutdated(model.vms.get('b')!)], [2, 2, true, false]);
  const { shape } = model;
  model.apply({ kind: 'vm', op: 'put', key: 'a', data: vm('a', { state: 'halted', ready: false }) }, 1);
  t.deepEqual([model.shape, model.counts().halted, model.news[0]!.text, model.news[0]!.bad], [shape, 1, 'halted on a', true], 'no new shape');
  model.apply({ kind: 'vm', op: 'put', key: 'a', data: vm('a', { state: 'halted', ready: false, memoryKib: 8 }) }, 2);
  t.equal(model.news.length, 1, 'what does not differ is no news');
  model.apply({ kind: 'vm', op: 'put', key: 'c', data: vm('c') }, 3);
  model.apply({ kind: 'vm', op: 'del', key: 'b' }, 4);
  t.deepEqual([[...model.vms.keys()], model.shape], [['a', 'c'], shape + 2]);
  model.apply({ kind: 'host', op: 'put', key: 'a', data: { id: 'a', state: 'away', drained: false } }, 5);
  t.equal(model.standing(model.vms.get('c')!), 'away');
  const before = model.news.length;
  for (let i = 0; i < 5; i++) model.apply({ kind: 'service', op: 'put', key: 'acme/web', data: service }, 6);
  t.equal(model.news.length, before + 1, 'counts of one service, one after the other, are one line');
  for (let i = 0; i < 2000; i++) model.apply({ kind: 'vm', op: 'put', key: `x${i}`, data: vm(`x${i}`) }, 7);
  t.equal(model.news.length, 500, 'bounded');
  model.apply({ kind: 'later', op: 'put', key: 'k', data: {} }, 8);
  t.equal(model.vms.size, 2002, 'a kind that is not known yet changes nothing');
  const rollout = { id: 'acme/web', phase: 'observing', wave: 0, waves: [{ copies: 1, ready: 1, begun: true }], release: { counter: 7, revision: 'one' }, reason: '' } as unknown as Rollout;
  model.apply({ kind: 'rollout', op: 'put', key: 'acme/web', data: rollout }, 9);
  t.deepEqual([model.news[0]!.text, model.news[0]!.bad, model.isOutdated(vm('a'))], ['release 7, canary is watched', false, false], 'a release on its way is ahead');
  const told = model.news.length;
  model.apply({ kind: 'rollout', op: 'put', key: 'acme/web', data: { ...rollout } }, 9);
  t.equal(model.news.length, told, 'told once a step');
  const back = { ...rollout, phase: 'rolled-back', good: { counter: 6 }, reason: 'it is bad' } as Rollout;
  t.deepEqual([rolloutWords(back), isBad(back)], ['is back on release 6: it is bad', true]);
  model.replace({ vms: [vm('z')], services: [], hosts: [], tasks: [], rollouts: [] });
  t.deepEqual([[...model.vms.keys()], model.hosts.size], [['z'], 0], 'what is not listed is gone');
  t.end();
});
