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

/** The reply to a message of a client, at once or later; undefined for what is not answered. Never throws or rejects. */
export type Respond = (message: Buffer, client: string, overTcp: boolean) => Buffer | undefined | Promise<Buffer | undefined>;

export const serveDns = (host: string, port: number, zone: Zone, resolve: Resolve): Promise<DnsServer> =>
  serveMessages(host, port, (message, client, overTcp) => answer(message, client, zone, resolve, overTcp));

export async function serveMessages(host: string, port: number, respond: Respond): Promise<DnsServer> {
  // A port that is free for TCP may be taken for UDP: with port 0 another one is tried.
  for (let tries = 0; ; tries++) {
    const tcp = await listenTcp(host, port, respond);
    const bound = (tcp.address() as { port: number }).port;
    try {
      const udp = await listenUdp(host, bound, respond);
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

function listenUdp(host: string, port: number, respond: Respond): Promise<Socket> {
  const socket = createSocket('udp4');
  let closed = false;
  socket.on('close', () => (closed = true));
  socket.on('message', (message, from) => {
    const send = (reply: Buffer | undefined): void => {
      if (reply === undefined || closed) return;
      socket.send(reply, from.port, from.address, () => {});
    };
    const reply = respond(message, from.address, false);
    if (reply instanceof Promise) void reply.then(send);
    else send(reply);
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

function listenTcp(host: string, port: number, respond: Respond): Promise<Server> {
  const sockets = new Set<{ destroy(): void }>();
  const server = createServer((socket) => {
    sockets.add(socket);
    let held: Buffer = Buffer.alloc(0);
    socket.setTimeout(idleMs, () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    let replying = false;
    // One question after the other; what comes meanwhile waits in the kernel.
    const next = async (): Promise<void> => {
      replying = true;
      while (!socket.destroyed && held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
        const size = held.readUInt16BE(0);
        const message = held.subarray(2, 2 + size);
        held = held.subarray(2 + size);
        const reply = await respond(message, socket.remoteAddress ?? '', true);
        if (socket.destroyed) return;
        if (reply === undefined) return void socket.destroy();
        const length = Buffer.alloc(2);
        length.writeUInt16BE(reply.length);
        socket.write(Buffer.concat([length, reply]));
      }
      replying = false;
      socket.resume();
    };
    socket.on('data', (data: Buffer) => {
      held = Buffer.concat([held, data]);
      socket.pause();
      if (!replying) void next();
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
