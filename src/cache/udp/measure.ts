/**
 * Datagrams a second through the addon beside node:dgram, on the loopback interface: `node --import tsx src/cache/udp/measure.ts [SECONDS]`. The receiver is a
 * socket that nobody reads, so that only sending is measured: what does not fit into it is dropped by the kernel. One line of JSON.
 */
import { createSocket } from 'node:dgram';
import { UdpSender } from './sender.ts';
import { datagramBytes } from './transport.ts';

const seconds = Number(process.argv[2] ?? 3);
const batch = 64 * 8;

async function sink(): Promise<{ port: number; close: () => void }> {
  const { spawn } = await import('node:child_process');
  // Another process binds the port and stops: this one's sends are all that is left.
  const program = 'const s=require("node:dgram").createSocket("udp4");s.bind(0,"127.0.0.1",()=>{process.stdout.write(String(s.address().port)+"\\n",()=>process.kill(process.pid,"SIGSTOP"))})';
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  const port = await new Promise<number>((done) => child.stdout.once('data', (data: Buffer) => done(Number(data.toString()))));
  return { port, close: () => void child.kill('SIGKILL') };
}

async function withAddon(port: number): Promise<number> {
  const sender = UdpSender.open({ to: '127.0.0.1', port });
  const bytes = Buffer.alloc(datagramBytes * batch);
  const end = performance.now() + seconds * 1000;
  const began = performance.now();
  while (performance.now() < end) await sender.send(bytes, datagramBytes);
  const rate = (1000 * sender.counts.datagrams) / (performance.now() - began);
  await sender.close();
  return rate;
}

async function withDgram(port: number): Promise<number> {
  const socket = createSocket('udp4');
  await new Promise<void>((done) => socket.connect(port, '127.0.0.1', () => done()));
  const bytes = Buffer.alloc(datagramBytes);
  let sent = 0;
  const end = performance.now() + seconds * 1000;
  const began = performance.now();
  while (performance.now() < end)
    await new Promise<void>((done) => {
      let left = batch;
      for (let i = 0; i < batch; i++)
        socket.send(bytes, () => {
          sent++;
          if (--left === 0) done();
        });
    });
  const rate = (1000 * sent) / (performance.now() - began);
  socket.close();
  return rate;
}

const at = await sink();
const rates = { dgram: [] as number[], addon: [] as number[] };
// In turn, so that a busy moment of the machine meets both.
for (let round = 0; round < 3; round++) {
  rates.dgram.push(Math.round(await withDgram(at.port)));
  rates.addon.push(Math.round(await withAddon(at.port)));
}
at.close();
const median = (list: number[]): number => [...list].sort((a, b) => a - b)[1]!;
const [dgram, addon] = [median(rates.dgram), median(rates.addon)];
const gbps = (n: number): number => Math.round((n * datagramBytes * 8) / 1e7) / 100;
process.stdout.write(`${JSON.stringify({ seconds, datagramBytes, rates, dgram, addon, dgramGbps: gbps(dgram), addonGbps: gbps(addon), ratio: Math.round((addon / dgram) * 10) / 10 })}\n`);
