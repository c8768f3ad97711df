/** The name server's sockets: UDP, and TCP for answers that do not fit; bounded in connections, in bytes and in time. */
import { createSocket, type Socket } from 'node:dgram';
import { createServer, type Server } from 'node:net';
import { answer, type Resolve, type Zone } from './dns.ts';

export interface DnsServer {
  /** UDP and TCP have the same. */
  port: number;
  close(): Promise<void>;
}

const maxConnections = 200;
const idleMs = 5_000;

export async function serveDns(host: string, port: number, zone: Zone, resolve: Resolve): Promise<DnsServer> {
  // A port that is free for TCP may be taken for UDP: with port 0 another one is tried.
  for (let tries = 0; ; tries++) {
    const tcp = await listenTcp(host, port, zone, resolve);
    const bound = (tcp.address() as { port: number }).port;
    try {
      const udp = await listenUdp(host, bound, zone, resolve);
      return {
        port: bound,
        close: async () => {
          await Promise.all([new Promise<void>((done) => udp.close(() => done())), closeTcp(tcp)]);
        },
      };
    } catch (error) {
      await closeTcp(tcp);
      if (port !== 0 || tries === 9) throw error;
    }
  }
}

function listenUdp(host: string, port: number, zone: Zone, resolve: Resolve): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.on('message', (message, from) => {
    const reply = answer(message, from.address, zone, resolve, false);
    if (reply !== undefined) socket.send(reply, from.port, from.address, () => {});
  });
  return new Promise((done, fail) => {
    socket.once('error', fail);
    socket.bind(port, host, () => {
      socket.off('error', fail);
      socket.on('error', () => {});
      done(socket);
    });
  });
}

const open = new WeakMap<Server, Set<{ destroy(): void }>>();

function listenTcp(host: string, port: number, zone: Zone, resolve: Resolve): Promise<Server> {
  const sockets = new Set<{ destroy(): void }>();
  const server = createServer((socket) => {
    sockets.add(socket);
    let held: Buffer = Buffer.alloc(0);
    socket.setTimeout(idleMs, () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.on('data', (data: Buffer) => {
      held = Buffer.concat([held, data]);
      while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
        const size = held.readUInt16BE(0);
        const reply = answer(held.subarray(2, 2 + size), socket.remoteAddress ?? '', zone, resolve, true);
        held = held.subarray(2 + size);
        if (reply === undefined) return socket.destroy();
        const length = Buffer.alloc(2);
        length.writeUInt16BE(reply.length);
        socket.write(Buffer.concat([length, reply]));
      }
    });
  });
  server.maxConnections = maxConnections;
  open.set(server, sockets);
  return new Promise((done, fail) => {
    server.once('error', fail);
    server.listen(port, host, () => {
      server.off('error', fail);
      done(server);
    });
  });
}

function closeTcp(server: Server): Promise<void> {
  for (const socket of open.get(server) ?? []) socket.destroy();
  return new Promise((done) => server.close(() => done()));
}
