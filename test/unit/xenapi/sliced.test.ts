/** Results that grow with the fleet: the same on the wire as if made in one go, made a little at a turn of the event loop. */
import test from 'tape';
import { jsonPieces } from '../../../src/xenapi/json-rpc.ts';
import { gathered, SlicedList, SlicedMap, SlicedText, turnsOf } from '../../../src/xenapi/sliced.ts';
import { formatXmlValue, xmlPieces } from '../../../src/xenapi/xml-rpc.ts';
import { image } from '../host/rig.ts';
import { makeServer, type ServerRig } from './rig.ts';

const cases: [sliced: unknown, plain: unknown][] = [
  [new SlicedList([]), []],
  [new SlicedList([1, 'a<"b"', { c: [true, ''] }]), [1, 'a<"b"', { c: [true, ''] }]],
  [new SlicedMap([]), {}],
  [
    new SlicedMap([
      ['x&"', 1],
      ['y', [2]],
    ]),
    { 'x&"': 1, y: [2] },
  ],
  [new SlicedText([]), ''],
  [new SlicedText(['a"\n<', '', '\ud83d', '\ude00']), 'a"\n<\ud83d\ude00'],
  [{ events: new SlicedList([1, 2]), token: 'x', counts: { a: 1 } }, { events: [1, 2], token: 'x', counts: { a: 1 } }],
  ['plain', 'plain'],
  [{ a: [1] }, { a: [1] }],
];

test('in pieces as in one go, in both protocols', (t) => {
  for (const [sliced, plain] of cases) {
    const json = [...jsonPieces(sliced)].join('');
    t.deepEqual(JSON.parse(json), plain, json);
  }
  for (const [sliced, plain] of cases.filter(([, plain]) => plain !== cases[5]![1]))
    t.equal([...xmlPieces(sliced)].join(''), formatXmlValue(plain));
  t.end();
});

test('no turn makes more than goes out with it', async (t) => {
  let made = 0;
  function* pieces(): Generator<string> {
    for (; made < 1000; made++) yield 'x'.repeat(1024);
  }
  const lengths: number[] = [];
  for (const { text, last } of turnsOf(pieces())) {
    t.notOk(last, 'there is more');
    lengths.push(text.length);
    t.ok(made <= lengths.length * 64, `${made} pieces were made for ${lengths.length} texts`);
    if (lengths.length === 3) break;
  }
  t.ok(made < 200, 'and nothing is made for who does not come back for it');
  made = 0;
  t.equal((await gathered(pieces())).length, 1000 * 1024, 'all of it, for who needs all');
});

/** The most of something that is done in one turn of the event loop. */
function mostATurn(): { count: () => void; end: () => number } {
  let now = 0;
  let most = 0;
  let ended = false;
  const turn = () => {
    most = Math.max(most, now);
    now = 0;
    if (!ended) setImmediate(turn);
  };
  turn();
  return {
    count: () => void now++,
    end: () => {
      ended = true;
      turn();
      return most;
    },
  };
}

const define = (rig: ServerRig, count: number): void => {
  for (let i = 0; i < count; i++)
    rig.agent.definitions.make({ name: `vm-${i}`, image, memoryKib: 4096, network: 'default' });
};

test('a large answer leaves turns to others, whatever asked for it', async (t) => {
  const rig = await makeServer();
  define(rig, 2000);
  const { fleet } = rig.agent;
  const [all, get] = [fleet.all.bind(fleet), fleet.get.bind(fleet)];
  let turns = mostATurn();
  fleet.all = function* (): any {
    for (const vm of all()) {
      turns.count();
      yield vm;
    }
  };
  const records = await rig.as('VM.get_all_records');
  t.equal(Object.keys(records).length, 2000);
  let most = turns.end();
  t.ok(most <= 64, `VM.get_all_records: ${most} VMs a turn`);
  turns = mostATurn();
  t.equal((await rig.plugin('list')).rows.length, 2000);
  most = turns.end();
  t.ok(most <= 900, `list: ${most} VMs a turn`);
  fleet.get = (uuid) => (turns.count(), get(uuid));
  turns = mostATurn();
  t.equal((await rig.as('event.from', ['VM', 'VIF'], '', 0)).events.length, 4000);
  most = turns.end();
  t.ok(most <= 120, `event.from from the beginning: ${most} records a turn`);
  await rig.close();
});

test('a client that hangs up in the middle of an answer ends it', async (t) => {
  const rig = await makeServer();
  define(rig, 3000);
  const { fleet } = rig.agent;
  const session = (await rig.api.sessions.login('root', 'correct horse', '', '')).ref;
  const get = fleet.get.bind(fleet);
  let made = 0;
  fleet.get = (uuid) => (made++, get(uuid));
  const { request } = await import('node:https');
  const { cert } = await import('./certificate.ts');
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'VM.get_all_records', params: [session] });
  await new Promise<void>((resolve) => {
    const outgoing = request({ host: '127.0.0.1', port: rig.server.port, ca: cert, method: 'POST', path: '/jsonrpc', agent: false });
    outgoing.on('response', (response) => {
      response.once('data', () => {
        response.destroy();
        resolve();
      });
      response.on('error', () => {});
    });
    outgoing.on('error', () => {});
    outgoing.end(body);
  });
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.ok(made < 3000, `${made} of 3,000 records were made`);
  t.equal((await rig.as('VM.get_all')).length, 3000, 'and the server goes on');
  await rig.close();
});
