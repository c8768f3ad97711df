/** The controller and host agents as processes of their own, out of bundles: what can be killed can be tested to survive it. */
import { X509Certificate, createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { make } from '../image/made.ts';
import { cert, key } from '../xenapi/certificate.ts';
import { bundleMain, startProgram, type Proc } from './process.ts';

export const kernel = make();
export const kernelDigest = `sha256:${createHash('sha256').update(kernel).digest('hex')}`;

const agent = new Agent({ keepAlive: true, maxSockets: 16 });
export function send(
  port: number,
  method: string,
  path: string,
  body?: unknown,
  token?: string,
): Promise<{ status: number; body: any }> {
  return new Promise((done, fail) => {
    const bytes = body instanceof Uint8Array ? body : body === undefined ? undefined : JSON.stringify(body);
    const type = body instanceof Uint8Array ? 'application/octet-stream' : 'application/json';
    const outgoing = request(
      {
        host: '127.0.0.1',
        port,
        ca: cert,
        method,
        path,
        agent,
        timeout: 5000,
        headers: {
          ...(bytes === undefined ? {} : { 'content-type': type }),
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
      },
      (response) => {
        let text = '';
        response.on('data', (data: Buffer) => (text += data.toString()));
        response.on('error', fail);
        response.on('end', () => {
          try {
            done({ status: response.statusCode ?? 0, body: text === '' ? undefined : JSON.parse(text) });
          } catch {
            done({ status: response.statusCode ?? 0, body: text });
          }
        });
      },
    );
    outgoing.on('timeout', () => outgoing.destroy(new Error('late')));
    outgoing.on('error', fail);
    outgoing.end(bytes);
  });
}

/** A VM as its host says: straight from the agent, past the controller. */
export interface RealVm {
  host: string;
  name: string;
  power: string;
  ip: string | undefined;
}

export class FleetProcs {
  readonly folder: string;
  readonly agents = new Map<string, Proc>();
  controller!: Proc;
  token = '';
  readonly #scripts: { agent: string; controller: string };
  readonly #sessions = new Map<string, string>();

  private constructor(folder: string, scripts: { agent: string; controller: string }) {
    this.folder = folder;
    this.#scripts = scripts;
  }

  static async open(names: string[], config: object = {}): Promise<FleetProcs> {
    const folder = await mkdtemp(join(tmpdir(), 'shoal-procs-'));
    const [agentScript, controllerScript] = await Promise.all([bundleMain(folder, 'agent'), bundleMain(folder, 'controller')]);
    const rig = new FleetProcs(folder, { agent: agentScript, controller: controllerScript });
    const file = (name: string) => join(folder, name);
    await writeFile(file('cert.pem'), cert);
    await writeFile(file('key.pem'), key);
    await mkdir(file('credentials'));
    for (const name of names) await rig.startAgent(name);
    const shared = { certFile: file('cert.pem'), keyFile: file('key.pem') };
    await writeFile(
      file('controller.json'),
      JSON.stringify({
        listen: { host: '127.0.0.1', port: 0 },
        ...shared,
        stateDir: file('fleet'),
        credentialsDir: file('credentials'),
        graceMs: 2000,
        pollS: 2,
        patienceMs: 2000,
        ...config,
      }),
    );
    await rig.startController();
    rig.token = (await readFile(join(file('fleet'), 'operator.token'), 'utf8')).trim();
    for (const name of names) await rig.addHost(name);
    return rig;
  }

  /** Tells the controller of an agent. */
  addHost(name: string): Promise<{ status: number; body: any }> {
    const url = `https://127.0.0.1:${this.agents.get(name)!.port}`;
    return this.api('POST', '/v1/hosts', { name, url, fingerprint: new X509Certificate(cert).fingerprint256, credential: name });
  }

  async startAgent(name: string, port = 0): Promise<Proc> {
    const file = (word: string) => join(this.folder, word);
    const config = file(`${name}.json`);
    await writeFile(join(file('credentials'), name), `pw-${name}\n`, { mode: 0o600 });
    await writeFile(
      config,
      JSON.stringify({
        listen: { host: '127.0.0.1', port },
        certFile: file('cert.pem'),
        keyFile: file('key.pem'),
        passwordFile: join(file('credentials'), name),
        stateDir: file(`agent-${name}`),
        hypervisor: 'sim',
        simTotalKib: 64 * 1024 * 1024,
        networks: [
          {
            name: 'default',
            bridge: 'xenbr0',
            cidr: '10.64.0.0/16',
            gateway: '10.64.0.1',
            first: '10.64.1.0',
            last: '10.64.250.255',
          },
        ],
      }),
    );
    const proc = await startProgram([this.#scripts.agent, config]);
    this.#sessions.delete(name);
    this.agents.set(name, proc);
    return proc;
  }

  async startController(): Promise<Proc> {
    return (this.controller = await this.anotherController());
  }

  /** Over the same state. */
  anotherController(): Promise<Proc> {
    return startProgram([this.#scripts.controller, join(this.folder, 'controller.json')]);
  }

  async kill(proc: Proc): Promise<void> {
    proc.child.kill('SIGKILL');
    await proc.exit;
  }

  api(method: string, path: string, body?: unknown): Promise<{ status: number; body: any }> {
    return send(this.controller.port, method, path, body, this.token);
  }

  /** All VMs of one host; undefined while it cannot be asked. */
  async real(name: string): Promise<RealVm[] | undefined> {
    const { port } = this.agents.get(name)!;
    const call = async (method: string, ...params: unknown[]) =>
      (await send(port, 'POST', '/jsonrpc', { jsonrpc: '2.0', id: 1, method, params })).body.result;
    try {
      if (!this.#sessions.has(name)) this.#sessions.set(name, await call('session.login_with_password', 'root', `pw-${name}`));
      const [vms, vifs] = await Promise.all([
        call('VM.get_all_records', this.#sessions.get(name)),
        call('VIF.get_all_records', this.#sessions.get(name)),
      ]);
      const ips = new Map(Object.values<any>(vifs).map((vif) => [vif.VM, vif.ipv4_allowed[0]]));
      return Object.entries<any>(vms).map(([ref, vm]) => ({
        host: name,
        name: vm.name_label,
        power: vm.power_state,
        ip: ips.get(ref),
      }));
    } catch {
      return undefined;
    }
  }

  async close(): Promise<void> {
    for (const proc of [this.controller, ...this.agents.values()]) await this.kill(proc);
    agent.destroy();
    await rm(this.folder, { recursive: true, force: true });
  }
}
