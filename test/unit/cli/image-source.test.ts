/** Images and their source, in a repository whose Makefile "compiles". */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { changedSections, sectionsOf } from '../../../src/cli/image-sections.ts';
import { buildImage, chosen, collectLocal, commitLine, knownManifests, manifestOf, sourceLog, sourcePaths, verifyImage } from '../../../src/cli/image-source.ts';
import { repositoryRoot } from '../../../src/lab/paths.ts';
import { codeOf, digestOf } from '../host/rig.ts';
import { make as kernel } from '../image/made.ts';
import { withRepository } from './source-rig.ts';

test('a manifest names the commit of the source, not of whatever came after it', (t) =>
  withRepository(async (repository) => {
    const first = repository.commit('the source');
    repository.write('README', 'a word\n');
    repository.commit('something else');
    const made = await buildImage(repository, 'tiny');
    t.deepEqual([made.name, made.version, made.source.commit, made.source.dirty], ['tiny', '1.2.3', first, false]);
    t.equal(made.digest, digestOf(Buffer.from('one\nkernel\n')));
    t.deepEqual(JSON.parse(readFileSync(join(repository.root, 'images/tiny.json'), 'utf8')), made, 'the index has it');
    t.ok(existsSync(join(repository.store, `${made.digest.slice(7)}.elf`)), 'and the image is kept');
    repository.write('unikernels/kernel/a.c', 'changed\n');
    const dirty = await buildImage(repository, 'tiny');
    t.deepEqual([dirty.source.commit, dirty.source.dirty], [first, true], 'files that are not committed are told');
    t.notEqual(dirty.source.digest, made.source.digest);
  }));

test('the source of an application is also what its line in the Makefile takes of another one', (t) => {
  const lines = [...readFileSync(join(repositoryRoot, 'unikernels/Makefile'), 'utf8').matchAll(/^app_with_(\w+) :=(.*)$/gm)];
  t.ok(lines.length > 0);
  for (const [, app, files] of lines)
    for (const [, other] of files!.matchAll(/apps\/(\w+)/g)) t.ok(sourcePaths(app!).includes(`apps/${other!}`), `${app!} takes files of ${other!}`);
  t.end();
});

test('verify builds the commit anew and compares bytes', (t) =>
  withRepository(async (repository) => {
    repository.commit('the source');
    const made = await buildImage(repository, 'tiny');
    repository.write('unikernels/apps/tiny/tiny.c', 'later\n');
    repository.commit('later');
    t.equal((await verifyImage(repository, made)).same, true, 'whatever the checkout has now');
    const lie = { ...made, digest: digestOf(Buffer.from('a back door')) };
    const caught = await verifyImage(repository, lie);
    t.deepEqual([caught.same, caught.digest], [false, made.digest], 'an image that is not of its source');
    const dirty = await verifyImage(repository, { ...lie, source: { ...made.source, dirty: true } });
    t.match(dirty.reasons.join(), /differed from the commit/);
    t.equal(await codeOf(verifyImage(repository, { ...made, source: { ...made.source, commit: 'a'.repeat(40) } })), 'SOURCE_MISSING');
  }));

test('any image that ever was in the index leads to its source', (t) =>
  withRepository(async (repository) => {
    repository.commit('the source');
    const old = await buildImage(repository, 'tiny');
    const before = repository.commit('index');
    repository.write('unikernels/apps/tiny/tiny.c', 'two\n');
    repository.commit('a fix of a line');
    const now = await buildImage(repository, 'tiny');
    repository.commit('index again');
    rmSync(repository.store, { recursive: true });
    t.deepEqual(await manifestOf(repository, old.digest), old, 'from the history');
    t.equal((await commitLine(repository, now.source.commit))?.subject, 'a fix of a line');
    t.deepEqual((await sourceLog(repository, old, now)).map(({ subject }) => subject), ['a fix of a line'], 'only what touched the source');
    t.equal((await chosen(repository, 'tiny')).digest, now.digest);
    t.equal((await chosen(repository, `tiny@${before}`)).digest, old.digest, 'by revision');
    t.equal((await chosen(repository, now.digest.slice(7, 17))).digest, now.digest, 'by its beginning');
    const file = join(repository.root, 'some.elf');
    writeFileSync(file, 'one\nkernel\n');
    t.deepEqual((await chosen(repository, file)).manifest, old, 'by file');
    t.equal(await codeOf(chosen(repository, 'nobody')), 'IMAGE_UNKNOWN');
    t.equal(await codeOf(manifestOf(repository, digestOf(Buffer.from('of nobody')))), 'IMAGE_UNKNOWN');
  }));

test('what the index does not name is collected, the image and what tells of it', (t) =>
  withRepository(async (repository) => {
    repository.commit('the source');
    const old = await buildImage(repository, 'tiny');
    repository.write('unikernels/apps/tiny/tiny.c', 'two\n');
    const now = await buildImage(repository, 'tiny');
    writeFileSync(join(repository.store, 'x.part'), 'half');
    t.equal(knownManifests(repository).length, 2);
    t.deepEqual(collectLocal(repository, new Set([old.digest])), [], 'kept when asked to');
    t.deepEqual(collectLocal(repository, new Set()), [{ digest: old.digest, bytes: old.sizeBytes }]);
    t.deepEqual(readdirSync(repository.store).sort(), ['elf', 'json'].map((end) => `${now.digest.slice(7)}.${end}`));
  }));

test('sections that differ', (t) => {
  const [a, b] = [kernel({ inSection: true }), kernel({ inSection: true })];
  t.deepEqual(changedSections(a, b), []);
  const program = readFileSync('/bin/true');
  const other = Buffer.from(program);
  const at = program.indexOf(sectionsOf(program).get('.rodata')!);
  other[at + 3] = other[at + 3]! ^ 1;
  t.deepEqual(changedSections(program, other).map(({ name, differing }) => [name, differing]), [['.rodata', 1]]);
  t.ok(sectionsOf(a) instanceof Map);
  t.throws(() => sectionsOf(Buffer.from('not ELF')), /not an ELF/);
  const cut = Buffer.from(a.subarray(0, 70));
  cut.writeUInt16LE(900, 60);
  t.throws(() => sectionsOf(cut), /outside/);
  t.end();
});
