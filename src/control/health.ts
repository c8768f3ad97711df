/**
 * Whether copies answer: each is probed at its service's interval, many at once but never more than a bound. A copy counts as
 * ready after so many answers in a row, and as dead after so many failures, but not before its grace is over. Probing goes from
 * the controller straight to the copy's first address.
 */
import { execFile } from 'node:child_process';
import { request } from 'node:http';
import { keyOf, type Tracked } from './copies.ts';
import type { Fleet } from './fleet.ts';
import type { HealthCheck } from '../model/service.ts';

export type Probe = (check: Exclude<HealthCheck, { kind: 'none' }>, address: string) => Promise<boolean>;

const tickMs = 100;
const atOnce = 64;
/** One that has not answered yet is asked again so soon, then after twice that, and so on up to its service's own times: a question lost on a guest that boots costs little. */
const firstMs = 150;

interface Row {
  nextMs: number;
  answers: number;
  failures: number;
  busy: boolean;
}

/** An answer below 400 is one, whatever it says. */
export const probeNetwork: Probe = (check, address) =>
  new Promise((done) => {
    if (check.kind === 'icmp') {
      execFile(
        'ping',
        ['-n', '-q', '-c', '1', '-W', String(Math.ceil(check.timeoutMs / 1000)), address],
        { timeout: check.timeoutMs + 500 },
        (error) => done(error === null),
      );
      return;
    }
    const outgoing = request(
      { host: address, port: check.port, path: check.path, agent: false, timeout: check.timeoutMs },
      (response) => {
        response.destroy();
        clearTimeout(timer);
        done((response.statusCode ?? 500) < 400);
      },
    );
    const timer = setTimeout(() => outgoing.destroy(new Error('late')), check.timeoutMs);
    outgoing.on('error', () => (clearTimeout(timer), done(false)));
    outgoing.end();
  });

export class Health {
  readonly #fleet: Fleet;
  readonly #probe: Probe;
  readonly #rows = new Map<Tracked, Row>();
  readonly #timer: NodeJS.Timeout;
  #probing = 0;

  constructor(fleet: Fleet, probe: Probe = probeNetwork) {
    this.#fleet = fleet;
    this.#probe = probe;
    this.#timer = setInterval(() => this.#tick(), tickMs);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const nowMs = this.#fleet.now();
    for (const [key, { spec }] of this.#fleet.state.all('service')) {
      if (spec.health.kind === 'none') continue;
      for (const copy of this.#fleet.copies.of(key)) {
        if (copy.state !== 'running' || this.#fleet.units.get(copy.host)?.up !== true) {
          this.#rows.delete(copy);
          continue;
        }
        let row = this.#rows.get(copy);
        if (row === undefined) this.#rows.set(copy, (row = { nextMs: nowMs, answers: 0, failures: 0, busy: false }));
        if (row.busy || row.nextMs > nowMs) continue;
        if (this.#probing >= atOnce) return;
        void this.#one(copy, row, spec.health);
      }
    }
    for (const copy of this.#rows.keys()) if (this.#fleet.copies.get(copy.record.id.serial) !== copy) this.#rows.delete(copy);
  }

  async #one(copy: Tracked, row: Row, check: Exclude<HealthCheck, { kind: 'none' }>): Promise<void> {
    const address = copy.record.addresses[0]?.ip;
    if (address === undefined) return;
    row.busy = true;
    this.#probing++;
    const eagerMs = copy.ready ? Infinity : firstMs * 2 ** Math.min(row.failures, 20);
    const answers = await this.#probe({ ...check, timeoutMs: Math.min(check.timeoutMs, eagerMs) }, address).catch(() => false);
    this.#probing--;
    row.busy = false;
    const nowMs = this.#fleet.now();
    row.nextMs = nowMs + (answers ? check.intervalMs : Math.min(check.intervalMs, eagerMs));
    // It may have died or gone meanwhile: then the probe was of something else.
    if (this.#rows.get(copy) !== row || copy.state !== 'running') return;
    row.answers = answers ? row.answers + 1 : 0;
    row.failures = answers ? 0 : row.failures + 1;
    if (row.answers >= check.healthyAfter) this.#fleet.copies.set(copy, 'running', true);
    const inGrace = !copy.ready && nowMs - copy.runningSinceMs < check.graceMs;
    if (row.failures >= check.unhealthyAfter && !inGrace) {
      this.#fleet.log(`${keyOf(copy.id)} ${copy.id.slot}: ${copy.name} does not answer`);
      this.#rows.delete(copy);
      this.#fleet.copies.set(copy, 'failed', false);
    }
  }
}
