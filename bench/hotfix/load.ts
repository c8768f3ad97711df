/** The load as a process in the lab's router namespace, and what it says meanwhile. */
import { spawn, type ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { enter } from '../../src/lab/network.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { routerNamespace } from '../../src/lab/plan.ts';
import { ShoalError } from '../../src/model/errors.ts';

export interface LoadResult {
  requests: number;
  failures: number;
  /** The first of them. */
  failed: { address: string; atMs: number; tookMs: number; error: string }[];
  slowestMs: number;
  /** So many requests were not begun at their time at some moment, as too many were under way. */
  late: number;
  /** Addresses by the version that each answered last. */
  versions: Record<string, number>;
}

interface Line {
  ready?: true;
  first?: string;
  all?: string;
  atMs?: number;
  end?: LoadResult;
}

/** Of this machine's clock that nobody sets, shared by its processes to within a millisecond. */
export const nowMs = (): number => performance.timeOrigin + performance.now();

export class Load {
  readonly #child: ChildProcess;
  readonly #lines: Line[] = [];
  #wake: (() => void)[] = [];
  #ended = false;
  #stderr = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stderr!.on('data', (part: Buffer) => (this.#stderr = (this.#stderr + part.toString()).slice(-500)));
    createInterface({ input: child.stdout! }).on('line', (line) => {
      this.#lines.push(JSON.parse(line) as Line);
      this.#told();
    });
    child.once('close', () => {
      this.#ended = true;
      this.#told();
    });
  }

  #told(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  /** Resolves when it has begun. `rate`: requests a second over all addresses; `watched`: an address that is asked beside them without a pause. Throws LAB_FAILED. */
  static async start(lab: string, folder: string, addresses: readonly string[], rate: number, watched?: string): Promise<Load> {
    const file = join(folder, 'addresses.json');
    writeFileSync(file, JSON.stringify(addresses));
    const words = [...enter(routerNamespace(lab)), process.execPath, join(repositoryRoot, 'bench/hotfix/load.mjs'), file, String(rate), ...(watched === undefined ? [] : [watched])];
    const load = new Load(spawn(words[0]!, words.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] }));
    await load.#until('its begin', ({ ready }) => ready === true, 30_000);
    return load;
  }

  /** When a version first answered anywhere. Throws LAB_FAILED when it does not within `withinMs`. */
  first = async (version: string, withinMs: number): Promise<number> => (await this.#until(`version ${version}`, ({ first }) => first === version, withinMs)).atMs!;

  /** When every address had answered with it. */
  all = async (version: string, withinMs: number): Promise<number> => (await this.#until(`version ${version} everywhere`, ({ all }) => all === version, withinMs)).atMs!;

  async stop(): Promise<LoadResult> {
    this.#child.kill('SIGTERM');
    try {
      return (await this.#until('its end', ({ end }) => end !== undefined, 30_000)).end!;
    } finally {
      this.#child.kill('SIGKILL');
    }
  }

  async #until(what: string, is: (line: Line) => boolean, withinMs: number): Promise<Line> {
    for (const deadline = Date.now() + withinMs; ; ) {
      // The last: a version may be everywhere, and gone, and everywhere again.
      const found = this.#lines.findLast(is);
      if (found !== undefined) return found;
      const leftMs = deadline - Date.now();
      if (this.#ended || leftMs <= 0) throw new ShoalError('LAB_FAILED', `the load waited in vain for ${what}: ${this.#ended ? `it ended; ${this.#stderr}` : `${withinMs} ms`}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.#wake.push(() => (clearTimeout(timer), resolve()));
      });
    }
  }
}
