/** The server's doors: what is no call, who may not enter, what is too large; and that none of it changes anything. */
import { connect } from 'node:tls';
import test from 'tape';
import { digestOf, image, imageBytes, until } from '../host/rig.ts';
import { failureOf, makeServer, password, type ServerRig } from './rig.ts';

const post = (rig: ServerRig, body: string, path = '/jsonrpc') => rig.http('POST', path, body);

test("malformed JSON-RPC gets JSON-RPC's own errors", async (t) => {
  const rig = await makeServer();
  const cases: [string, number, unknown][] = [
    ['{', -32700, null],
    ['', -32700, null],
    ['\0', -32700, null],
    ['[]', -32600, null],
    ['1', -32600, null],
    ['null', -32600, null],
    ['{"id":3,"method":"x"}', -32600, 3],
    ['{"jsonrpc":"1.0","id":3,"method":"x"}', -32600, 3],
    ['{"jsonrpc":"2.0","id":"a","method":7}', -32600, 'a'],
    ['{"jsonrpc":"2.0","id":{},"method":"x"}', -32600, null],
    ['{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1}}', -32602, 1],
  ];
  for (const [body, code, id] of cases) {
    const { status, headers, text } = await post(rig, body);
    const answer = JSON.parse(text);
    t.deepEqual(
      [status, headers['content-type'], answer.error?.code, answer.error?.message, answer.id],
      [200, 'application/json', code, 'REQUEST_MALFORMED', id],
      body,
    );
  }
  const { status, text } = await post(rig, '{"jsonrpc":"2.0","method":"system.listMethods"}');
  t.deepEqual([status, text], [204, ''], 'a notification gets no answer');
  const batch = JSON.parse(
    (await post(rig, '[{"jsonrpc":"2.0","id":1,"method":"system.listMethods"},{"jsonrpc":"2.0","method":"x"},7]')).text,
  );
  t.deepEqual(
    batch.map((a: any) => [a.id, a.error?.code]),
    [
      [1, undefined],
      [null, -32600],
    ],
    'a batch',
  );
  await rig.close();
});

test('calls that cannot be', async (t) => {
  const rig = await makeServer();
  const session = await rig.call('session.login_with_password', 'root', password);
  const cases: [string, unknown[], string[]][] = [
    ['VM.fly', [session], ['MESSAGE_METHOD_UNKNOWN', 'VM.fly']],
    ['VM.constructor', [session], ['MESSAGE_METHOD_UNKNOWN', 'VM.constructor']],
    ['__proto__.get_all', [session], ['MESSAGE_METHOD_UNKNOWN', '__proto__.get_all']],
    ['constructor', [session], ['MESSAGE_METHOD_UNKNOWN', 'constructor']],
    ['', [session], ['MESSAGE_METHOD_UNKNOWN', '']],
    ['Async.Async.VM.start', [session], ['MESSAGE_METHOD_UNKNOWN', 'Async.Async.VM.start']],
    ['Async.session.login_with_password', ['root', 'x'], ['MESSAGE_METHOD_UNKNOWN', 'Async.session.login_with_password']],
    ['VM.set_power_state', [session, 'x', 'Running'], ['MESSAGE_METHOD_UNKNOWN', 'VM.set_power_state']],
    ['VM.get_all', [], ['MESSAGE_PARAMETER_COUNT_MISMATCH', 'VM.get_all', '0', '0']],
    ['VM.get_record', [session], ['MESSAGE_PARAMETER_COUNT_MISMATCH', 'VM.get_record', '1', '0']],
    ['VM.start', [session, 'OpaqueRef:x', 'yes'], ['FIELD_TYPE_ERROR', 'start_paused', 'bool']],
    ['VM.get_record', [session, 7], ['FIELD_TYPE_ERROR', 'self', 'string']],
    ['VM.get_record', [session, 'OpaqueRef:x'], ['HANDLE_INVALID', 'VM', 'OpaqueRef:x']],
    ['VM.get_record', [session, rig.api.refs.host], ['HANDLE_INVALID', 'VM', rig.api.refs.host]],
    ['VM.get_by_uuid', [session, 'x'], ['UUID_INVALID', 'VM', 'x']],
    ['VM.start_on', [session, 'OpaqueRef:x', 'OpaqueRef:y'], ['HANDLE_INVALID', 'VM', 'OpaqueRef:x']],
    ['VM.get_all', ['OpaqueRef:guess'], ['SESSION_INVALID']],
    ['VM.get_all', [null], ['SESSION_INVALID']],
    ['host.call_plugin', [session, rig.api.refs.host, 'other', 'x', {}], ['XENAPI_MISSING_PLUGIN', 'other']],
  ];
  for (const [method, params, failure] of cases) {
    t.deepEqual(
      (await failureOf(rig.call(method, ...params))).slice(0, failure.length),
      failure,
      `${method}(${params.slice(1).join(', ')})`,
    );
  }
  t.equal((await failureOf(rig.plugin('fly')))[0], 'XENAPI_PLUGIN_FAILURE');
  t.equal((await failureOf(rig.plugin('images', { colour: 'red' })))[0], 'XENAPI_PLUGIN_FAILURE');
  for (const spec of [
    '',
    '7',
    '[]',
    '{"name":"a"}',
    '{"name":"a","prefix":"b","memoryKib":4096}',
    '{"name":"a","memoryKib":4096,"colour":1}',
    '{"prefix":"a","count":0,"memoryKib":4096}',
    '{"prefix":"a","count":100000,"memoryKib":4096}',
    '{"prefix":"a","count":2,"ip":"10.64.1.1","memoryKib":4096}',
    '{"name":7,"memoryKib":4096}',
  ]) {
    t.equal((await failureOf(rig.plugin('launch', { spec })))[0], 'FIELD_TYPE_ERROR', `spec ${spec}`);
  }
  const ours = await failureOf(rig.plugin('launch', { spec: JSON.stringify({ name: 'a', image: 'sha256:x', memoryKib: 4096 }) }));
  t.deepEqual(
    [ours[0], ours.length, JSON.parse(ours[3]!)],
    ['IMAGE_UNKNOWN', 4, { image: 'sha256:x' }],
    'codes of ours carry message, hint and data',
  );
  t.deepEqual([rig.agent.fleet.size, await rig.as('VM.get_all')], [0, []], 'nothing changed');
  await rig.close();
});

test('VM.create and VIF.create refuse what they cannot keep', async (t) => {
  const rig = await makeServer();
  const vm = { name_label: 'a', memory_static_max: 4 << 20, PV_kernel: image };
  const create = (record: object) => failureOf(rig.as('VM.create', record)).then((f) => f.slice(0, 2));
  t.deepEqual(await create({}), ['VALUE_NOT_SUPPORTED', 'name_label']);
  t.deepEqual(await create({ ...vm, VCPUs_max: 2 }), ['VALUE_NOT_SUPPORTED', 'VCPUs_max']);
  t.deepEqual(await create({ ...vm, HVM_boot_policy: 'BIOS order' }), ['VALUE_NOT_SUPPORTED', 'HVM_boot_policy']);
  t.deepEqual(await create({ ...vm, colour: 'red' }), ['VALUE_NOT_SUPPORTED', 'colour']);
  t.deepEqual(await create({ ...vm, memory_static_max: 'much' }), ['FIELD_TYPE_ERROR', 'memory_static_max']);
  t.deepEqual((await create({ ...vm, memory_static_max: 4097 }))[0], 'MEMORY_INVALID');
  t.deepEqual(await create({ ...vm, other_config: { a: 1 } }), ['FIELD_TYPE_ERROR', 'other_config']);
  t.deepEqual((await create({ ...vm, other_config: { a: 'x'.repeat(9000) } }))[0], 'VALUE_NOT_SUPPORTED');
  t.deepEqual((await create({ ...vm, name_description: '\u0001' }))[0], 'VALUE_NOT_SUPPORTED', 'what XML cannot carry');
  t.deepEqual(await rig.as('VM.get_all'), [], 'nothing changed');

  const ref = await rig.as('VM.create', {
    ...vm,
    memory_static_max: String(4 << 20),
    uuid: 'ignored',
    power_state: 'Running',
    VCPUs_max: 1,
    platform: {},
  });
  const again = await rig.as('VM.create', { ...(await rig.as('VM.get_record', ref)), name_label: 'b' });
  t.equal((await rig.as('VM.get_record', again)).power_state, 'Halted', 'a whole record creates a VM like it');
  t.deepEqual((await create(vm))[0], 'NAME_IN_USE');
  const [network] = await rig.as('network.get_all');
  const device = (record: object) =>
    failureOf(rig.as('VIF.create', { VM: ref, network, device: '0', ...record })).then((f) => f[0] ?? 'none');
  t.equal(await device({ network: 'OpaqueRef:x' }), 'HANDLE_INVALID');
  t.equal(await device({ VM: 'OpaqueRef:x' }), 'HANDLE_INVALID');
  t.equal(await device({ MAC: 'red' }), 'ADDRESS_INVALID');
  t.equal(await device({ MAC: '01:00:00:00:00:01' }), 'ADDRESS_INVALID', 'a group address');
  t.equal(await device({ ipv4_allowed: ['10.64.0.1'] }), 'ADDRESS_INVALID', 'the gateway');
  t.equal(await device({ device: '9' }), 'VALUE_NOT_SUPPORTED');
  t.equal(await device({ device: 'eth0' }), 'VALUE_NOT_SUPPORTED');
  t.equal(await device({ MTU: 9000 }), 'VALUE_NOT_SUPPORTED');
  t.equal(await device({ locking_mode: 'disabled' }), 'VALUE_NOT_SUPPORTED', 'a locking mode that cannot be kept');
  t.deepEqual((await rig.as('VM.get_record', ref)).VIFs, [], 'nothing changed');
  t.equal(await device({ MAC: '00:16:3E:00:00:01', ipv4_allowed: ['10.64.4.4'] }), 'none');
  t.equal(await device({}), 'DEVICE_ALREADY_EXISTS');
  t.equal(await device({ device: '', MAC: '00:16:3e:00:00:01' }), 'ADDRESS_IN_USE', 'the MAC of another');
  t.equal(await device({ device: '', ipv4_allowed: ['10.64.4.4'], VM: again }), 'ADDRESS_IN_USE');
  const [vif] = (await rig.as('VM.get_record', ref)).VIFs;
  await rig.as('VIF.set_ipv4_allowed', vif, ['10.64.4.5']);
  t.deepEqual((await rig.as('VIF.get_record', vif)).ipv4_addresses, ['10.64.4.5/16']);
  await rig.as('VM.start', ref);
  t.deepEqual(await failureOf(rig.as('VIF.destroy', vif)), ['VM_BAD_POWER_STATE', ref, 'halted', 'running']);
  await rig.as('VM.hard_shutdown', ref);
  await rig.as('VIF.destroy', vif);
  t.equal(await device({ ipv4_allowed: ['10.64.4.5'], VM: again }), 'none', 'its address is free again');
  await rig.close();
});

test('wrong passwords are refused, slower each time, and the right one still enters', async (t) => {
  const rig = await makeServer({ api: { penaltyMs: 10 } });
  const login = (user: string, word: string) =>
    failureOf(rig.call('session.login_with_password', user, word)).then((f) => f[0] ?? 'none');
  for (const [user, word] of [
    ['root', ''],
    ['root', 'wrong'],
    ['Root', password],
    ['root', `${password} `],
  ] as const) {
    t.equal(await login(user, word), 'SESSION_AUTHENTICATION_FAILED', `${user}/${word}`);
  }
  const many = await Promise.all(Array.from({ length: 40 }, () => login('root', 'guess')));
  t.ok(
    many.every((code) => code === 'SESSION_AUTHENTICATION_FAILED'),
    'a burst is refused',
  );
  t.equal(await login('root', password), 'none', 'the right one enters');
  t.equal(rig.api.sessions.size, 1);
  await rig.close();
});

test('sessions end: by logout, by age, by number', async (t) => {
  let now = 0;
  const rig = await makeServer({ api: { now: () => now, maxSessions: 3, idleMs: 1000 } });
  const login = () => rig.call('session.login_with_password', 'root', password, '1.0', 'test') as Promise<string>;
  const works = (session: string) => failureOf(rig.call('host.get_all', session)).then((f) => f[0] ?? 'works');
  const a = await login();
  t.equal((await rig.call('session.get_record', a, a)).originator, 'test');
  t.equal(await rig.call('session.get_this_host', a, a), rig.api.refs.host);
  const b = await login();
  t.equal((await failureOf(rig.call('session.get_record', b, a)))[0], 'HANDLE_INVALID', 'only the own');
  await rig.call('session.logout', a);
  t.equal(await works(a), 'SESSION_INVALID');
  now = 900;
  t.equal(await works(b), 'works');
  now = 1800;
  t.equal(await works(b), 'works', 'a session in use lives on');
  now = 2900;
  t.equal(await works(b), 'SESSION_INVALID', 'an idle one does not');
  const four = [await login(), await login(), await login(), await login()];
  t.deepEqual(await Promise.all(four.map(works)), ['SESSION_INVALID', 'works', 'works', 'works'], 'the oldest makes room');
  await rig.close();
});

test('oversized bodies are refused before they are read', async (t) => {
  const rig = await makeServer({ server: { maxBodyBytes: 1000 } });
  for (const path of ['/jsonrpc', '/RPC2']) {
    const { status, text } = await rig.http('POST', path, 'x'.repeat(2_000_000));
    t.deepEqual(
      [status, text.includes('REQUEST_TOO_LARGE')],
      [200, true],
      `${path}: a client that sends it all still gets the answer`,
    );
  }
  const chunked = await rig.http('POST', '/jsonrpc', 'x'.repeat(500_000), { 'transfer-encoding': 'chunked' });
  t.ok(chunked.text.includes('REQUEST_TOO_LARGE'), 'without a length, too');
  // Announces a gigabyte, sends nothing: the answer comes all the same.
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: rig.server.port, rejectUnauthorized: false }, () => {
      socket.write('POST /jsonrpc HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n');
    });
    socket.on('data', (data) => {
      resolve(data.toString());
      socket.destroy();
    });
    socket.on('error', reject);
  });
  t.ok(answer.includes('REQUEST_TOO_LARGE'), 'by its announced length');
  await rig.close();
});

test('paths and methods that are not there', async (t) => {
  const rig = await makeServer();
  t.equal((await rig.http('GET', '/jsonrpc')).status, 405);
  t.equal((await rig.http('POST', '/nowhere', 'x')).status, 404);
  t.equal((await rig.http('GET', '/../../etc/passwd')).status, 404);
  const xml = await rig.http('POST', '/', 'hello');
  t.deepEqual([xml.status, xml.headers['content-type'], xml.text.includes('REQUEST_MALFORMED')], [200, 'text/xml', true]);
  await rig.close();
});

test('images: put, verified, listed, in use, deleted', async (t) => {
  const rig = await makeServer();
  const session = await rig.call('session.login_with_password', 'root', password);
  const path = (digest: string, query = `session_id=${session}`) => `/image/${digest}?${query}`;
  const body = Buffer.from('\x7fELF another');
  const digest = digestOf(body);
  const put = async (p: string, bytes: Uint8Array) => {
    const { status, text } = await rig.http('PUT', p, bytes);
    return [status, JSON.parse(text).code ?? 'none'];
  };
  t.deepEqual(await put(path(digest, 'session_id=OpaqueRef:x'), body), [401, 'SESSION_INVALID'], 'without a session');
  t.deepEqual(await put(path('sha256:..%2f..'), body), [400, 'REQUEST_MALFORMED'], 'no digest');
  t.deepEqual(await put(path(digest), Buffer.from('other')), [422, 'IMAGE_DIGEST_MISMATCH'], 'other bytes');
  t.deepEqual(await put(path(digestOf(Buffer.from('text'))), Buffer.from('text')), [422, 'IMAGE_NOT_ELF'], 'not an ELF');
  t.deepEqual(
    (await rig.plugin('images')).map((i: any) => i.digest),
    [image],
    'nothing of it is visible',
  );
  t.deepEqual(await put(path(digest), body), [200, 'none']);
  t.deepEqual(await put(path(digest), body), [200, 'none'], 'again');
  t.deepEqual(
    (await rig.plugin('images')).map((i: any) => [i.digest, i.fileBytes, i.vms]),
    [
      [image, imageBytes.length, 0],
      [digest, body.length, 0],
    ],
  );
  await rig.plugin('launch', { spec: JSON.stringify({ name: 'a', image: digest, memoryKib: 4096 }) });
  const remove = async (d: string) => (await rig.http('DELETE', path(d))).status;
  t.equal(await remove(digest), 409, 'in use');
  await rig.plugin('stop', { vms: 'all' });
  t.equal(await remove(digest), 409, 'a halted VM uses it, too');
  await rig.plugin('destroy', { vms: 'all' });
  t.equal(await remove(digest), 200);
  t.equal(await remove(digest), 404, 'gone');

  const task = await rig.as('task.create', 'upload', '');
  t.equal((await put(path(digest, `session_id=${session}&task_id=${task}`), body))[0], 200);
  t.equal(await rig.as('task.get_status', task), 'success', 'the task of the upload says how it ended');
  await rig.close();
});

test('consoles by plugin and by HTTP', async (t) => {
  const rig = await makeServer();
  const { vms } = await rig.plugin('launch', { spec: JSON.stringify({ name: 'a', image, memoryKib: 4096 }) });
  const { uuid, domid, ref } = vms[0];
  rig.sim.print(domid, 'hello\n');
  const first = await rig.plugin('console', { vm: uuid });
  t.deepEqual(first, { text: 'hello\n', cursor: 6, live: true });
  rig.sim.print(domid, 'world\n');
  t.equal((await rig.plugin('console', { vm: uuid, cursor: String(first.cursor) })).text, 'world\n', 'beyond the cursor');
  t.deepEqual(await rig.plugin('console-write', { vm: uuid, text: 'x'.repeat(2000) }), { bytes: 1024 });
  const session = await rig.call('session.login_with_password', 'root', password);
  const [console] = await rig.as('VM.get_consoles', ref);
  const location = new URL((await rig.as('console.get_record', console)).location);
  const { text, headers } = await rig.http('GET', `${location.pathname}${location.search}&session_id=${session}&cursor=6`);
  t.deepEqual([text, headers['x-console-cursor']], ['world\n', '12']);
  t.equal((await rig.http('GET', `/console?uuid=x&session_id=${session}`)).status, 404);
  await rig.plugin('stop', { vms: JSON.stringify([uuid]) });
  t.equal((await failureOf(rig.plugin('console', { vm: uuid })))[0], 'VM_BAD_POWER_STATE');
  await rig.close();
});

test('tasks: cancelled at each step of a launch, over the wire', async (t) => {
  let stop: (() => Promise<unknown>) | undefined;
  let at = '';
  const rig = await makeServer({ agent: { hook: async (moment) => (moment === at ? void (await stop?.()) : undefined) } });
  const vm = await rig.as('VM.create', { name_label: 'a', memory_static_max: 4 << 20, PV_kernel: image });
  for (const step of ['create', 'build', 'register', 'seal']) {
    let task = '';
    at = step;
    stop = async () => {
      await until(() => task !== '', 'the reference of the task');
      await rig.as('task.cancel', task);
    };
    task = await rig.as('Async.VM.start', vm, false, false);
    await until(() => rig.api.tasks.get(task)?.status === 'cancelled', 'cancelled');
    const record = await rig.as('task.get_record', task);
    t.deepEqual(
      [record.error_info, await rig.as('VM.get_power_state', vm), (await rig.sim.list()).length],
      [['TASK_CANCELLED', task], 'Halted', 0],
      step,
    );
    await rig.as('task.destroy', task);
  }
  at = '';
  const bulk = await rig.as('Async.host.call_plugin', rig.api.refs.host, 'shoal', 'launch', {
    spec: JSON.stringify({ prefix: 'b', count: 5, image, memoryKib: 4096 }),
  });
  await until(() => rig.api.tasks.get(bulk)?.status === 'success', 'done');
  t.equal((await rig.as('task.get_record', bulk)).progress, 1);
  rig.sim.delaysMs.build = 20;
  const slow = await rig.as('Async.VM.start', vm, false, false);
  t.equal((await failureOf(rig.as('task.destroy', slow)))[0], 'OPERATION_NOT_ALLOWED', 'a task under way is not destroyed');
  await until(() => rig.api.tasks.get(slow)?.status === 'success', 'done');
  await rig.close();
});
