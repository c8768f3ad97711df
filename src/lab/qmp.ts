/**
 * QEMU's machine protocol (QMP): one JSON object a line over a Unix socket. A greeting, capabilities negotiated, then commands
 * whose answers come in order; events in between are left alone.
 */
import { createConnection, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShoalError } from '../model/errors.ts';

export class Qmp {
  readonly #socket: Socket;
  #buffer = '';
  #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#receive(text));
    const lost = () => {
      for (const { reject } of this.#waiting.splice(0))
        reject(new ShoalError('LAB_FAILED', 'the emulator closed its control socket'));
    };
    socket.on('close', lost);
    socket.on('error', lost);
  }

  /** Connects to the socket at `path`, which may appear only later, for at most `timeoutMs`; `alive` false ends the wait. */
  static async connect(path: string, timeoutMs: number, alive: () => boolean): Promise<Qmp> {
    for (const start = Date.now(); ; await sleep(5)) {
      const socket = await new Promise<Socket | undefined>((resolve) => {
        const attempt = createConnection(path);
        attempt.once('connect', () => resolve(attempt));
        attempt.once('error', () => resolve(undefined));
      });
      if (socket !== undefined) {
        const qmp = new Qmp(socket);
        await qmp.command('qmp_capabilities');
        return qmp;
      }
      if (!alive()) throw new ShoalError('LAB_FAILED', 'the emulator ended as it started');
      if (Date.now() - start > timeoutMs) throw new ShoalError('LAB_FAILED', `the emulator does not answer at ${path}`);
    }
  }

  #receive(text: string): void {
    this.#buffer += text;
    for (let end = this.#buffer.indexOf('\n'); end >= 0; end = this.#buffer.indexOf('\n')) {
      const line = this.#buffer.slice(0, end);
      this.#buffer = this.#buffer.slice(end + 1);
      if (line.trim() === '') continue;
      const message = JSON.parse(line) as { return?: unknown; error?: { desc: string } };
      if ('return' in message) this.#waiting.shift()?.resolve(message.return);
      else if (message.error !== undefined)
        this.#waiting.shift()?.reject(new ShoalError('LAB_FAILED', `emulator: ${message.error.desc}`));
    }
  }

  command(execute: string, args: Record<string, unknown> = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    });
  }

  /** Repeats a query until `done` says so. */
  async until(execute: string, timeoutMs: number, done: (answer: Record<string, unknown>) => boolean): Promise<void> {
    for (const start = Date.now(); ; await sleep(5)) {
      if (done((await this.command(execute)) as Record<string, unknown>)) return;
      if (Date.now() - start > timeoutMs) throw new ShoalError('LAB_FAILED', `emulator: ${execute} did not come to an end`);
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}
