/** A wire between page and controller that can be cut, and led to another controller. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface Wire {
  port: number;
  /** Connections made so far. */
  connections: number;
  /** Ends all connections and takes no new ones. */
  cut(): void;
  /** To a controller, from now on. */
  mend(port: number): void;
  close(): Promise<void>;
}

export async function makeWire(to: number): Promise<Wire> {
  const sockets = new Set<Socket>();
  let target: number | undefined = to;
  const server = createServer((near) => {
    if (target === undefined) return void near.destroy();
    wire.connections++;
    const far = connect(target, '127.0.0.1');
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => (sockets.delete(one), other.destroy()));
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = (): void => {
    target = undefined;
    for (const socket of [...sockets]) socket.destroy();
  };
  const wire: Wire = {
    port: (server.address() as AddressInfo).port,
    connections: 0,
    cut,
    mend: (port) => void (target = port),
    close: () => {
      cut();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
  return wire;
}
