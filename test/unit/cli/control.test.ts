/** The command against a whole controller over TLS, with hosts in memory behind it. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { Control } from '../../../src/cli/control.ts';
import { makeApi, web, type ApiRig } from '../control/api-rig.ts';
import { digest } from '../control/rig.ts';
import { policy, push } from '../control/rollout-rig.ts';
import { until } from '../host/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { runCommand, type Outcome } from './run.ts';

async function withFleet(
  work: (shoal: (...argv: string[]) => Promise<Outcome>, rig: ApiRig, folder: string) => Promise<void>,
  options: Parameters<typeof makeApi>[1] = {},
): Promise<void> {
  const rig = await makeApi(undefined, options);
  const folder = mkdtempSync(join(tmpdir(), 'shoal-cli-'));
  const file = (name: string) => join(folder, name);
  writeFileSync(file('ca.pem'), cert);
  writeFileSync(file('token'), `${rig.token}\n`);
  const env = {
    SHOAL_CONTROLLER: `https://127.0.0.1:${rig.controller.server.port}`,
    SHOAL_CONTROLLER_CA: file('ca.pem'),
    SHOAL_TOKEN_FILE: file('token'),
  };
  const shoal = (...argv: string[]): Promise<Outcome> => runCommand(argv, env);
  try {
    await work(shoal, rig, folder);
  } finally {
    await rig.close();
    rmSync(folder, { recursive: true });
  }
}

test('apply -f, get, describe, scale, restart, drain, delete', (t) =>
  withFleet(async (shoal, rig, folder) => {
    const file = join(folder, 'web.json');
    writeFileSync(
      file,
      JSON.stringify([
        { tenant: 'acme', name: 'web', ...web },
        { tenant: 'acme', name: 'api', ...web, count: 1 },
      ]),
    );
    t.equal((await shoal('apply', '-f', file, '--dry-run')).out, '2 services could be made so\n');
    const applied = await shoal('apply', '-f', file);
    t.deepEqual(
      [applied.code, applied.out],
      [0, 'acme/web  apply done: 3 of 3 ready\nacme/api  apply done: 1 of 1 ready\n'],
      'it waits until it is so',
    );
    t.deepEqual(
      (await shoal('get', '--json')).json.map((s: any) => [s.id, s.copies.ready]),
      [
        ['acme/api', 1],
        ['acme/web', 3],
      ],
    );
    t.ok(/^SERVICE +READY +WANTED/.test((await shoal('get')).out), 'a table for people');
    t.equal((await shoal('get', 'vms', '--json', '--host', 'a')).json.length, 2);
    t.equal((await shoal('get', 'vm', '--json')).json.length, 4, 'the singular, too');
    t.deepEqual(
      (await shoal('get', 'hosts', '--json')).json.map((h: any) => [h.id, h.state]),
      [
        ['a', 'up'],
        ['b', 'up'],
      ],
    );
    t.ok((await shoal('describe', 'acme/web')).out.includes('spec.placement.strategy'));
    const [vm] = (await shoal('get', 'vms', '--json')).json;
    t.equal((await shoal('describe', vm.id, '--json')).json.uuid, vm.uuid);
    t.equal((await shoal('describe', 'a', '--json')).json.version, 'fake');
    t.equal((await shoal('scale', 'acme/web', '5', '--json')).json.tasks[0].status, 'done');
    t.equal((await shoal('restart', 'acme/api')).code, 0);
    t.equal((await shoal('drain', 'a')).out, 'a  drain done: 0 left\n');
    t.equal(rig.hosts.get('a')!.vms.size, 0);
    t.equal((await shoal('drain', 'a', '--undo')).code, 0);
    t.ok(/acme\/web +#{20} 5 of 5/.test((await shoal('top')).out), 'top, once where nobody looks');
    t.ok((await shoal('delete', 'acme/web', '--no-wait')).out.includes('under way'));
    t.equal((await shoal('delete', 'acme/api')).code, 0);
    await until(() => rig.hosts.get('b')!.vms.size === 0, 'all gone');
    t.deepEqual((await shoal('get', '--json')).json, []);
  }));

test('what is refused is told with every reason, and what was meant is guessed', (t) =>
  withFleet(async (shoal, _rig, folder) => {
    const file = join(folder, 'bad.json');
    writeFileSync(file, JSON.stringify({ tenant: 'acme', name: 'web', ...web, count: -1, image: 'none', colour: 1 }));
    const refused = await shoal('apply', '-f', file, '--json');
    t.deepEqual(
      [refused.code, refused.json.error.code, refused.json.error.data.reasons.map((r: any) => r.path).sort()],
      [1, 'SPEC_INVALID', ['colour', 'count']],
    );
    t.ok(refused.err.includes('colour') && refused.err.includes('count'), 'people see them, too');
    writeFileSync(file, '{');
    t.equal((await shoal('apply', '-f', file)).code, 2);
    t.equal((await shoal('apply')).code, 2);
    t.ok((await shoal('get', 'servics')).err.includes('Did you mean services?'));
    t.equal((await shoal('get', 'hosts', '--tenant', 'x')).code, 2);
    t.equal((await shoal('scale', 'web', '3')).code, 2);
    t.equal((await shoal('describe', 'acme/none', '--json')).json.error.code, 'NOT_FOUND');
    writeFileSync(join(folder, 'other'), 'shoal_00000000_' + 'A'.repeat(43));
    t.equal((await shoal('get', '--token-file', join(folder, 'other'), '--json')).json.error.code, 'TOKEN_INVALID');
    t.equal((await shoal('get', '--controller', 'http://x')).code, 2, 'no TLS, no call');
  }));

test('tokens into files, hosts in and out, events as they happen', (t) =>
  withFleet(async (shoal, rig, folder) => {
    const out = join(folder, 'acme.token');
    const made = await shoal('token', 'make', 'tenant', 'acme', '--out', out, '--days', '3');
    t.deepEqual([made.code, made.out, statSync(out).mode & 0o777], [0, '', 0o600], 'not on the terminal');
    t.notOk(made.err.includes(readFileSync(out, 'utf8').trim()), 'nor beside it');
    t.equal((await shoal('get', 'hosts', '--token-file', out, '--json')).json.error.code, 'FORBIDDEN');
    const id = (await shoal('get', 'tokens', '--json')).json.find((each: any) => each.role === 'tenant').id;
    t.equal((await shoal('token', 'end', id)).code, 0);
    t.equal((await shoal('get', '--token-file', out, '--json')).json.error.code, 'TOKEN_INVALID');

    writeFileSync(join(folder, 'host.pem'), cert);
    t.equal((await shoal('host', 'add', 'c', 'https://c:443', '--certificate', join(folder, 'host.pem'))).code, 0);
    t.equal((await shoal('host', 'add', 'd', 'https://d:443')).code, 2, 'a host without a certificate');
    t.equal((await shoal('host', 'remove', 'c')).code, 0);
    t.deepEqual(
      (await shoal('get', 'hosts', '--json')).json.map((h: any) => h.id),
      ['a', 'b'],
    );

    const control = new Control(`https://127.0.0.1:${rig.controller.server.port}`, cert, rig.token);
    const ended = new AbortController();
    const seen: string[] = [];
    const watching = control.events(
      ['service'],
      ended.signal,
      ({ kind, data }) => void seen.push(`${kind} ${data.key ?? ''} ${data.op ?? ''}`),
    );
    await until(() => seen.length === 1, 'hello');
    writeFileSync(join(folder, 'web.json'), JSON.stringify({ tenant: 'acme', name: 'web', ...web, image: digest }));
    await shoal('apply', '-f', join(folder, 'web.json'));
    await until(() => seen.includes('service acme/web put'), 'the service');
    ended.abort();
    await watching;
    control.close();
    t.pass('events');
  }));

test('completion knows every verb and its options', async (t) => {
  const { verbs } = await import('../../../src/cli/main.ts');
  const { completionScript } = await import('../../../src/cli/verbs/completion.ts');
  const script = completionScript(verbs);
  const complete = (...words: string[]): string[] =>
    execFileSync(
      'bash',
      [
        '-c',
        `complete() { :; }; ${script}\nCOMP_WORDS=(shoal "$@"); COMP_CWORD=$#; _shoal; printf '%s\\n' "\${COMPREPLY[@]}"`,
        '-',
        ...words,
      ],
      { encoding: 'utf8' },
    )
      .trim()
      .split('\n');
  t.deepEqual(complete('sca'), ['scale']);
  t.deepEqual(complete('token', ''), ['make', 'end']);
  t.deepEqual(complete('vm', 'cr'), ['create']);
  t.ok(complete('apply', '--').includes('--dry-run') && !complete('apply', '--').includes('--lab'));
  t.ok(complete('token', 'make', '--o').includes('--out'), 'options of a verb of two words');
  for (const { name } of verbs) t.ok(script.includes(`'${name}')`), name);
  t.end();
});

test('rollout: list, show, pause, resume, promote, rollback, watch', (t) =>
  withFleet(async (shoal, rig) => {
    const { rollouts } = rig.controller;
    t.match((await shoal('rollout', 'list')).err, /No rollouts/);
    const slow = policy({ gates: [], observeMs: 3_600_000 });
    await rollouts.begin(push(1, 'a', {}, slow));
    await until(() => rollouts.status('t', 's').state === 'rolling', 'it rolls');
    t.equal((await shoal('rollout', 'pause', 't/s', '--json')).json.phase, 'paused');
    const again = await shoal('rollout', 'pause', 't/s');
    t.deepEqual([again.code, /means nothing/.test(again.err)], [1, true]);
    t.equal((await shoal('rollout', 'resume', 't/s')).code, 0);
    const watching = shoal('rollout', 'watch', 't/s');
    t.match((await shoal('rollout', 'promote', 't/s')).out, /t\/s: promoting, release 1/);
    const watched = await watching;
    t.deepEqual([watched.code, /resume: /.test(watched.out), /progress: done/.test(watched.out)], [0, true, true], 'what was and what comes, until it is done');
    await rollouts.begin(push(2, 'b', {}, slow));
    const failing = shoal('rollout', 'watch', 't/s');
    await until(() => rollouts.status('t', 's').state === 'rolling', 'it rolls');
    t.equal((await shoal('rollout', 'rollback', 't/s', '--to', '1')).code, 0);
    t.equal((await failing).code, 1, 'a watch tells by its exit code how it ended');
    t.match((await shoal('rollout', 'list')).out, /t\/s +2 +rolled-back/);
    t.match((await shoal('rollout', 'show', 't/s')).out, /rolled back by someone/);
    t.match((await shoal('rollout', 'rollback', 't/s', '--to', '9')).err, /There are: 1/);
    t.equal((await shoal('rollout', 'show', 'nonsense')).code, 2);
  }));

test('host label: added, replaced, taken away; what is no label changes nothing', (t) =>
  withFleet(async (shoal, rig) => {
    const labels = () => rig.controller.fleet.state.get('host', 'a')!.labels;
    t.equal((await shoal('host', 'label', 'a', 'place=east', 'disk=ssd')).out, 'a  place=east disk=ssd\n');
    t.deepEqual((await shoal('host', 'label', 'a', 'place=west', 'disk-', '--json')).json.labels, { place: 'west' });
    const wrong = await shoal('host', 'label', 'a', 'rack=1', '=east');
    t.deepEqual([wrong.code, labels()], [2, { place: 'west' }]);
    t.deepEqual([(await shoal('host', 'label', 'nowhere', 'a=b')).code, (await shoal('host', 'label', 'a')).code], [1, 2]);
    t.equal((await shoal('host', 'label', 'a', 'place-')).out, 'a  no labels\n');
  }));

test('release put: the image once, its name as often as it is given', async (t) => {
  const put: string[] = [];
  const kept: { digest: string; fileBytes: number }[] = [];
  const images = {
    list: () => kept,
    put: async (of: string, chunks: AsyncIterable<Uint8Array>) => {
      let fileBytes = 0;
      for await (const chunk of chunks) fileBytes += chunk.length;
      put.push(of);
      kept.push({ digest: of, fileBytes });
    },
    bytes: async () => undefined,
  };
  await withFleet(
    async (shoal, rig, folder) => {
      const file = join(folder, 'cache.elf');
      writeFileSync(file, 'a kernel');
      const first = (await shoal('release', 'put', 'minicache', file, '--json')).json;
      t.deepEqual([first.sent, put, kept[0]!.fileBytes], [true, [first.digest], 8]);
      t.equal((await shoal('release', 'put', 'other', file, '--json')).json.sent, false, 'not sent again');
      t.deepEqual(['minicache', 'other'].map((name) => rig.controller.fleet.digestOf(name)), [first.digest, first.digest]);
      t.equal((await shoal('release', 'put', 'x', join(folder, 'none'))).code, 2);
    },
    { images },
  );
});
