/** Who may what: tokens, roles, other tenants' things, the audit log; and what does not get through: tricks, floods, too much. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { until } from '../host/rig.ts';
import { eventually, makeApi, web } from './api-rig.ts';

test('the first token: made once, for its owner only, its secret kept nowhere', async (t) => {
  const rig = await makeApi([]);
  t.equal((await stat(join(rig.folder, 'operator.token'))).mode & 0o777, 0o600);
  t.deepEqual((await rig.call('GET', '/v1/whoami')).body.role, 'operator');
  const made = await rig.call('POST', '/v1/tokens', { role: 'tenant', tenant: 'acme' });
  const secrets = [rig.token, made.body.token as string].map((token) => token.slice('shoal_00000000_'.length));
  for (const file of ['controller.journal', 'audit.log']) {
    const text = await readFile(join(rig.folder, file), 'latin1');
    t.notOk(
      secrets.some((secret) => text.includes(secret)),
      `no secret in ${file}`,
    );
  }
  t.notOk(
    secrets.some((secret) => rig.log.join().includes(secret)),
    'nor in the log',
  );
  const listed = await rig.call('GET', '/v1/tokens');
  t.notOk(/hash/.test(listed.text) || secrets.some((secret) => listed.text.includes(secret)), 'nor in the list');
  const own = listed.body.items.find((each: { role: string }) => each.role === 'operator').id;
  t.equal((await rig.call('DELETE', `/v1/tokens/${own}`)).status, 409, 'the last operator cannot lock himself out');
  await rig.reopen();
  t.equal((await rig.call('GET', '/v1/whoami')).status, 200, 'the next controller makes none and takes this one');
  await rig.close();
});

test('wrong, expired, ended and missing tokens look the same', async (t) => {
  const rig = await makeApi([]);
  const short = await rig.tokenFor('viewer', undefined, { expiresInS: 1 });
  const ended = await rig.call('POST', '/v1/tokens', { role: 'viewer' });
  t.equal((await rig.call('GET', '/v1/services', undefined, short)).status, 200, 'good until it expires');
  await rig.call('DELETE', `/v1/tokens/${ended.body.id}`);
  await new Promise((resolve) => setTimeout(resolve, 1050));
  const wrong = rig.token.slice(0, -1) + (rig.token.endsWith('A') ? 'B' : 'A');
  const answers = await Promise.all(
    [null, '', 'x', wrong, short, ended.body.token, `${rig.token}x`].map((token) =>
      rig.call('GET', '/v1/services', undefined, token),
    ),
  );
  t.ok(
    answers.every(({ status, body }) => status === 401 && body.code === 'TOKEN_INVALID'),
    'all 401',
  );
  t.equal(new Set(answers.map(({ text }) => text)).size, 1, 'and nothing tells one from another');
  await rig.close();
});

test('a tenant sees and touches only its own; roles', async (t) => {
  const rig = await makeApi();
  const [acme, ci, viewer, other] = await Promise.all([
    rig.tokenFor('tenant', 'acme'),
    rig.tokenFor('ci', 'acme'),
    rig.tokenFor('viewer', 'acme'),
    rig.tokenFor('tenant', 'beta'),
  ]);
  await rig.call('PUT', '/v1/services/acme/web', web, acme);
  const secret = await rig.call(
    'PUT',
    '/v1/services/beta/secret',
    { ...web, networks: [{ name: 'default', addresses: { from: 'list', list: ['10.64.9.1', '10.64.9.2', '10.64.9.3'] } }] },
    other,
  );
  t.equal(secret.status, 202);
  await eventually(async () => (await rig.call('GET', '/v1/vms')).body.items.length === 6, 'six VMs');
  const theirs = (await rig.call('GET', '/v1/vms', undefined, other)).body.items[0].id;
  const paths: [string, string, unknown?][] = [
    ['GET', '/v1/services/beta/secret'],
    ['DELETE', '/v1/services/beta/secret'],
    ['PUT', '/v1/services/beta/secret', web],
    ['POST', '/v1/services/beta/secret/scale', { count: 0 }],
    ['GET', `/v1/vms/${theirs}`],
    ['GET', `/v1/vms/${theirs}/console`],
    ['POST', `/v1/vms/${theirs}/stop`],
    ['DELETE', `/v1/vms/${theirs}`],
    ['GET', `/v1/tasks/${secret.body.id}`],
    ['POST', `/v1/tasks/${secret.body.id}/cancel`],
  ];
  for (const [method, path, body] of paths) {
    const real = await rig.call(method, path, body, acme);
    t.deepEqual([real.status, real.body.code], [404, 'NOT_FOUND'], `${method} ${path}`);
  }
  for (const path of [
    '/v1/services',
    '/v1/vms',
    '/v1/tasks',
    '/v1/tokens',
    '/v1/services?tenant=beta',
    '/v1/vms?tenant=beta&foreign=true',
  ])
    t.notOk((await rig.call('GET', path, undefined, acme)).text.includes('beta'), `nothing of beta in ${path}`);
  const steal = await rig.call('POST', '/v1/apply', { services: [{ tenant: 'beta', name: 'x', ...web }] }, acme);
  t.deepEqual([steal.status, steal.body.reasons[0].path], [422, 'tenant'], 'nor is anything made in its name');
  const grab = await rig.call(
    'PUT',
    '/v1/services/acme/grab',
    { ...web, count: 1, networks: [{ name: 'default', addresses: { from: 'list', list: ['10.64.9.1'] } }] },
    acme,
  );
  t.ok(grab.status === 422 && !grab.text.includes('beta'), 'its address is not to be had, and whose it is is not said');

  const stream = await rig.stream('/v1/events', acme);
  await until(() => stream.events.length === 1, 'hello');
  await rig.call('POST', '/v1/services/beta/secret/scale', { count: 1 }, other);
  await rig.call('POST', '/v1/services/acme/web/scale', { count: 2 }, acme);
  await until(() => stream.events.some(({ data }) => data.key === 'acme/web'), 'its own');
  t.notOk(JSON.stringify(stream.events).includes('beta'), 'nothing of beta among its events');
  stream.close();

  const may = async (token: string, method: string, path: string, body?: unknown) =>
    (await rig.call(method, path, body, token)).status;
  for (const [method, path, body] of [
    ['GET', '/v1/hosts'],
    ['GET', '/metrics'],
    ['POST', '/v1/hosts', {}],
    ['POST', '/v1/hosts/a/drain'],
    ['PUT', '/v1/quotas/acme', {}],
    ['PUT', '/v1/releases/x', { digest: web.image }],
    ['GET', '/v1/audit'],
  ] as [string, string, unknown?][])
    t.equal(await may(acme, method, path, body), 403, `a tenant may not ${method} ${path}`);
  t.deepEqual(
    [
      await may(ci, 'PUT', '/v1/services/acme/web', web),
      await may(ci, 'DELETE', '/v1/services/acme/web'),
      await may(ci, 'POST', '/v1/tokens', { role: 'viewer' }),
    ],
    [202, 403, 403],
    'ci applies, and deletes nothing',
  );
  t.deepEqual(
    [
      await may(viewer, 'GET', '/v1/services/acme/web'),
      await may(viewer, 'PUT', '/v1/services/acme/web', web),
      await may(viewer, 'POST', '/v1/services/acme/web/restart'),
    ],
    [200, 403, 403],
    'a viewer views',
  );
  t.deepEqual(
    [
      await may(acme, 'POST', '/v1/tokens', { role: 'operator' }),
      await may(acme, 'POST', '/v1/tokens', { role: 'ci', tenant: 'beta' }),
      await may(acme, 'POST', '/v1/tokens', { role: 'tenant' }),
      await may(acme, 'POST', '/v1/tokens', { role: 'ci' }),
    ],
    [403, 403, 403, 201],
    'nobody makes a token that may more than he',
  );
  await rig.close();
});

test('the audit log has every call that changes something, also those that were refused', async (t) => {
  const rig = await makeApi([]);
  const acme = await rig.tokenFor('tenant', 'acme');
  await rig.call('PUT', '/v1/services/acme/web', web, acme);
  await rig.call('PUT', '/v1/services/beta/web', web, acme);
  await rig.call('POST', '/v1/hosts', {}, null);
  await rig.call('GET', '/v1/services', undefined, acme);
  const { items } = (await rig.call('GET', '/v1/audit')).body;
  t.deepEqual(
    items.map((line: Record<string, string>) => [
      line['role'],
      line['tenant'],
      line['method'],
      line['path'],
      line['status'],
      line['code'],
    ]),
    [
      ['operator', '', 'POST', '/v1/tokens', 201, ''],
      ['tenant', 'acme', 'PUT', '/v1/services/acme/web', 202, ''],
      ['tenant', 'acme', 'PUT', '/v1/services/beta/web', 404, 'NOT_FOUND'],
      ['', '', 'POST', '/v1/hosts', 401, 'TOKEN_INVALID'],
    ],
  );
  const before = await readFile(join(rig.folder, 'audit.log'));
  await rig.reopen();
  await rig.call('PUT', '/v1/quotas/acme', { vms: 1 });
  const after = await readFile(join(rig.folder, 'audit.log'));
  t.ok(after.subarray(0, before.length).equals(before) && after.length > before.length, 'only ever appended');
  await rig.close();
});

test('path tricks, prototypes, bodies too large or no JSON, 1,000 requests at once', async (t) => {
  const rig = await makeApi(['a']);
  for (const path of [
    '/v1/services/acme/..%2f..%2fx',
    '/v1/services/acme/%00',
    '/v1/services/__proto__/x',
    '/v1/vms/..%2f..',
    '/v1/services/acme/' + 'a'.repeat(5000),
    '/v1/hosts/constructor',
    '/../../etc/passwd',
    '/v1//services',
    '/v1/services/acme/x%',
  ]) {
    const { status, body } = await rig.call('GET', path);
    t.ok(status >= 400 && status < 500 && typeof body?.code === 'string', `${path.slice(0, 40)}: ${status} ${body?.code}`);
  }
  const big = await rig
    .call('PUT', '/v1/services/acme/web', JSON.stringify({ ...web, args: 'x'.repeat(5 << 20) }))
    .catch((error: Error) => ({ status: 413, body: { code: 'REQUEST_TOO_LARGE' }, error }));
  t.deepEqual([big.status, big.body.code], [413, 'REQUEST_TOO_LARGE']);
  for (const body of ['{', '[]', 'null', '"x"', '{"__proto__":{"role":"operator"}}', '{"constructor":{"prototype":{"x":1}}}']) {
    const { status } = await rig.call('PUT', '/v1/services/acme/web', body);
    t.ok(status >= 400 && status < 500, `${body}: ${status}`);
  }
  t.equal(
    (await rig.call('PUT', '/v1/services/acme/web', 'x=1', rig.token, { 'content-type': 'application/x-www-form-urlencoded' }))
      .status,
    400,
    'a form',
  );
  t.equal((await rig.call('PUT', '/v1/services/acme/web')).status, 400, 'nothing at all');
  const began = performance.now();
  const all = await Promise.all(
    Array.from({ length: 1000 }, (_, i) =>
      i % 10 === 0
        ? rig.call('PUT', `/v1/services/acme/s${i % 100}`, { ...web, count: 1 })
        : i % 10 === 1
          ? rig.call('GET', '/v1/services', undefined, 'wrong')
          : rig.call('GET', '/v1/services'),
    ),
  );
  const counts = new Map<number, number>();
  for (const { status } of all) counts.set(status, (counts.get(status) ?? 0) + 1);
  t.deepEqual(
    [...counts].sort(),
    [
      [200, 800],
      [202, 100],
      [401, 100],
    ],
    `each answered as it should be, ${Math.round(performance.now() - began)} ms`,
  );
  await eventually(async () => rig.hosts.get('a')!.vms.size === 10, 'and ten services run', 40_000);
  t.equal(
    (await rig.call('GET', '/v1/audit?limit=10000')).body.items.filter((line: { status: number }) => line.status === 202).length,
    100,
    'all in the audit log',
  );
  await rig.close();
});

test('the state is of this version, or the controller does not start', async (t) => {
  const rig = await makeApi([]);
  const { JournalStore } = await import('../../../src/control/store.ts');
  await rig.close();
  const { mkdtemp, rm } = await import('node:fs/promises');
  const { tmpdir } = await import('node:os');
  const folder = await mkdtemp(join(tmpdir(), 'shoal-state-'));
  const store = await JournalStore.open(folder);
  await store.write([
    { key: 'a', value: 1 },
    { key: 'b', value: { c: 2 } },
  ]);
  await store.write([{ key: 'a', value: undefined }]);
  await store.close();
  const again = await JournalStore.open(folder);
  t.deepEqual([...again.entries], [['b', { c: 2 }]], 'what was written is read');
  for (let i = 0; i < 3000; i++) void again.write([{ key: 'b', value: { i, text: 'x'.repeat(200) } }]);
  await again.write([{ key: 'end', value: true }]);
  // It is rewritten in the turns after the write.
  for (let turns = 0; turns < 2000 && again.sizeBytes >= 700_000; turns++) await new Promise((resolve) => setTimeout(resolve, 1));
  t.ok(again.sizeBytes < 700_000, `history is dropped: ${again.sizeBytes} bytes`);
  await again.close();
  const many = await JournalStore.open(folder);
  await many.write(Array.from({ length: 60_000 }, (_, i) => ({ key: `copy/${i}`, value: { i, text: 'x'.repeat(300) } })));
  await many.close();
  const last = await JournalStore.open(folder);
  t.equal(last.entries.size, 60_002, 'more than one entry can hold is kept all the same');
  t.deepEqual([(last.entries.get('b') as { i: number }).i, last.entries.get('end')], [2999, true]);
  await last.close();
  await rm(folder, { recursive: true, force: true });
});
