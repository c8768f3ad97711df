/** The judge by itself: clocks that are apart, objects that are damaged, bytes that are anything. */
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { DesiredReader } from '../../../src/desired/desired.ts';
import { readDocument } from '../../../src/desired/documents.ts';
import { CatFile } from '../../../src/desired/git.ts';
import { placeOf } from '../../../src/desired/layout.ts';
import { noObject, parseCommit, parseTree } from '../../../src/desired/objects.ts';
import { readSigners, refusal, type Policy } from '../../../src/desired/policy.ts';
import { verify } from '../../../src/desired/verify.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { example, Repo } from './rig.ts';

const minute = 60_000;

test('clocks apart: five minutes are allowed on both ends of a release, not more', async (t) => {
  const repo = await Repo.open();
  t.teardown(() => repo.close());
  await repo.push();
  const before = await repo.head();
  const created = Date.now();
  const expires = created + 60 * minute;
  await repo.commit(await repo.releaseFiles(2, 'two', { created: new Date(created).toISOString(), expires: new Date(expires).toISOString() }));
  t.ok((await repo.push()).ok);
  const after = await repo.head();
  const at = async (nowMs: number, from = before): Promise<string> =>
    (await verify({ repository: repo.bare, before: from, after, anchor: await repo.signers('anna'), nowMs })).map(({ path, message }) => `${path} ${message}`).join('\n');
  t.equal(await at(created - 4 * minute), '', 'the signer is four minutes ahead');
  t.match(await at(created - 6 * minute), /created is/, 'six');
  t.equal(await at(expires + 4 * minute), '', 'over for four minutes');
  t.match(await at(expires + 6 * minute), /expires was/, 'six');
  t.match(await at(expires + 6 * minute, noObject), /expires was/, 'whatever was there before');
  const third = await repo.commit({ 'docs/a.md': 'a' }, 'anna');
  t.ok((await repo.push()).ok);
  t.deepEqual(await verify({ repository: repo.bare, before: after, after: third, anchor: '', nowMs: expires + 90 * minute }), [], 'what runs already goes on when it has expired');
});

test('an object that is missing, cut or changed: nothing is accepted, nobody hangs', async (t) => {
  const repo = await Repo.open();
  t.teardown(() => repo.close());
  await repo.push();
  const head = await repo.head();
  const oid = (await repo.run(['rev-parse', 'HEAD:services/acme/ping.json'], repo.bare)).text.trim();
  const path = join(repo.bare, 'objects', oid.slice(0, 2), oid.slice(2));
  const whole = await readFile(path);
  await chmod(path, 0o600);
  const flipped = Buffer.from(whole);
  flipped[20]! ^= 1;
  const reader = new DesiredReader(repo.bare);
  for (const [what, bytes] of [['cut', whole.subarray(0, 30)], ['empty', Buffer.alloc(0)], ['changed', flipped]] as const) {
    await writeFile(path, bytes);
    await reader.at(head).then(
      () => t.fail(`${what}: read`),
      (error: ShoalError) => t.equal(error.code, 'REPOSITORY_FAILED', `${what}: the reader`),
    );
    await verify({ repository: repo.bare, before: noObject, after: head, anchor: await repo.signers('anna'), nowMs: Date.now() }).then(
      () => t.fail(`${what}: judged`),
      (error: ShoalError) => t.equal(error.code, 'REPOSITORY_FAILED', `${what}: the judge`),
    );
  }
  await writeFile(path, whole);
  t.equal((await reader.at(head)).services.length, 1, 'put right, it is read');
  await reader.close();
  const objects = new CatFile(repo.bare);
  for (const [id, type, most] of [[noObject, 'blob', 100], [oid, 'tree', 100_000], [oid, 'blob', 3]] as const)
    await objects.read(id, type, most).then(
      () => t.fail('read'),
      (error: ShoalError) => t.equal(error.code, 'REPOSITORY_FAILED'),
    );
  t.equal((await objects.read(oid, 'blob', 10_000)).length, (await readFile(join(example, 'services/acme/ping.json'))).length, 'and it goes on');
  objects.close();
});

test('bytes that are anything are refused with reasons, never with another error', async (t) => {
  let state = Number(process.env['SHOAL_SEED'] ?? 5);
  t.comment(`seed ${state}`);
  const roll = (sides: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
  const names = ['signers', 'policy.json', 'services/acme/ping.json', 'releases/acme/ping/1.json', 'rollouts/careful.json', 'hosts/host0.json'];
  const values = ['null', '-1', '1e999', '"x"', '[]', '{}', 'true', '{"kind":"icmp"}', '"__proto__"', '[[[]]]'];
  let refused = 0;
  for (const name of names) {
    const place = placeOf(name)!;
    const whole = await readFile(join(example, name));
    const text = whole.toString();
    const good = readDocument(name, place as never, whole);
    t.deepEqual(good.reasons, [], `${name} of the example is right`);
    for (let i = 0; i < 400; i++) {
      let bytes: Buffer;
      if (i % 2 === 0) {
        bytes = Buffer.from(whole);
        for (let n = 0; n <= roll(4); n++) bytes[roll(bytes.length)] = roll(256);
      } else {
        // One value for another of any type.
        const spots = [...text.matchAll(/(?<=: )("[^"]*"|[\d.]+|true|\[[^\]]*\])/g)];
        const spot = spots.length === 0 ? undefined : spots[roll(spots.length)]!;
        bytes = Buffer.from(spot === undefined ? text.slice(0, roll(text.length)) : text.slice(0, spot.index) + values[roll(values.length)]! + text.slice(spot.index! + spot[0].length));
      }
      const { document, reasons } = readDocument(name, place as never, bytes);
      if ((document === undefined) !== (reasons.length > 0)) return t.fail(`${name}: neither read nor refused: ${bytes.toString()}`);
      if (reasons.some(({ path, message, hint }) => !path.startsWith(name) || message === '' || hint === '')) return t.fail(`${name}: a reason says nothing`);
      refused += document === undefined ? 1 : 0;
    }
  }
  t.ok(refused > 600, `${refused} were refused`);
  const commit = Buffer.from(`tree ${'a'.repeat(40)}\nparent ${'b'.repeat(40)}\nauthor a <a> 1 +0000\ngpgsig -----BEGIN SSH SIGNATURE-----\n x\n -----END SSH SIGNATURE-----\ncommitter c <c> 1 +0000\n\nmessage\ngpgsig in the text\n`);
  const parsed = parseCommit(commit);
  t.equal(parsed.signed?.payload.toString(), commit.toString().replace(/gpgsig -[^]*?\n(?=committer)/, ''), 'what was signed is all but the signature');
  t.equal(parsed.signed?.signature, '-----BEGIN SSH SIGNATURE-----\nx\n-----END SSH SIGNATURE-----\n');
  for (let i = 0; i < 2000; i++) {
    const bytes = Buffer.from(commit.subarray(0, 1 + roll(commit.length)));
    bytes[roll(bytes.length)] = roll(256);
    for (const parse of [parseCommit, parseTree])
      try {
        parse(bytes);
      } catch (error) {
        if (!(error instanceof ShoalError)) return t.fail(String(error));
      }
  }
  t.end();
});

test('who may what: roles and patterns; a name that is no own field of the policy is nobody', (t) => {
  const policy: Policy = { signers: { a: { roles: ['admin'] }, f: { roles: ['fleet'] }, d: { roles: ['deploy'], services: ['acme/*', 'x/web'] } } };
  const may = (who: string, path: string): boolean => refusal(policy, who, placeOf(path)!) === undefined;
  const table: [string, string, boolean][] = [
    ['a', 'policy.json', true], ['a', 'services/x/y.json', true], ['f', 'hosts/h.json', true], ['f', 'rollouts/r.json', true],
    ['f', 'services/acme/web.json', false], ['f', 'signers', false], ['f', `images/${'a'.repeat(64)}`, false],
    ['d', 'services/acme/web.json', true], ['d', 'releases/x/web/1.json', true], ['d', 'services/x/other.json', false], ['d', `images/${'a'.repeat(64)}`, true],
    ['d', 'hosts/h.json', false], ['d', 'policy.json', false], ['d', 'README.md', false], ['constructor', 'README.md', false], ['__proto__', 'policy.json', false],
  ];
  for (const [who, path, allowed] of table) t.equal(may(who, path), allowed, `${who} ${path}`);
  for (const path of ['services/acme/web.json/x', 'services/Acme/web.json', 'releases/a/b/0.json', 'releases/a/b/01.json', 'images/AB', '../policy.json', 'policy.json ', 'services//web.json'])
    t.equal(placeOf(path), undefined, `${path} is no place`);
  const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl';
  t.equal(readSigners(`# c\n\na@b ${key}\na namespaces="git",valid-before="20300101Z" ${key} comment\n`).keys.length, 2);
  for (const line of [`*@b ${key}`, `a,b ${key}`, `a cert-authority ${key}`, `a namespaces="file" ${key}`, `a ssh-dss AAAA`, key])
    t.equal(readSigners(line).wrong.length, 1, line.slice(0, 30));
  t.end();
});
