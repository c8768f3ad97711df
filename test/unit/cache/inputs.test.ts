/**
 * Live input over the network, as encoders send it: MPEG-TS by UDP, SRT and RTMP. What ffmpeg sends to the origin, and what the origin fetches, is a stream that an
 * independent reader reads; a source that falls silent or says nonsense ends in one line, and nothing of it stays published.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import test from 'tape';
import { openOrigin, type OriginOptions } from '../../../src/cache/origin/origin.ts';
import type { ShoalError } from '../../../src/model/errors.ts';
import { folder, gone, transport } from './media.ts';

const options = (inputs: string[], stateFolder: string): OriginOptions => ({
  inputs, live: false, host: '127.0.0.1', port: 0, stateFolder, segmentS: 1, partS: 0.25, window: 4, renditions: 1, ts: false, keepGoing: false, log: () => {},
});

async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  await new Promise<void>((done) => socket.close(done));
  return port;
}
async function freeTcpPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

/** Sends the film in real time, again and again; anew whenever its other end goes. */
class Source {
  #child: ChildProcess | undefined;
  #ended = false;
  readonly #words: string[];

  constructor(words: string[]) {
    this.#words = ['-nostdin', '-v', 'error', '-re', '-stream_loop', '-1', '-i', transport(), '-c', 'copy', ...words];
    this.#begin();
  }
  #begin(): void {
    const child = (this.#child = spawn('ffmpeg', this.#words, { stdio: 'ignore' }));
    child.once('close', () => setTimeout(() => this.#ended || this.#begin(), 100));
  }
  async end(): Promise<void> {
    this.#ended = true;
    const child = this.#child!;
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'close');
  }
}

const kinds: readonly [string, () => Promise<number>, (port: number) => { input: string; source: string[] }][] = [
  ['UDP', freeUdpPort, (port) => ({ input: `udp://127.0.0.1:${port}`, source: ['-f', 'mpegts', `udp://127.0.0.1:${port}?pkt_size=1316`] })],
  ['SRT', freeUdpPort, (port) => ({ input: `srt://127.0.0.1:${port}?mode=listener`, source: ['-f', 'mpegts', `srt://127.0.0.1:${port}`] })],
  ['RTMP', freeTcpPort, (port) => ({ input: `rtmp://127.0.0.1:${port}/show/match?listen`, source: ['-bsf:a', 'aac_adtstoasc', '-f', 'flv', `rtmp://127.0.0.1:${port}/show/match`] })],
];

for (const [name, freePort, of] of kinds)
  test(`live input by ${name}`, async (t) => {
    const state = await folder();
    const { input, source } = of(await freePort());
    const sending = new Source(source);
    try {
      const origin = await openOrigin(options([input], state));
      const [published] = origin.published;
      t.equal(published!.kind, 'live', published!.path);
      const base = `http://127.0.0.1:${origin.port}${published!.path.replace(/index\.m3u8$/, '')}`;
      const main = await (await fetch(`${base}index.m3u8`)).text();
      const list = /^(?!#)(\S+\.m3u8)$/m.exec(main)![1]!;
      const segments = async () => [...(await (await fetch(`${base}${list}`)).text()).matchAll(/^(?!#)(\S+\.m4s)$/gm)].map(([, uri]) => uri!);
      const first = await segments();
      t.ok(first.length > 0, `${first.length} segments`);
      const bytes = await (await fetch(new URL(first[0]!, `${base}${list}`))).arrayBuffer();
      t.ok(bytes.byteLength > 1000, `the first has ${bytes.byteLength} bytes`);
      for (let i = 0; i < 100 && (await segments()).at(-1) === first.at(-1); i++) await new Promise((next) => setTimeout(next, 100));
      t.notEqual((await segments()).at(-1), first.at(-1), 'and goes on');
      await origin.close();
    } finally {
      await sending.end();
      await gone(state);
    }
  });

test('a network source that sends no media', async (t) => {
  const state = await folder();
  const port = await freeUdpPort();
  const noise = createSocket('udp4');
  const timer = setInterval(() => noise.send(Buffer.alloc(1316, 'no media '), port, '127.0.0.1'), 5);
  const error = (await openOrigin(options([`udp://127.0.0.1:${port}`], state)).catch((thrown: unknown) => thrown)) as ShoalError;
  clearInterval(timer);
  noise.close();
  t.ok(['MEDIA_UNREADABLE', 'TIMEOUT'].includes(error.code), `${error.code}: ${error.message}`);
  t.notOk(error.message.includes('\n'), 'in one line');
  t.deepEqual(readdirSync(join(state, 'live')), [], 'nothing of it is left');
  await gone(state);
});
