/** Disks of guests over folders that stand for sysfs: who may have what, what is waited for, and that nothing stays open. */
import { closeSync, fstatSync, mkdirSync, mkdtempSync, openSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'tape';
import { Disks, vbdNumber } from '../../../src/hypervisor/xen/disks.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { codeOf } from '../host/rig.ts';

interface World {
  disks: Disks;
  folder: string;
  attached: { path: string; readonly: boolean; fd: number }[];
  put(path: string, text: string): void;
}

async function withWorld(work: (world: World) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-disks-'));
  const attached: World['attached'] = [];
  const put = (path: string, text: string): void => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  };
  const attachLoop = (path: string, readonly: boolean) => {
    const fd = openSync(path, 'r');
    attached.push({ path, readonly, fd });
    return { fd, major: 7, minor: attached.length + 14 };
  };
  put('disk', 'x'.repeat(4096));
  try {
    await work({ disks: new Disks({ attachLoop }, folder), folder, attached, put });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const isOpen = (fd: number): boolean => {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
};
const silent = async (): Promise<undefined> => undefined;

test('a file becomes a loop device that is held until blkback has it', (t) =>
  withWorld(async ({ disks, folder, attached, put }) => {
    const vbds = [{ index: 0, path: join(folder, 'disk'), readonly: false }];
    t.deepEqual(await disks.open(5, vbds), [{ ...vbds[0], physicalDevice: '7:f' }], 'in hexadecimal digits');
    t.ok(isOpen(attached[0]!.fd));
    const taken = disks.taken(5, vbds, silent);
    await new Promise((done) => setTimeout(done, 20));
    t.ok(isOpen(attached[0]!.fd), 'not before');
    put(`sys/bus/xen-backend/devices/vbd-5-${vbdNumber(0)}/physical_device`, '7:f\n');
    await taken;
    t.notOk(isOpen(attached[0]!.fd), 'then it is let go of, and Linux takes it away with its last user');
  }));

test('what the kernel complains of is told, and nothing stays open', (t) =>
  withWorld(async ({ disks, folder, attached }) => {
    const vbds = [{ index: 1, path: join(folder, 'disk'), readonly: true }];
    await disks.open(5, vbds);
    try {
      await disks.taken(5, vbds, async (index) => `2 no such thing ${index}`);
      t.fail('it has to fail');
    } catch (error) {
      t.equal((error as ShoalError).code, 'VBD_FAILED');
      t.match((error as ShoalError).message, /disk 1 of domain 5: 2 no such thing 1/);
    }
    t.notOk(isOpen(attached[0]!.fd));
  }));

test('one of two that cannot be had gives the other back', (t) =>
  withWorld(async ({ disks, folder, attached }) => {
    const vbds = [
      { index: 0, path: join(folder, 'disk'), readonly: false },
      { index: 1, path: join(folder, 'none'), readonly: false },
    ];
    t.equal(await codeOf(disks.open(5, vbds)), 'DISK_UNUSABLE');
    t.notOk(isOpen(attached[0]!.fd));
    for (const path of [folder, join(folder, 'short')]) {
      writeFileSync(join(folder, 'short'), 'abc');
      t.equal(await codeOf(disks.open(5, [{ index: 0, path, readonly: false }])), 'DISK_UNUSABLE', path);
    }
  }));

test('a file that a loop device has is somebody else\'s, unless both only read', (t) =>
  withWorld(async ({ disks, folder, attached, put }) => {
    const path = join(folder, 'disk');
    put('sys/block/loop3/loop/backing_file', `${path}\n`);
    put('sys/block/loop3/ro', '1\n');
    put('sys/block/loop4/ro', '0\n');
    symlinkSync(path, join(folder, 'alias'));
    t.equal((await disks.open(5, [{ index: 0, path, readonly: true }])).length, 1, 'two readers');
    closeSync(attached.pop()!.fd);
    const refused = disks.open(6, [{ index: 0, path: join(folder, 'alias'), readonly: false }]);
    t.equal(await codeOf(refused), 'DISK_IN_USE', 'a writer beside a reader, under another name');
    put('sys/block/loop3/ro', '0\n');
    const later = disks.open(7, [{ index: 0, path, readonly: false }]);
    await new Promise((done) => setTimeout(done, 50));
    rmSync(join(folder, 'sys/block/loop3'), { recursive: true });
    t.equal((await later).length, 1, 'one that is just being let go of is waited for');
    disks.release(7);
  }));

test('the end is awaited until blkback has nothing of the domain', (t) =>
  withWorld(async ({ disks, folder, put }) => {
    const backend = `sys/bus/xen-backend/devices/vbd-5-${vbdNumber(2)}`;
    put(`${backend}/physical_device`, '7:0');
    put(`sys/bus/xen-backend/devices/vbd-55-${vbdNumber(0)}/physical_device`, '7:1');
    let over = false;
    const gone = disks.gone(5).then(() => (over = true));
    await new Promise((done) => setTimeout(done, 30));
    t.notOk(over);
    rmSync(join(folder, backend), { recursive: true });
    await gone;
    t.ok(over, 'another domain\'s is not waited for');
  }));
