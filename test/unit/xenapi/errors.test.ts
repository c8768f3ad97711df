/** Errors there and back, and the documentation of the API being that of the model. */
import { readFileSync } from 'node:fs';
import test from 'tape';
import { errorHints, ShoalError, type ErrorCode } from '../../../src/model/errors.ts';
import { documentation } from '../../../src/xenapi/documentation.ts';
import { toFailure, toShoalError } from '../../../src/xenapi/errors.ts';
import { methodNames } from '../../../src/xenapi/model/methods.ts';

test('every code survives the wire; ours with all they carry', (t) => {
  for (const code of Object.keys(errorHints) as ErrorCode[]) {
    const failure = toFailure(new ShoalError(code, 'a message', { hint: 'a hint', data: { n: 1 } }));
    const back = toShoalError(failure);
    t.equal(back.code, code, code);
    t.ok(back.message.length > 0 && !/undefined|NaN/.test(back.message), back.message);
    if (failure.length === 4) t.deepEqual([back.message, back.hint, back.data], ['a message', 'a hint', { n: 1 }]);
  }
  t.end();
});

test('codes that XenAPI has carry its parameters', (t) => {
  const error = new ShoalError('VM_BAD_POWER_STATE', 'm', { params: ['OpaqueRef:1', 'halted', 'running'] });
  t.deepEqual(toFailure(error), ['VM_BAD_POWER_STATE', 'OpaqueRef:1', 'halted', 'running']);
  t.equal(
    toShoalError({ code: 'VM_BAD_POWER_STATE', params: ['OpaqueRef:1', 'halted', 'running'] }).message,
    'The VM is running; this needs it halted.',
  );
  t.equal(
    toShoalError(['HOST_NOT_ENOUGH_FREE_MEMORY', '4194304', '1048576']).message,
    '4096 KiB are needed, the host has 1024 KiB to give.',
  );
  t.end();
});

test('what is not ours is still told', (t) => {
  const back = toShoalError(['SR_FULL', '1', '2']);
  t.deepEqual([back.code, back.message, back.data], ['INTERNAL_ERROR', 'SR_FULL 1 2', { code: 'SR_FULL', params: ['1', '2'] }]);
  t.equal(toShoalError([]).code, 'INTERNAL_ERROR');
  t.deepEqual(toFailure(new TypeError('x is not a function')), ['INTERNAL_ERROR', 'x is not a function']);
  t.end();
});

test('docs/xenapi.md is what the model says (npx tsx src/main/document-xenapi.ts writes it)', (t) => {
  t.equal(readFileSync(new URL('../../../docs/xenapi.md', import.meta.url), 'utf8'), documentation());
  t.end();
});

test('system.listMethods has each name once, and those clients look for', (t) => {
  const names = methodNames();
  t.equal(new Set(names).size, names.length);
  for (const name of [
    'VM.get_all_records',
    'event.from',
    'Async.VM.start',
    'Async.host.call_plugin',
    'host.get_API_version_major',
    'pool.add_to_other_config',
    'VM.get_by_name_label',
    'session.get_this_host',
  ]) {
    t.ok(names.includes(name), name);
  }
  t.notOk(names.includes('session.get_all_records'), 'sessions are not listed');
  t.notOk(names.includes('Async.VM.get_all_records'), 'which clients would take for a class');
  t.end();
});
