/** The agent as a process: its configuration, a second one on the same host, signals, and a kill in the middle of a launch. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { parseAgentConfig } from '../../../src/main/agent-config.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { cert, key } from '../xenapi/certificate.ts';
import { startProgram, type Proc } from './process.ts';

const good = {
  listen: { host: '127.0.0.1', port: 0 },
  passwordFile: 'p',
  certFile: 'c',
  keyFile: 'k',
  stateDir: 's',
  hypervisor: 'sim',
  networks: [
    { name: 'default', bridge: 'xenbr0', cidr: '10.64.0.0/16', gateway: '10.64.0.1', first: '10.64.1.0', last: '10.64.250.255' },
  ],
};

test("the configuration is read, and what it cannot mean is refused with the field's name", (t) => {
  const config = parseAgentConfig(JSON.stringify(good));
  t.deepEqual(config.networks[0], {
    name: 'default',
    bridge: 'xenbr0',
    subnet: { prefix: 16, gateway: 0x0a400001, first: 0x0a400100, last: 0x0a40faff },
  });
  t.deepEqual(
    parseAgentConfig(JSON.stringify({ ...good, networks: [{ name: 'd', bridge: 'b' }] })).networks[0]!.subnet,
    undefined,
    'a network with DHCP',
  );
  const net = good.networks[0]!;
  const wrong: [object, string][] = [
    [{ ...good, colour: 1 }, 'colour'],
    [{ ...good, listen: { ...good.listen, colour: 1 } }, 'listen.colour'],
    [{ ...good, listen: { port: 70_000 } }, 'listen.port'],
    [{ ...good, passwordFile: undefined }, 'passwordFile'],
    [{ ...good, certFile: undefined }, 'certFile'],
    [{ ...good, tls: 'no' }, 'tls'],
    [{ ...good, hypervisor: 'kvm' }, 'hypervisor'],
    [{ ...good, launches: 0 }, 'launches'],
    [{ ...good, networks: {} }, 'networks'],
    [{ ...good, networks: [net, net] }, 'networks[1].name'],
    [{ ...good, networks: [{ ...net, mtu: 9000 }] }, 'networks[0].mtu'],
    [{ ...good, networks: [{ ...net, last: undefined }] }, 'networks[0]'],
    [{ ...good, networks: [{ ...net, cidr: '10.64.0.1/16' }] }, 'networks[0].cidr'],
    [{ ...good, networks: [{ ...net, cidr: '10.64.0.0/33' }] }, 'networks[0].cidr'],
    [{ ...good, networks: [{ ...net, gateway: '10.65.0.1' }] }, 'networks[0].gateway'],
    [{ ...good, networks: [{ ...net, first: '10.64.251.0' }] }, 'networks[0].first'],
  ];
  for (const [value, field] of wrong) {
    try {
      parseAgentConfig(JSON.stringify(value));
      t.fail(`taken: ${field}`);
    } catch (error) {
      t.deepEqual([(error as ShoalError).code, (error as ShoalError).data['field']], ['CONFIG_INVALID', field], field);
    }
  }
  t.throws(() => parseAgentConfig('{'), /not JSON/);
  t.end();
});

async function start(folder: string, port: number, env: Record<string, string> = {}): Promise<Proc> {
  const file = (name: string) => join(folder, name);
  await writeFile(file('cert.pem'), cert);
  await writeFile(file('key.pem'), key);
  await writeFile(file('password'), 'pw\n');
  await writeFile(
    file('agent.json'),
    JSON.stringify({
      ...good,
      listen: { host: '127.0.0.1', port },
      passwordFile: file('password'),
      certFile: file('cert.pem'),
      keyFile: file('key.pem'),
      stateDir: file('state'),
    }),
  );
  return startProgram(['--import', 'tsx', 'src/main/agent.ts', file('agent.json')], env);
}

function call(port: number, method: string, params: unknown[]): Promise<any> {
  return new Promise((done, fail) => {
    const outgoing = request(
      { host: '127.0.0.1', port, ca: cert, method: 'POST', path: '/jsonrpc', agent: false, timeout: 10_000 },
      (response) => {
        let text = '';
        response.on('data', (data: Buffer) => (text += data.toString()));
        response.on('end', () => done(JSON.parse(text)));
      },
    );
    outgoing.on('error', fail);
    outgoing.end(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }));
  });
}

test('an agent starts, keeps a second one out, survives kill -9, and ends on SIGTERM', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-main-'));
  const first = await start(folder, 0);
  t.ok(first.port > 0, 'it is ready');
  const { result: session } = await call(first.port, 'session.login_with_password', ['root', 'pw']);
  t.ok(session, 'the password is that of the file, without its newline');
  const { result: host } = await call(first.port, 'host.get_all', [session]);

  const second = await start(folder, first.port);
  t.deepEqual([second.port, (await second.exit).code], [0, 1], 'a second agent ends with 1');
  t.ok(second.log().includes('HOST_LIMIT'), 'and says why');
  t.notOk(second.log().includes('adopted'), 'before it touched anything');

  first.child.kill('SIGKILL');
  await first.exit;
  const third = await start(folder, 0);
  const { result: again } = await call(third.port, 'session.login_with_password', ['root', 'pw']);
  t.deepEqual((await call(third.port, 'host.get_all', [again])).result, host, 'the host is the same after a kill');
  t.equal((await call(third.port, 'host.get_all', [session])).error.message, 'SESSION_INVALID', 'sessions are not');
  third.child.kill('SIGTERM');
  t.deepEqual(await third.exit, { code: 0, signal: null }, 'SIGTERM ends it');
  await rm(folder, { recursive: true, force: true });
});

test('SHOAL_CRASH_AT names a step, or the agent does not start', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-main-'));
  const agent = await start(folder, 0, { SHOAL_CRASH_AT: 'lunch' });
  t.equal((await agent.exit).code, 1);
  t.ok(agent.log().includes('lunch'));
  await rm(folder, { recursive: true, force: true });
});
