/**
 * A controller with hosts in memory, whose VMs are caches for real: for each that runs there is a process at its address, on the loopback network, and
 * with the VM the process goes. And the event router, as a process that can be killed.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FakeHost, fakeNetwork } from '../../../src/control/links/fake.ts';
import type { Uuid } from '../../../src/model/ids.ts';
import { makeApi, type ApiRig } from '../control/api-rig.ts';
import { digest } from '../control/rig.ts';
import { cert, key } from '../xenapi/certificate.ts';
import { folder, gone, root } from './media.ts';

const standIn = join(dirname(fileURLToPath(import.meta.url)), 'stand-in.mjs');

export interface Running {
  child: ChildProcess;
  address: string;
  args: Map<string, string>;
}

export interface EventRig {
  controller: ApiRig;
  /** By the uuid of the VM. */
  caches: Map<string, Running>;
  router: { child: ChildProcess; api: number; viewers: number; dns: number; log: () => string };
  folder: string;
  /** Bytes a second that each cache which starts from now on sends; 0: as fast as it can. */
  rate: number;
  call(method: string, path: string, body?: unknown, token?: string): Promise<{ status: number; body: any }>;
  viewers(path: string): string;
  startRouter(): Promise<void>;
  kill(child: ChildProcess): Promise<void>;
  close(): Promise<void>;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as { port: number };
  await new Promise((done) => server.close(done));
  return port;
}

let networks = 0;

export async function makeEvents(config: object = {}): Promise<EventRig> {
  const [port, admin] = [await freePort(), await freePort()];
  const second = 64 + ((process.pid + networks++) % 128);
  const hosts = new Map(
    ['a', 'b'].map((name, i) => [
      name,
      new FakeHost(name, { networks: [fakeNetwork(`127.${second}.0.0`, `127.${second}.${i + 1}.1`, `127.${second}.${i + 1}.200`)] }),
    ]),
  );
  const controller = await makeApi(['a', 'b'], { listen: { host: '127.0.0.1', port: await freePort() }, link: ({ name }) => hosts.get(name)!.link() });
  for (const name of ['a', 'b']) await controller.call('PATCH', `/v1/hosts/${name}`, { labels: { place: name === 'a' ? 'berlin' : 'paris' } });
  await controller.call('PUT', '/v1/releases/minicache', { digest });
  const at = await folder();
  const rig = { controller, caches: new Map<string, Running>(), folder: at, rate: 0 } as unknown as EventRig;

  rig.kill = async (child) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((done) => child.once('close', done));
    child.kill('SIGKILL');
    await ended;
  };
  const look = setInterval(() => {
    const there = new Map([...hosts.values()].flatMap((host) => [...host.vms]));
    for (const [uuid, vm] of there) {
      if (rig.caches.has(uuid) || vm.state !== 'running') continue;
      const args = new Map(vm.args.split(' ').map((word) => word.split(/=(.*)/s).slice(0, 2) as [string, string]));
      const address = vm.addresses[0]!.ip;
      const child = spawn(process.execPath, [standIn, address, args.get('port')!, args.get('admin')!, `http://${args.get('origin')}`, String(/-e\d+\./.test(vm.name) ? rig.rate : 0)], {
        stdio: 'ignore',
        env: { SECRET: args.get('secret')! },
      });
      rig.caches.set(uuid, { child, address, args });
    }
    for (const [uuid, { child }] of rig.caches)
      if (!there.has(uuid as Uuid)) {
        rig.caches.delete(uuid);
        child.kill('SIGKILL');
      }
  }, 20);

  const file = (name: string): string => join(at, name);
  await Promise.all([writeFile(file('cert.pem'), cert), writeFile(file('key.pem'), key), writeFile(file('token'), controller.token)]);
  rig.startRouter = async () => {
    await writeFile(
      file('events.json'),
      JSON.stringify({
        api: { host: '127.0.0.1', port: 0 },
        certFile: file('cert.pem'),
        keyFile: file('key.pem'),
        viewers: { host: '127.0.0.1', port: 0 },
        dns: { host: '127.0.0.1', port: 0, zone: 'cdn.example', server: 'ns.cdn.example', serverAddress: '127.0.0.1' },
        controller: { url: `https://127.0.0.1:${controller.controller.server.port}`, caFile: file('cert.pem'), tokenFile: file('token') },
        stateDir: file('state'),
        ports: { viewers: port, admin },
        denied: [],
        ...config,
      }),
    );
    const child = spawn(process.execPath, ['--import', 'tsx', join(root, 'src/main/events.ts'), file('events.json')], { cwd: root, stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    const ports = await new Promise<number[]>((done, fail) => {
      child.stderr!.on('data', (data: Buffer) => {
        log += data.toString();
        const m = /ready on 127\.0\.0\.1:(\d+), viewers on 127\.0\.0\.1:(\d+), names on port (\d+)/.exec(log);
        if (m !== null) done(m.slice(1).map(Number));
      });
      child.once('close', () => fail(new Error(`the router ended: ${log}`)));
    });
    rig.router = { child, api: ports[0]!, viewers: ports[1]!, dns: ports[2]!, log: () => log };
  };
  rig.viewers = (path) => `http://127.0.0.1:${rig.router.viewers}${path}`;
  rig.call = async (method, path, body, token = controller.token) => {
    const { request } = await import('node:https');
    return new Promise((done, fail) => {
      const bytes = body === undefined ? undefined : JSON.stringify(body);
      const outgoing = request(
        { host: '127.0.0.1', port: rig.router.api, ca: cert, method, path, headers: { authorization: `Bearer ${token}`, ...(bytes === undefined ? {} : { 'content-type': 'application/json' }) } },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (part: string) => (text += part));
          response.on('end', () => done({ status: response.statusCode ?? 0, body: text === '' ? undefined : JSON.parse(text) }));
        },
      );
      outgoing.on('error', fail);
      outgoing.end(bytes);
    });
  };
  rig.close = async () => {
    clearInterval(look);
    await rig.kill(rig.router.child);
    await Promise.all([...rig.caches.values()].map(({ child }) => rig.kill(child)));
    await controller.close();
    await gone(at);
  };
  await rig.startRouter();
  return rig;
}

export const inMs = (ms: number): string => new Date(Date.now() + ms).toISOString();
