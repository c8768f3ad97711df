/** Gates by themselves: over the loopback interface, and with answers that are made up. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { askCompare, askCopy, networkProbes, type Probes } from '../../../src/control/gates.ts';
import type { Gate } from '../../../src/model/rollout.ts';

const still = () => true;
/** Answers one after the other; the last one goes on. */
const scripted = (answers: boolean[]): Probes & { asked: number } => {
  const probes = {
    asked: 0,
    icmp: async () => answers[Math.min(probes.asked++, answers.length - 1)]!,
    http: async () => 200,
    udp: async () => true,
    command: async () => undefined,
  };
  return probes;
};
const icmp = (timesInRow: number): Gate => ({ kind: 'icmp', timesInRow, timeoutMs: 10 });

test('a copy: so many answers in a row, three failures at most, no address is a failure', async (t) => {
  for (const [answers, inRow, passes, asked] of [
    [[true], 3, true, 3],
    [[false, true], 2, true, 3],
    [[true, false, true], 2, true, 4],
    [[false], 1, false, 3],
    [[false, true, false, true, false], 2, false, 5],
  ] as const) {
    const probes = scripted([...answers]);
    const why = await askCopy([icmp(inRow)], '10.0.0.1', probes, still);
    t.deepEqual([why === undefined, probes.asked], [passes, asked], answers.join(' '));
  }
  t.match((await askCopy([icmp(1)], undefined, scripted([true]), still)) ?? '', /no address/);
  t.equal(await askCopy([{ kind: 'ready', withinMs: 1 }], undefined, scripted([true]), still), undefined, 'others are not asked of a copy');
  const none = scripted([false]);
  t.equal(await askCopy([icmp(1)], 'x', none, () => false), undefined);
  t.equal(none.asked, 0, 'nothing is asked when nobody waits for it');
});

test('old and new side by side: rate of failures, latency, a stable version that is sick itself', async (t) => {
  const compare = { kind: 'compare', windowMs: 30, maxErrorRate: 0.1, maxLatencyRatio: 2 } as const;
  const world = (of: Record<string, { fails?: boolean; ms?: number }>) => async (address: string) => {
    await new Promise((resolve) => setTimeout(resolve, of[address]?.ms ?? 0));
    return of[address]?.fails !== true;
  };
  const ask = (of: Record<string, { fails?: boolean; ms?: number }>, old = ['old']) => askCompare(compare, world(of), ['new'], old, still);
  t.equal(await ask({}), undefined);
  t.match((await ask({ new: { fails: true } })) ?? '', /of the new copies failed/);
  t.equal(await ask({ new: { fails: true }, old: { fails: true } }), undefined, 'the new one is no worse than the old one');
  t.match((await ask({ new: { ms: 60 } })) ?? '', /answer in/);
  t.equal(await ask({ new: { ms: 60 }, old: { ms: 60 } }), undefined);
  t.equal(await ask({ new: { ms: 60 } }, []), undefined, 'nothing to compare with');
  t.match((await ask({ new: { fails: true } }, [])) ?? '', /failed/);
});

test('over the network: http by its status, udp by how the answer begins, both in time', async (t) => {
  const server = createServer((request, response) => {
    if (request.url === '/late') return;
    response.statusCode = request.url === '/no' ? 503 : 204;
    response.end();
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const socket = createSocket('udp4');
  socket.on('message', (message, from) => {
    if (message[0] !== 0) socket.send(Buffer.concat([Buffer.from('ok'), message]), from.port, from.address);
  });
  await once(socket.bind(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const probes = networkProbes(undefined);
  const gate = (path: string, status: number): Gate => ({ kind: 'http', port, path, status, timesInRow: 2, timeoutMs: 100 });
  t.equal(await askCopy([gate('/', 204)], '127.0.0.1', probes, still), undefined);
  t.match((await askCopy([gate('/no', 204)], '127.0.0.1', probes, still)) ?? '', /answers 503, not 204/);
  t.match((await askCopy([gate('/late', 204)], '127.0.0.1', probes, still)) ?? '', /no answer/);
  const udp = (send: string, expect: string): Gate => ({ kind: 'udp', port: socket.address().port, send, expect, timeoutMs: 100 });
  t.equal(await askCopy([udp('01', '6f6b01')], '127.0.0.1', probes, still), undefined);
  t.equal(await askCopy([udp('01', '')], '127.0.0.1', probes, still), undefined, 'any answer');
  t.match((await askCopy([udp('01', '6f6f')], '127.0.0.1', probes, still)) ?? '', /no such answer/);
  t.match((await askCopy([udp('00', '')], '127.0.0.1', probes, still)) ?? '', /no such answer/);
  server.close();
  server.closeAllConnections();
  socket.close();
});

test('a command: by its name only, with the wave on its input, ended with all it started when it is late', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-gates-'));
  const program = (name: string, text: string) => writeFile(join(folder, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  await program('yes', `cat > ${folder}/input`);
  await program('no', 'echo the smoke test failed >&2; exit 3');
  await program('slow', `sleep 60 & echo $! > ${folder}/child; wait`);
  await program('deaf', 'exit 0');
  const { command } = networkProbes(folder);
  t.equal(await command('yes', '{"wave":1}', 5000), undefined);
  t.equal(await readFile(join(folder, 'input'), 'utf8'), '{"wave":1}');
  t.equal(await command('deaf', 'x'.repeat(1 << 20), 5000), undefined, 'one that does not read its input');
  t.equal(await command('no', '', 5000), 'command: "no" ended with 3: the smoke test failed');
  t.match((await command('slow', '', 300)) ?? '', /did not end within 300 ms/);
  const child = Number(await readFile(join(folder, 'child'), 'utf8'));
  const gone = async (): Promise<boolean> => {
    const stat = await readFile(`/proc/${child}/stat`, 'utf8').catch(() => '');
    return stat === '' || stat.includes(') Z ');
  };
  for (let i = 0; i < 100 && !(await gone()); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  t.ok(await gone(), 'what it started has ended too');
  for (const name of ['../yes', 'missing', '/bin/true', '']) t.match((await command(name, '', 1000)) ?? '', /command:/, `"${name}"`);
  t.match((await networkProbes(undefined).command('yes', '', 1000)) ?? '', /no folder/);
  await rm(folder, { recursive: true });
});
