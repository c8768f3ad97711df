/** When all domains are compared: at once on news of others, later on news that this process made itself. The clock of the test stands still but for its ticks. */
import { mock } from 'node:test';
import test from 'tape';
import { Changes } from '../../../src/hypervisor/xen/changes.ts';
import type { Native } from '../../../src/hypervisor/xen/native.ts';

class Scans {
  count = 0;
  readonly told: number[] = [];
  changed: number[] = [];
  readonly changes: Changes;

  constructor() {
    const native = { changedDomains: () => (this.count++, this.changed.splice(0)), domain: () => undefined } as unknown as Native;
    this.changes = new Changes(native, () => {});
    this.changes.start();
    this.count = 0;
    this.changes.onChange((domid) => this.told.push(domid));
  }
}

function ticking(name: string, work: (t: test.Test, scans: Scans) => Promise<void>): void {
  test(name, async (t) => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const scans = new Scans();
    try {
      await work(t, scans);
    } finally {
      scans.changes.close();
      mock.timers.reset();
    }
  });
}

ticking('news of others are looked at at once', async (t, scans) => {
  scans.changed = [7];
  scans.changes.scanSoon();
  scans.changes.scanSoon();
  mock.timers.tick(1);
  t.deepEqual([scans.count, scans.told], [1, [7]], 'once for both');
});

ticking('news of what is done here wait, and are not lost', async (t, scans) => {
  await scans.changes.own(async () => {
    scans.changed = [7];
    scans.changes.scanSoon();
    mock.timers.tick(200);
    t.equal(scans.count, 0, 'while it is done');
    scans.changes.scanSoon();
    mock.timers.tick(60);
    t.deepEqual([scans.count, scans.told], [1, [7]], 'further ones do not put it off');
  });
  scans.changes.scanSoon();
  mock.timers.tick(60);
  t.equal(scans.count, 1, 'nor right after it');
});

ticking('after a failure too', async (t, scans) => {
  await scans.changes.own(() => Promise.reject(new Error('as arranged'))).catch(() => {});
  await new Promise((resolve) => setImmediate(resolve));
  for (const begun = performance.now(); performance.now() - begun < 40; );
  scans.changes.scanSoon();
  mock.timers.tick(25);
  t.equal(scans.count, 1, 'and some time later news are those of others again');
});
