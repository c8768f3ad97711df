/** `shoal paths`, as a command, against real XenAPI servers with simulators behind them and a real path agent's server over simulated connections. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { command } from '../../../src/cli/main.ts';
import { JournalledMoves, type MoveRecord } from '../../../src/migrate/paths-journal.ts';
import { PathAgent } from '../../../src/mptcp/agent.ts';
import { serveAgent } from '../../../src/mptcp/api.ts';
import { metricsOf } from '../../../src/mptcp/metrics.ts';
import { SimulatedMptcp, type Peer } from '../../../src/mptcp/simulated.ts';
import { image } from '../host/rig.ts';
import { cert, key } from '../xenapi/certificate.ts';
import { makeServer, password, type ServerRig } from '../xenapi/rig.ts';

const [w1, w2, token] = ['10.64.9.1', '10.64.9.2', 'a'.repeat(64)];

interface Said {
  code: number;
  err: string;
  json: any;
}

interface Place {
  rig: ServerRig;
  other: ServerRig;
  uuid: string;
  state: string;
  target: { url: string; caFile: string; passwordFile: string };
  paths(...argv: string[]): Promise<Said>;
  move(...argv: string[]): Promise<Said>;
}

async function withNat(peers: Peer[], work: (place: Place) => Promise<void>): Promise<void> {
  const [rig, other] = [await makeServer(), await makeServer()];
  const folder = mkdtempSync(join(tmpdir(), 'shoal-cli-'));
  for (const [file, text] of [['ca.pem', cert], ['password', password], ['token', token]] as const) writeFileSync(join(folder, file), text);
  const port = new SimulatedMptcp();
  peers.forEach((peer, i) => port.connect({ address: w1, port: 443 }, { address: `10.0.0.${i + 1}`, port: 40_000 }, peer));
  const agent = new PathAgent({ port, policy: { addresses: undefined, maxSubflows: 8 }, log: () => {}, leaveMs: 5 });
  const socket = join(folder, 'agent.sock');
  const served = await serveAgent({ agent, listen: { socket }, tls: { cert, key }, token, metrics: () => metricsOf(agent, undefined, []), log: () => {} });
  writeFileSync(join(folder, 'agents.json'), JSON.stringify([{ url: `https://unix:${socket}`, certFile: 'ca.pem', tokenFile: 'token' }]));
  const [caFile, passwordFile, state] = ['ca.pem', 'password', 'moves'].map((name) => join(folder, name)) as [string, string, string];
  const env = { SHOAL_HOST: rig.url, SHOAL_CA: caFile, SHOAL_PASSWORD_FILE: passwordFile };
  const paths: Place['paths'] = async (...argv) => {
    const [stdout, stderr] = [0, 1].map(() => ({ text: '', write(piece: string) { this.text += piece; } })) as [{ text: string; write(p: string): void }, { text: string; write(p: string): void }];
    const code = await command(['paths', ...argv, '--state', state, '--json'], { stdout, stderr, env });
    return { code, err: stderr.text, json: JSON.parse(stdout.text.trimEnd().split('\n').pop() || 'null') };
  };
  const move: Place['move'] = (...argv) => paths('move', 'nat', '--to', other.url, '--ip', w2, '--agents', join(folder, 'agents.json'), ...argv);
  try {
    const { vms } = await rig.plugin('launch', { spec: JSON.stringify({ name: 'nat', image, memoryKib: 4096, ip: w1 }) });
    rig.sim.writePage(vms[0].domid, 5, 'remember');
    await work({ rig, other, uuid: vms[0].uuid, state, target: { url: other.url, caFile, passwordFile }, paths, move });
  } finally {
    await served.close();
    await rig.close();
    await other.close();
    rmSync(folder, { recursive: true });
  }
}

const names = ({ agent }: ServerRig): string[] => [...agent.fleet.all()].map(({ name, power, vifs }) => `${name} ${power} ${vifs[0]!.ipv4.join()}`);

for (const how of [[], ['--break']])
  test(`paths move ${how.join(' ')}: there with its memory, here a tombstone`, (t) =>
    withNat(['joins', 'joins'], async ({ rig, other, move, paths }) => {
      const plan = await move('--plan', ...how);
      t.deepEqual([plan.code, plan.json.counts], [0, { survives: 0, unsure: 2, lost: 0 }], 'what would survive is said before');
      t.deepEqual([names(rig), names(other)], [[`nat Running ${w1}`], []], 'and nothing has moved');
      const { code, json, err } = await move(...how);
      t.deepEqual([code, json?.state, json?.left], [0, 'moved', 0], err);
      t.deepEqual([names(rig), names(other)], [[`tombstone-${w1} Running ${w1}`], [`nat Running ${w2}`]]);
      t.equal(other.sim.page(other.agent.fleet.named('nat')!.domid!, 5), 'remember');
      t.deepEqual((await paths('list')).json, []);
    }));

test('paths move: a peer that does not join keeps it here, unless it may be left', (t) =>
  withNat(['refuses'], async ({ rig, other, move }) => {
    const { code, json, err } = await move();
    t.deepEqual([code, json?.state], [1, 'stayed'], err);
    t.match(json.why, /PATHS_LOST/);
    t.deepEqual([names(rig), names(other)], [[`nat Running ${w1}`], []]);
    t.equal((await move('--leave')).json?.state, 'moved');
  }));

test('paths resume: what a killed command left is found with its ends', (t) =>
  withNat(['joins'], async ({ rig, other, uuid, state, target, paths, move }) => {
    for (const [left, ending] of [['copying', 'stayed'], ['suspending', 'moved']] as const) {
      const agents = [{ url: '', certFile: '', tokenFile: '' }].map(() => ({ url: `https://unix:${join(state, '../agent.sock')}`, certFile: join(state, '../ca.pem'), tokenFile: join(state, '../token') }));
      const about = { uuid, name: 'nat', source: { ...target, url: rig.url }, target, agents };
      if (left === 'copying') await move('--plan');
      const moves = await JournalledMoves.open(join(state, 'moves.journal'));
      await moves.save({ id: left, kind: 'make-before-break', from: w1, to: w2, state: left, leave: true, about } satisfies MoveRecord);
      await moves.close();
      t.deepEqual((await paths('list')).json.map((one: { name: string; state: string }) => [one.name, one.state]), [['nat', left]]);
      // It was killed after its copy ran.
      if (left === 'suspending') await other.agent.suspender.restore((await rig.agent.suspender.save(rig.agent.fleet.need(uuid))).chunks, { copy: true, ipv4: w2 });
      const { json, err } = await paths('resume');
      t.equal(json?.state, ending, err);
      t.deepEqual((await paths('list')).json, []);
    }
    t.deepEqual([names(rig), names(other)], [[`tombstone-${w1} Running ${w1}`], [`nat Running ${w2}`]]);
  }));

test('paths: wrong words', (t) =>
  withNat(['joins'], async ({ paths, move, state, other }) => {
    const agents = join(state, '../agents.json');
    const [good, code] = [readFileSync(agents, 'utf8'), (said: Said): string => said.json?.error?.code];
    t.equal(code(await paths('move', 'nat', '--to', other.url, '--agents', agents)), 'USAGE', 'without an address');
    t.equal(code(await paths('move', 'nat', '--ip', w2, '--agents', agents)), 'USAGE', 'without a host');
    t.equal(code(await paths('move', 'nobody', '--to', other.url, '--ip', w2, '--agents', agents)), 'HANDLE_INVALID');
    for (const [text, wanted] of [['{', 'CONFIG_INVALID'], ['[]', 'CONFIG_INVALID'], ['[{"url": 1}]', 'CONFIG_INVALID'], ['[{"url": "http://x", "certFile": "ca.pem", "tokenFile": "token"}]', 'CONFIG_INVALID'], ['[{"url": "https://x", "certFile": "none", "tokenFile": "token"}]', 'USAGE']]) {
      writeFileSync(agents, text!);
      t.equal(code(await move()), wanted, text);
    }
    writeFileSync(agents, good);
    t.equal((await move()).code, 0);
  }));
