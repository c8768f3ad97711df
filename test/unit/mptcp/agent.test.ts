/** The path agent's acts and the follower, over simulated connections. */
import test from 'tape';
import { PathAgent, type Policy } from '../../../src/mptcp/agent.ts';
import { Follower } from '../../../src/mptcp/follower.ts';
import { SimulatedMptcp } from '../../../src/mptcp/simulated.ts';
import type { ShoalError } from '../../../src/model/errors.ts';

const [w1, w2] = ['192.0.2.1', '198.51.100.1'];
const local = { address: w1, port: 443 };
const peer = (n: number) => ({ address: `10.0.0.${n}`, port: 40_000 + n });
const turn = (ms = 0): Promise<void> => new Promise((done) => setTimeout(done, ms));

function rig(policy: Partial<Policy> = {}, scope: 'connection' | 'namespace' = 'connection') {
  const port = new SimulatedMptcp(scope);
  const agent = new PathAgent({ port, policy: { addresses: [w1, w2], maxSubflows: 4, ...policy }, log: () => {} });
  return { port, agent };
}
const codeOf = (work: Promise<unknown>): Promise<string> => work.then(() => 'none', (error: ShoalError) => error.code);

test('a move by hand: announced, joined, set backup, withdrawn; each act once however often it is asked for', async (t) => {
  const { port, agent } = rig();
  const tokens = [1, 2, 3].map((n) => port.connect(local, peer(n)));
  const results = (list: { result: string }[]): string => list.map(({ result }) => result).join();
  t.equal(results(await agent.announce({ address: w2, from: w1 })), 'done,done,done', 'announced');
  t.equal(results(await agent.announce({ address: w2, from: w1 })), 'already,already,already', 'a second time nothing is done');
  t.equal(port.calls.filter((call) => call.startsWith('announce')).length, 3, 'one announcement a connection');
  const { connections } = await agent.status({ from: w1, to: w2 });
  t.ok(connections.every(({ from, to, announced }) => from.established === 1 && to.established === 1 && announced), 'every connection has both');
  t.equal(results(await agent.backup({ address: w1, backup: true, tokens: [tokens[0]!] })), 'done', 'one connection only');
  t.equal(results(await agent.backup({ address: w1, backup: true })), 'already,done,done', 'then the others');
  t.ok((await agent.status({ from: w1, to: w2 })).connections.every(({ from }) => from.backup), 'all are backup');
  t.equal(results(await agent.withdraw({ address: w1 })), 'done,done,done', 'withdrawn');
  t.ok((await agent.status({ from: w1, to: w2 })).connections.every(({ from, to }) => from.established === 0 && to.established === 1), 'only the new path is left');
  t.equal(agent.counts.announced, 3, 'counted');
  t.end();
});

test('the id of an announced address is one that the connection does not use, and is looked up anew', async (t) => {
  const { port, agent } = rig({ addresses: undefined });
  const token = port.connect(local, peer(1));
  for (let round = 0; round < 600; round++) {
    const [from, to] = round % 2 === 0 ? [w1, w2] : [w2, w1];
    await agent.announce({ address: to, from });
    const [was, is] = [from, to].map((address) => port.connections()[0]!.subflows.find(({ local: at }) => at.address === address)!.localId);
    if (is === was || (round > 0 && is !== (was! % 255) + 1)) t.fail(`the id ${is} after ${was}`);
    await agent.withdraw({ address: from });
  }
  const [connection] = port.connections();
  t.equal(connection!.token, token, 'the connection lives after 600 moves');
  t.deepEqual(connection!.announced.map(({ id }) => id), [(599 % 255) + 1], 'each id is used again only after all others: a removal that is late hits nothing new');
  const again = new PathAgent({ port, policy: { addresses: undefined, maxSubflows: 4 }, log: () => {} });
  await again.announce({ address: '203.0.113.9', from: w1 });
  const ids = port.connections()[0]!.announced.map(({ id }) => id);
  t.equal(new Set(ids).size, ids.length, 'an agent that is new to the connection takes no id twice');
  t.end();
});

test('an address that the kernel numbered for a late join is announced anew, under an id of its own', async (t) => {
  const { port, agent } = rig();
  const token = port.connect(local, peer(1), 'waits');
  await agent.announce({ address: w2, from: w1 });
  await agent.withdraw({ address: w2 });
  port.joinLate(token, w2);
  t.equal((await agent.status({ from: w1, to: w2 })).connections[0]!.announced, false, 'what a late join left is no announcement');
  t.equal((await agent.announce({ address: w2, from: w1 }))[0]!.result, 'done', 'announced');
  const [{ announced, numbered }] = port.connections() as [ReturnType<typeof port.connections>[number]];
  t.deepEqual([announced, numbered], [[{ address: w2, id: 2 }], []], 'under another id: the removal of that one may still be on its way');
  t.end();
});

test('an address that still carries frames is taken back gently: its peers end their subflows, and only those of who does not are ended here', async (t) => {
  for (const peersLeave of [true, false]) {
    const port = new SimulatedMptcp();
    const agent = new PathAgent({ port, policy: { addresses: [w1, w2], maxSubflows: 4 }, log: () => {}, leaveMs: 60 });
    const token = port.connect(local, peer(1));
    const done = (): string => port.calls.splice(0).filter((call) => /^(withdraw|destroy|announce)/.test(call)).map((call) => call.split(' ')[0]).join();
    await agent.announce({ address: w2, from: w1 });
    done();
    port.peersLeave = peersLeave;
    t.equal((await agent.withdraw({ address: w2, gently: true }))[0]!.result, 'done', 'taken back');
    t.equal(done(), peersLeave ? 'withdraw' : 'withdraw,withdraw,destroy', peersLeave ? 'the peer ended it' : 'the peer did not');
    t.deepEqual(port.connections().map(({ subflows, announced }) => [subflows.length, announced.length]), [[1, 0]], 'the connection has its first path only');
    t.equal((await agent.withdraw({ address: w2, gently: true }))[0], undefined, 'and nothing of it is left to take back');
    await agent.announce({ address: w2, from: w1 });
    done();
    t.equal((await agent.announce({ address: w2, from: w1, anew: true, tokens: [token] }))[0]!.result, 'done', 'announced anew');
    t.equal(done(), peersLeave ? 'withdraw,announce' : 'withdraw,withdraw,destroy,announce', 'taken back in the same way before');
    t.deepEqual(port.connections()[0]!.announced, [{ address: w2, id: 2 }], 'under an id that it did not have');
    t.equal(agent.counts.withdrawn, 1, 'counted once');
  }
  t.end();
});

test('policy: addresses and the number of subflows', async (t) => {
  const { port, agent } = rig({ addresses: [w2], maxSubflows: 1 });
  port.connect(local, peer(1));
  t.equal(await codeOf(agent.announce({ address: '203.0.113.1', from: w1 })), 'FORBIDDEN', 'an address that is not in the policy');
  t.equal(await codeOf(agent.withdraw({ address: w1 })), 'FORBIDDEN', 'nor may it be withdrawn');
  t.equal(await codeOf(agent.backup({ address: w1, backup: true })), 'FORBIDDEN', 'or set backup');
  const [outcome] = await agent.announce({ address: w2, from: w1 });
  t.equal(outcome!.result, 'refused', 'a connection that has its most');
  t.match(outcome!.why!, /1 subflows already/, 'and why');
  t.equal(port.connections()[0]!.announced.length, 0, 'nothing was announced');
  t.end();
});

test('one connection that fails or ends is an outcome, and the others go on', async (t) => {
  const { port, agent } = rig();
  port.connect(local, peer(1));
  port.connect(local, peer(2));
  port.failing.add('announce');
  const outcomes = await agent.announce({ address: w2, from: w1 });
  t.deepEqual(outcomes.map(({ result }) => result), ['refused', 'done'], 'the first failed, the second was done');
  t.match(outcomes[0]!.why!, /EIO/, 'with the errno');
  const listed = port.connections.bind(port);
  port.connections = () => {
    const all = listed();
    port.disconnect(all[0]!.token);
    return all;
  };
  t.equal((await agent.backup({ address: w1, backup: true }))[0]!.result, 'already', 'one that ended between look and act');
  t.end();
});

test('who waits for a change hears it at once, and a new agent has another word for it', async (t) => {
  const { port, agent } = rig();
  const token = port.connect(local, peer(1), 'waits');
  await agent.announce({ address: w2, from: w1 });
  const first = await agent.status({ from: w1, to: w2, waitMs: 30_000 });
  t.equal(first.connections[0]!.to.established, 0, 'without a word to compare with there is no wait');
  const waiting = agent.status({ from: w1, to: w2, after: first.change, waitMs: 30_000 });
  await turn();
  port.join(token);
  t.equal((await waiting).connections[0]!.to.established, 1, 'the join ends the wait');
  const other = new PathAgent({ port, policy: { addresses: undefined, maxSubflows: 4 }, log: () => {} });
  t.ok((await other.status({ from: w1, to: w2, after: first.change, waitMs: 30_000 })).change !== first.change, 'a word of another agent is no reason to wait');
  const { change } = await agent.status({ from: w1, to: w2 });
  const many = Array.from({ length: 200 }, () => agent.status({ from: w1, to: w2, after: change, waitMs: 30_000 }));
  agent.close();
  t.equal((await Promise.all(many)).length, 200, 'closing ends every wait');
  port.tell({ kind: 'lost' });
  t.end();
});

test("the kernel's own path manager: one announcement is for all, and is not repeated", async (t) => {
  const { port, agent } = rig({}, 'namespace');
  for (const n of [1, 2, 3]) port.connect(local, peer(n));
  await agent.announce({ address: w2, from: w1 });
  t.ok(port.connections().every(({ subflows }) => subflows.length === 2), 'every connection joined');
  t.end();
});

test('the follower joins what is announced, asks again, and ends', async (t) => {
  const port = new SimulatedMptcp();
  const log: string[] = [];
  const follower = new Follower({ port, retryMs: 20, patienceMs: 300, maxSubflows: 4, log: (line) => log.push(line) });
  const token = port.connect({ address: '10.1.0.2', port: 50_000 }, { address: w1, port: 443 });
  port.tell({ kind: 'announced', token, remoteId: 2, remote: { address: w2, port: 0 } });
  await new Promise((done) => setImmediate(done));
  const made = port.connections()[0]!.subflows[1]!;
  t.deepEqual([made.remote, made.local.address, made.localId], [{ address: w2, port: 443 }, '10.1.0.2', 0], "to the announced address, on the connection's port, at once");
  while (follower.waiting > 0) await turn(5);
  t.equal(follower.joined, 1, 'it is established');
  const slow = port.connect({ address: '10.1.0.2', port: 50_001 }, { address: w1, port: 443 }, 'waits');
  port.tell({ kind: 'announced', token: slow, remoteId: 2, remote: { address: w2, port: 8443 } });
  while (port.calls.filter((call) => call === `create ${slow}`).length < 2 && follower.waiting > 0) await turn(5);
  const tries = port.calls.filter((call) => call === `create ${slow}`).length;
  t.ok(tries >= 2, `asked again (${tries} times)`);
  t.equal(port.connections().find((one) => one.token === slow)!.subflows.length, 2, 'and what was not answered was taken back');
  while (follower.waiting > 0) await turn(20);
  t.equal(follower.gaveUp, 1, 'it ends');
  t.match(log.join(), /never answered/, 'and says so');
  // An answer that takes several times as long as the first wait.
  const far = port.connect({ address: '10.1.0.2', port: 50_002 }, { address: w1, port: 443 }, 'waits');
  const [make, look] = [port.createSubflow.bind(port), port.connections.bind(port)];
  let madeMs = Infinity;
  port.createSubflow = (...words) => {
    make(...words);
    madeMs = Date.now();
  };
  port.connections = () =>
    look().map((one) => (one.token !== far ? one : { ...one, subflows: one.subflows.map((each) => (each.state === 'connecting' && Date.now() - madeMs >= 60 ? { ...each, state: 'established' as const } : each)) }));
  port.tell({ kind: 'announced', token: far, remoteId: 2, remote: { address: w2, port: 0 } });
  while (follower.waiting > 0) await turn(5);
  t.equal(follower.joined, 2, 'is waited for longer each time');
  Object.assign(port, { createSubflow: make, connections: look });
  port.tell({ kind: 'announced', token: slow, remoteId: 3, remote: { address: w2, port: 0 } });
  port.tell({ kind: 'removed', token: slow, remoteId: 3 });
  t.equal(follower.waiting, 0, 'an address that is taken back is forgotten');
  port.tell({ kind: 'announced', token: slow, remoteId: 4, remote: { address: w2, port: 0 } });
  port.disconnect(slow);
  t.equal(follower.waiting, 0, 'so is a connection that ended');
  follower.close();
  t.end();
});
