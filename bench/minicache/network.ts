/**
 * A client's network namespace with a TAP device for minicache's Linux build and a veth to another namespace for the servers it is compared with; or,
 * without `open`, a namespace that is there already, as a lab's router has one.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { must } from '../../src/lab/processes.ts';
import { ShoalError } from '../../src/model/errors.ts';

const failed = { code: 'SETUP_FAILED', timeoutMs: 30_000 } as const;

export class Network {
  readonly client: string;
  readonly server = `shoal-mcs-${process.pid}`;
  readonly #children: ChildProcess[] = [];
  #opened = false;

  constructor(client = `shoal-mcb-${process.pid}`) {
    this.client = client;
  }

  async open(): Promise<void> {
    const inside = (namespace: string, ...words: string[]) => must(['ip', '-n', namespace, ...words], failed);
    this.#opened = true;
    for (const namespace of [this.client, this.server]) {
      await must(['ip', 'netns', 'add', namespace], failed);
      await inside(namespace, 'link', 'set', 'lo', 'up');
    }
    await inside(this.client, 'tuntap', 'add', 'dev', 'tap0', 'mode', 'tap', 'vnet_hdr');
    await inside(this.client, 'link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'veth1', 'netns', this.server);
    await inside(this.client, 'addr', 'add', '10.0.0.1/24', 'dev', 'tap0');
    await inside(this.client, 'addr', 'add', '10.1.0.1/24', 'dev', 'veth0');
    await inside(this.server, 'addr', 'add', '10.1.0.2/24', 'dev', 'veth1');
    for (const device of ['tap0', 'veth0']) await inside(this.client, 'link', 'set', device, 'up');
    await inside(this.server, 'link', 'set', 'veth1', 'up');
  }

  /** The words that run a command in a namespace, on one core (-1: any). */
  words(namespace: string, core: number, command: readonly string[]): string[] {
    return ['ip', 'netns', 'exec', namespace, ...(core < 0 ? [] : ['taskset', '-c', String(core)]), ...command];
  }

  /** Starts a server that runs until `close`. */
  start(namespace: string, core: number, command: readonly string[], env: Record<string, string> = {}, cwd?: string): ChildProcess {
    const [program, ...rest] = this.words(namespace, core, command);
    const child = spawn(program!, rest, { stdio: 'ignore', env: { ...process.env, ...env }, ...(cwd === undefined ? {} : { cwd }) });
    this.#children.push(child);
    return child;
  }

  /** Waits until a URL answers anything. */
  async ready(url: string): Promise<void> {
    for (let i = 0; i < 60; i++) {
      const answer = await must([...this.words(this.client, -1, ['curl', '-s', '-o', '/dev/null', '--max-time', '2', '-w', '%{http_code}', url])], failed).catch(() => undefined);
      if (answer !== undefined) return;
      await new Promise((done) => setTimeout(done, 100));
    }
    throw new ShoalError('SETUP_FAILED', `${url} does not answer.`);
  }

  async stop(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    await Promise.race([once(child, 'exit'), new Promise((done) => setTimeout(done, 5000).unref())]);
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  }

  async close(): Promise<void> {
    for (const child of this.#children.reverse()) await this.stop(child);
    for (const namespace of this.#opened ? [this.client, this.server] : []) await must(['ip', 'netns', 'del', namespace], failed).catch(() => undefined);
  }
}
