/**
 * The packetizer's datagrams as players see them: a transport stream that ffmpeg made, sent over a veth pair in a namespace of this test's own, paced
 * by its PCR, is read by ffmpeg without a continuity error: UDP unicast and multicast, RTP. A stream with a packet missing is
 * found out, so that the reader is known to look. Needs root, and Debian's ffmpeg.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const program = join(root, 'build/unikernels/stream_send');
const namespace = `shoal-stream-${process.pid}`;
const inside = ['ip', 'netns', 'exec', namespace];
const reader = '10.99.0.2';

function must(argv: string[], timeoutMs = 60_000): string {
  const { status, stdout, stderr } = spawnSync(argv[0]!, argv.slice(1), { encoding: 'utf8', timeout: timeoutMs });
  if (status !== 0) throw new Error(`${argv.join(' ')}: ${stderr.slice(-2000)}`);
  return stdout;
}

/** Starts ffmpeg on `input`, sends `file`, and says what ffmpeg said and how many pictures it saw. */
async function play(file: string, mode: string, target: string, mac: string, input: string[]): Promise<{ text: string; pictures: number; sent: { end: number; datagrams: number; seconds: number } }> {
  const words = ['-nostdin', '-v', 'debug', ...input, '-map', '0:v', '-f', 'null', '-progress', 'pipe:1', '-'];
  const child = spawn(inside[0]!, [...inside.slice(1), 'ffmpeg', ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '', progress = '';
  child.stderr.on('data', (data: Buffer) => (text += data.toString()));
  child.stdout.on('data', (data: Buffer) => (progress += data.toString()));
  const ended = once(child, 'exit');
  try {
    // The reader's socket is bound when the kernel lists it.
    for (let i = 0; i < 200 && !must([...inside, 'ss', '-uln']).includes(':5004'); i++) await new Promise((done) => setTimeout(done, 50));
    const sent = JSON.parse(must([...inside, program, 'veth0', mode, '65536', file, '0', `${target}:5004`, mac, '10.99.0.1'])) as { end: number; datagrams: number; seconds: number };
    await Promise.race([ended, new Promise((done) => setTimeout(done, 15_000))]);
    return { text, pictures: Number([...progress.matchAll(/frame=(\d+)/g)].at(-1)?.[1] ?? 0), sent };
  } finally {
    if (child.exitCode === null) {
      child.kill('SIGKILL');
      await ended;
    }
  }
}

test('ffmpeg reads what is sent without a continuity error', async (t) => {
  const make = spawnSync('make', ['-s', '-C', join(root, 'unikernels'), program], { encoding: 'utf8', timeout: 300_000 });
  t.equal(make.status, 0, make.stderr.slice(-2000));
  const folder = mkdtempSync(join(tmpdir(), 'shoal-stream-'));
  try {
    const file = join(folder, 'a.ts'), broken = join(folder, 'broken.ts'), sdp = join(folder, 'a.sdp');
    must(['ffmpeg', '-nostdin', '-v', 'error', '-f', 'lavfi', '-i', 'testsrc=size=320x180:rate=25:duration=4', '-f', 'lavfi', '-i', 'sine=duration=4', '-c:v', 'mpeg2video',
      '-b:v', '1500k', '-c:a', 'mp2', '-muxrate', '2500k', '-f', 'mpegts', file]);
    writeFileSync(sdp, `v=0\no=- 0 0 IN IP4 10.99.0.1\ns=a\nc=IN IP4 ${reader}\nt=0 0\nm=video 5004 RTP/AVP 33\na=rtpmap:33 MP2T/90000\n`);
    const bytes = readFileSync(file);
    // One packet of the video's PID is missing, in the middle.
    let at = Math.floor(bytes.length / 376) * 188;
    while ((bytes.readUInt16BE(at + 1) & 0x1fff) !== 0x100) at += 188;
    writeFileSync(broken, Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 188)]));
    must(['ip', 'netns', 'add', namespace]);
    must([...inside, 'ip', 'link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'veth1']);
    must([...inside, 'ip', 'addr', 'add', `${reader}/24`, 'dev', 'veth1']);
    for (const end of ['lo', 'veth0', 'veth1']) must([...inside, 'ip', 'link', 'set', end, 'up']);
    must([...inside, 'ip', 'route', 'add', '224.0.0.0/4', 'dev', 'veth1']);
    const mac = must([...inside, 'cat', '/sys/class/net/veth1/address']).trim();

    const udp = (address: string) => ['-i', `udp://${address}:5004?timeout=3000000&fifo_size=100000${address.startsWith('239') ? `&localaddr=${reader}` : ''}`];
    const rtp = ['-protocol_whitelist', 'file,udp,rtp', '-reorder_queue_size', '0', '-listen_timeout', '3', '-t', '3', '-i', sdp];
    const complaint = /Continuity check failed|Packet corrupt|RTP: missed|RTP: dropping/;
    for (const [name, mode, target, input] of [
      ['UDP', 'ts-paced', reader, udp(reader)],
      ['multicast', 'ts-paced', '239.1.2.3', udp('239.1.2.3')],
      ['RTP', 'rtp-paced', reader, rtp],
    ] as const) {
      const { text, pictures, sent } = await play(file, mode, target, mac, [...input]);
      t.equal(sent.end, 1, `${name}: all was sent`);
      t.equal(sent.datagrams, Math.ceil(bytes.length / 1316), `${name}: in datagrams of seven packets`);
      t.ok(sent.seconds > 3.3, `${name}: paced (${sent.seconds} s of a film of 4)`);
      t.ok(pictures >= 60, `${name}: ${pictures} pictures`);
      t.notOk(complaint.test(text), `${name}: no complaint ${complaint.exec(text)?.[0] ?? ''}`);
    }
    const { text } = await play(broken, 'ts-paced', reader, mac, udp(reader));
    t.ok(complaint.test(text), 'a missing packet is found out');
  } finally {
    spawnSync('ip', ['netns', 'del', namespace]);
    rmSync(folder, { recursive: true });
  }
  t.end();
});
