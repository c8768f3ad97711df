/**
 * Connections moved between real kernels: client — router — waypoints A and B — server, in network namespaces, real MPTCP sockets at both ends. Every byte that
 * is received is checked against what it must be. Nothing here is about time.
 */
import test from 'tape';
import { AgentProcess, moverOf, wait, type Mover } from '../../../bench/migration/moving.ts';
import { buildPrograms, Network, outside, outsideAgain, type NetworkOptions, type Traffic } from '../../../bench/migration/network.ts';
import type { MoveRecord } from '../../../src/migrate/paths-journal.ts';
import type { MoveState } from '../../../src/migrate/paths-table.ts';
import type { CoordinatorOptions } from '../../../src/migrate/paths.ts';
import type { ShoalError } from '../../../src/model/errors.ts';

buildPrograms();

interface Scene {
  network: Network;
  agent: AgentProcess;
  mover: Mover;
  server: Traffic;
  client: Traffic;
  connections: number;
  /** Both ends receive more than they had. */
  goesOn(): Promise<boolean>;
  /** Both ends end: everything that was sent was received, unchanged. */
  isWhole(): Promise<string>;
}

/** Waits for what has to happen; the bound is there for what never does. */
async function until(happened: () => Promise<boolean> | boolean, boundMs = 60_000): Promise<boolean> {
  for (const end = performance.now() + boundMs; ; await wait(20)) {
    if (await happened()) return true;
    if (performance.now() > end) return false;
  }
}

async function scene(options: Partial<NetworkOptions>, work: (scene: Scene) => Promise<void>, more: Partial<CoordinatorOptions> & { downMs?: number; connections?: number } = {}): Promise<void> {
  const network = await Network.make({ delayMs: 2, ...options });
  const connections = more.connections ?? 2;
  const agents: AgentProcess[] = [];
  const start = async (who: 'c' | 's', config: object): Promise<AgentProcess> => {
    const agent = new AgentProcess(network, who, config);
    agents.push(agent);
    return agent.start();
  };
  try {
    const agent = await start('s', { addresses: [outside.a, outside.b, outsideAgain] });
    // Longer than an answer takes on a busy machine: tries taken back too early come to nothing.
    if (options.client === 'userspace') await start('c', { follow: { retryMs: 250 } });
    const server = network.traffic('s', 'listen', '0.0.0.0', '0', 'records');
    const client = network.traffic('c', 'connect', outside.a, String(await server.port), 'records', String(connections));
    await client.port;
    const both = (): Promise<[number, number]> => Promise.all([client.ask().then(({ received }) => received), server.ask().then(({ received }) => received)]);
    const goesOn = async (): Promise<boolean> => {
      const before = await both();
      return until(async () => {
        const now = await both();
        return now[0] > before[0] && now[1] > before[1];
      });
    };
    const isWhole = async (): Promise<string> => {
      const [s, c] = await Promise.all([server.end(), client.end()]);
      if (s.bad + c.bad + s.broken + c.broken > 0) return JSON.stringify([s, c]);
      return s.sent === c.received && c.sent === s.received && s.sent > 0 ? 'whole' : JSON.stringify([s, c]);
    };
    await goesOn();
    await work({ network, agent, mover: moverOf(network, agent, { joinMs: 15_000, ...more }), server, client, connections, goesOn, isWhole });
  } finally {
    for (const agent of agents) await agent.remove();
    network.remove();
  }
}

/** The kernel ends subflows a little after it was told to. */
const onlyOn = ({ agent, mover, connections: all }: Scene): Promise<boolean> =>
  until(async () => {
    const away = mover.at === outside.b ? outsideAgain : outside.b;
    const { connections } = await agent.client.status({ from: away, to: mover.at });
    return connections.length === all && connections.every(({ from, to }) => from.established === 0 && to.established > 0 && !to.backup);
  });

for (const client of ['kernel', 'userspace'] as const)
  test(`connections move 8 times in a row, the client by ${client}`, async (t) => {
    await scene({ client }, async (s) => {
      for (let i = 1; i <= 8; i++) {
        const { record } = await s.mover.move();
        t.equal(record.state, 'moved', `move ${i}: ${record.why ?? 'moved'}`);
      }
      t.ok(await onlyOn(s), 'all are on the last address only');
      t.equal(await s.isWhole(), 'whole', 'no byte lost or doubled');
    });
    t.end();
  });

test('break before make: the target drops what comes early, the client asks again', async (t) => {
  await scene({ client: 'userspace' }, async (s) => {
    for (let i = 0; i < 3; i++) t.equal((await s.mover.move('break-before-make')).record.state, 'moved');
    t.ok(await onlyOn(s), 'all are on the last address only');
    t.equal(await s.isWhole(), 'whole', 'no byte lost or doubled');
  }, { downMs: 200 });
  t.end();
});

test('asked to stop at each row: back, and nothing lost', async (t) => {
  await scene({}, async (s) => {
    const save = s.mover.store.save.bind(s.mover.store);
    const rows: MoveState[] = ['copying', 'announcing', 'joining', 'demoting', 'draining', 'suspending', 'burying', 'withdrawing'];
    let stopAt: MoveState | undefined;
    s.mover.store.save = async (record: MoveRecord) => {
      await save(record);
      if (record.state === stopAt) s.mover.coordinator.abort(record.id, 'a test');
    };
    // Away from the first address, to which a kernel comes back only so often.
    t.equal((await s.mover.move()).record.state, 'moved', 'a move before');
    for (stopAt of rows) {
      const { record } = await s.mover.move();
      t.deepEqual([record.state, record.why], ['stayed', 'a test'], `stopped while ${stopAt}`);
      t.ok(await s.goesOn(), 'data goes on');
      t.ok(await onlyOn(s), 'where they were, and only there');
    }
    stopAt = undefined;
    t.equal((await s.mover.move()).record.state, 'moved', 'then a move works');
    t.equal(await s.isWhole(), 'whole', 'no byte lost or doubled');
  });
  t.end();
});

test('a join that arrives after its address was taken back does not stand in the way of the next move', async (t) => {
  // A round trip is longer than two calls to the agent.
  await scene({ delayMs: 150 }, async (s) => {
    t.equal((await s.mover.move()).record.state, 'moved', 'a move before, away from the first address');
    const [from, address] = [s.mover.at, outsideAgain];
    const joins = (): number => Number(/MPJoinSynRx\s+(\d+)/.exec(s.network.in('s', 'nstat -asz MPTcpExtMPJoinSynRx'))![1]);
    const before = joins();
    s.network.open('a');
    await s.agent.client.announce({ address, from });
    await s.agent.client.withdraw({ address });
    t.ok(await until(() => joins() >= before + s.connections), 'the joins arrived');
    t.ok((await s.agent.client.status({ from, to: address })).connections.every(({ announced }) => !announced), 'at what is announced no more');
    const { record } = await s.mover.move();
    t.equal(record.state, 'moved', record.why ?? 'moved');
    t.ok(await onlyOn(s), 'all are on the last address only');
    t.equal(await s.isWhole(), 'whole', 'no byte lost or doubled');
  });
  t.end();
});

test('the path agent is killed with -9 in the middle, and a new one goes on', async (t) => {
  await scene({}, async (s) => {
    const save = s.mover.store.save.bind(s.mover.store);
    for (const state of ['announcing', 'joining', 'demoting', 'withdrawing'] as const) {
      let again: Promise<unknown> | undefined;
      s.mover.store.save = async (record: MoveRecord) => {
        await save(record);
        if (record.state !== state || again !== undefined) return;
        await s.agent.kill();
        again = s.agent.start();
      };
      const { record } = await s.mover.move();
      await again;
      t.equal(record.state, 'moved', `killed before ${state}: ${record.why ?? 'moved'}`);
      t.ok(await onlyOn(s), 'the new agent found what was there');
    }
    t.equal(await s.isWhole(), 'whole', 'no byte lost or doubled');
  }, { patienceMs: 60_000 });
  t.end();
});

test('a peer that refuses ADD_ADDR: the move goes back, its connections never notice', async (t) => {
  await scene({ client: 'refusing' }, async (s) => {
    const { record } = await s.mover.move();
    t.equal(record.state, 'stayed');
    t.match(record.why!, /PATHS_LOST: 2 connections did not join/, 'it says what would have been lost');
    t.equal(await s.isWhole(), 'whole', 'no byte lost or doubled');
  }, { joinMs: 1_500 });
  t.end();
});

test('the client roams to another address while its connections move', async (t) => {
  await scene({}, async (s) => {
    const moving = s.mover.move();
    s.network.in('c', 'echo 1 >/proc/sys/net/ipv4/conf/net/promote_secondaries; ip addr add 10.1.0.3/24 dev net; ip mptcp endpoint add 10.1.0.3 dev net subflow fullmesh');
    await wait(100);
    s.network.in('c', 'ip mptcp endpoint delete id 0 10.1.0.2; ip addr del 10.1.0.2/24 dev net; ip route replace default via 10.1.0.1');
    const { record } = await moving;
    t.ok(['moved', 'stayed'].includes(record.state), `the move ended: ${record.state} ${record.why ?? ''}`);
    t.ok(await s.goesOn(), 'data goes on');
    t.equal(await s.isWhole(), 'whole', 'no byte lost or doubled');
  });
  t.end();
});

test('a call about what is not in the policy is refused by the kernel-side agent, too', async (t) => {
  await scene({}, async ({ agent }) => {
    const code = await agent.client.announce({ address: '203.0.113.5', from: outside.a }).then(() => 'none', (error: ShoalError) => error.code);
    t.equal(code, 'FORBIDDEN');
  });
  t.end();
});
