/** What is written for a domain: few nodes, the guest's rights, and the order that watches rely on. */
import test from 'tape';
import { registerRequests, removeErrorRequests, removeRequests, shutdownRequests } from '../../../src/hypervisor/xen/nodes.ts';
import { messageType, texts, type Request } from '../../../src/hypervisor/xen/xenstore/wire.ts';

const vif = { handle: 0, mac: '00:16:3e:00:00:01', network: 'default', ipv4: ['10.64.1.0'] };

const paths = (requests: Request[], type: number): string[] => requests.filter((r) => r.type === type).map((r) => texts(r.body)[0]!);

/** Nodes with the permissions the daemon gives them: each new one inherits its parent's. */
function replay(requests: Request[]): Map<string, string> {
  const perms = new Map<string, string>([['', 'n0']]);
  for (const request of requests) {
    const [path, ...rest] = texts(request.body) as [string, ...string[]];
    if (request.type === messageType.setPerms) {
      perms.set(path, rest.join(' '));
      continue;
    }
    const parts = path.split('/').slice(1);
    let at = '';
    for (const part of parts) {
      const parent = perms.get(at)!;
      at += `/${part}`;
      if (!perms.has(at)) perms.set(at, parent);
    }
  }
  return perms;
}

test('one vif takes thirteen writes, no more', (t) => {
  t.equal(paths(registerRequests(7, { name: 'a', vifs: [vif] }), messageType.write).length, 13);
  t.equal(paths(registerRequests(7, { name: 'a', vifs: [] }), messageType.write).length, 2);
  t.end();
});

test('the mark of ownership comes first and the state of the backend last', (t) => {
  const requests = registerRequests(7, { name: 'a', vifs: [vif] });
  t.equal(texts(requests[0]!.body)[0], '/local/domain/7/shoal');
  t.equal(texts(requests.at(-1)!.body)[0], '/local/domain/0/backend/vif/7/0/state');
  t.end();
});

test('the guest may read what is its own and write only its frontend', (t) => {
  const perms = replay(registerRequests(7, { name: 'a', vifs: [vif] }));
  t.equal(perms.get('/local/domain/7'), 'n0 r7');
  t.equal(perms.get('/local/domain/7/name'), 'n0 r7');
  t.equal(perms.get('/local/domain/7/device'), 'n0 r7');
  t.equal(perms.get('/local/domain/7/device/vif/0'), 'n7 r0');
  t.equal(perms.get('/local/domain/7/device/vif/0/state'), 'n7 r0');
  t.equal(perms.get('/local/domain/7/device/vif/0/backend'), 'n0 r7', 'it cannot point its device elsewhere');
  t.equal(perms.get('/local/domain/0/backend/vif/7/0/state'), 'n0 r7');
  t.equal(perms.get('/local/domain/7/shoal'), 'n0', 'the record is not for the guest');
  const writable = [...perms].filter(([, list]) => /(^|\s)(n7|[wb]7)/.test(list)).map(([path]) => path);
  t.ok(writable.every((path) => path.startsWith('/local/domain/7/device/vif/0')), writable.join(' '));
  t.end();
});

test('a disk has what blkback asks for, and the guest cannot point it elsewhere', (t) => {
  const requests = registerRequests(7, { name: 'a', vifs: [vif] }, [{ index: 1, path: '/d', readonly: true, physicalDevice: '7:1f' }]);
  const values = new Map(requests.filter(({ type }) => type === messageType.write).map(({ body }) => body.toString().split('\0') as [string, string]));
  const backend = '/local/domain/0/backend/vbd/7/51728';
  const told = ['frontend', 'frontend-id', 'mode', 'physical-device', 'dev', 'online', 'state'].map((key) => values.get(`${backend}/${key}`));
  t.deepEqual(told, ['/local/domain/7/device/vbd/51728', '7', 'r', '7:1f', 'xvdb', '1', '1'], 'without `dev` blkback serves nothing');
  t.equal(values.get('/local/domain/7/device/vbd/51728/backend'), backend);
  const perms = replay(requests);
  t.equal(perms.get('/local/domain/7/device/vbd/51728'), 'n7 r0');
  t.equal(perms.get('/local/domain/7/device/vbd/51728/backend'), 'n0 r7');
  t.equal(perms.get(`${backend}/params`), 'n0 r7');
  t.equal(texts(requests.at(-1)!.body)[0], `${backend}/state`, 'its state comes last');
  t.end();
});

test('a request to shut down is the guest\'s to answer before the reason stands in it', (t) => {
  const requests = shutdownRequests(7, 'poweroff');
  t.deepEqual(requests.map((r) => r.type), [messageType.write, messageType.setPerms, messageType.write]);
  t.equal(replay(requests).get('/local/domain/7/control/shutdown'), 'n7 b0');
  t.equal(requests[2]!.body.toString(), '/local/domain/7/control/shutdown\0poweroff');
  t.end();
});

test('backends are removed before the domain\'s own folder, the kernel\'s complaints last', (t) => {
  t.deepEqual(paths([...removeRequests(7), ...removeErrorRequests(7)], messageType.rm), [
    '/local/domain/0/backend/vif/7', '/local/domain/0/backend/vbd/7', '/local/domain/7', '/local/domain/0/error/backend/vif/7',
    '/local/domain/0/error/backend/vbd/7',
  ]);
  t.end();
});
