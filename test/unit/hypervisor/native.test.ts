/** Native code without Xen: its own tests of layout and netlink, and that the addon throws on every wrong call instead of ending node. */
import { join } from 'node:path';
import test from 'tape';
import { loadNative, nativeError, type Native } from '../../../src/hypervisor/xen/native.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { build, makeIn, reportProgram } from '../c-programs.ts';

makeIn('src/hypervisor/xen/native');

test('layout and netlink in C', (t) => reportProgram(t, 'native_test'));

test('the stream of a guest\'s memory, under sanitizers', (t) => reportProgram(t, 'memory_test'));

test('every function refuses wrong arguments', (t) => {
  const native = loadNative(join(build, 'shoal_xen.node'));
  const wrong: unknown[] = [undefined, null, -1, 1.5, NaN, Infinity, 2 ** 60, 'x', {}, [], () => {}, new Uint8Array(0), new Uint16Array(6), 1n, -1n, true, Symbol('x')];
  const functions = Object.entries(native as unknown as Record<string, (...args: unknown[]) => unknown>);
  t.ok(functions.length > 15, `${functions.length} functions`);
  let calls = 0;
  for (const [name, call] of functions) {
    // watchLinks takes a function, and what takes an index and a name would be carried out as root: not tried here.
    if (['close', 'watchLinks', 'createBridge', 'createPair', 'deleteLink', 'joinShard', 'attachVif', 'detachVif'].includes(name)) continue;
    for (let count = 0; count <= 9; count++) {
      for (const value of wrong) {
        calls++;
        try {
          call(...Array.from({ length: count }, () => value));
        } catch (error) {
          if (!(error instanceof Error)) t.fail(`${name} threw ${String(error)}`);
        }
      }
    }
  }
  t.ok(calls > 1000, `${calls} calls, and node is still here`);
  t.throws(() => native.attachVif(1, 2, 3, 4, new Uint8Array(5), new Uint8Array(4), false), RangeError, 'a MAC of five bytes');
  t.throws(() => native.attachVif(-1, 2, 3, 4, new Uint8Array(6), new Uint8Array(4), false), RangeError, 'a negative index');
  t.throws(() => native.createBridge('a-name-that-is-too-long'), RangeError);
  t.throws(() => native.createBridge('nul\0inside'), RangeError);
  t.throws(() => native.watchLinks(1 as never), TypeError);
  t.end();
});

test('links are listed without Xen', (t) => {
  const native: Native = loadNative(join(build, 'shoal_xen.node'));
  const loopback = native.links().find((link) => link.name === 'lo');
  t.equal(loopback?.index, 1);
  t.ok(Array.isArray(native.neighbours()));
  t.end();
});

test('failures become typed errors', (t) => {
  const failure = (call: string, errno: string): unknown => nativeError(Object.assign(new Error(`${call}: text`), { call, errno }), 'building domain 7');
  const code = (error: unknown): unknown => (error as ShoalError).code;
  t.equal(code(failure('xc_domain_create', 'ENOMEM')), 'HOST_NOT_ENOUGH_FREE_MEMORY');
  t.equal(code(failure('xc_domain_populate_physmap', 'ENOMEM')), 'HOST_NOT_ENOUGH_FREE_MEMORY');
  t.equal(code(failure('xc_evtchn_alloc_unbound', 'ENOSPC')), 'HOST_LIMIT');
  t.equal(code(failure('layout', 'ENOSPC')), 'IMAGE_TOO_LARGE');
  t.equal(code(failure('layout', 'EINVAL')), 'IMAGE_UNSUPPORTED');
  t.equal(code(failure('xc_interface_open', 'ENOENT')), 'HYPERVISOR_UNAVAILABLE');
  t.equal(code(failure('MMUEXT_PIN_L4_TABLE', 'EINVAL')), 'HYPERCALL_FAILED');
  t.deepEqual((failure('xc_domain_pause', 'ESRCH') as ShoalError).data, { call: 'xc_domain_pause', errno: 'ESRCH' });
  const other = new TypeError('no failure of a call');
  t.equal(nativeError(other, 'x'), other, 'anything else passes through');
  t.throws(() => loadNative('/nonexistent.node'), /cannot be loaded/);
  t.end();
});
