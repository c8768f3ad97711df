/** `shoal image …` as it is typed, against a host and a source repository. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { command } from '../../../src/cli/main.ts';
import type { ImageManifest } from '../../../src/model/manifest.ts';
import { chunks, image, imageBytes } from '../host/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeServer, password } from '../xenapi/rig.ts';
import { withRepository } from './source-rig.ts';

test('which source runs in a VM, what may go, what changed: one command each', (t) =>
  withRepository(async (repository) => {
    // The "compiled" image is what the simulated host takes for a kernel.
    repository.write('unikernels/Makefile', '$(OUT)/%.elf: apps/%/*.c kernel/*.c\n\tmkdir -p $(OUT)\n\tprintf "\\177ELF" > $@\n\tcat $^ >> $@\n');
    repository.commit('the source');
    const rig = await makeServer();
    const folder = mkdtempSync(join(tmpdir(), 'shoal-image-verbs-'));
    writeFileSync(join(folder, 'ca.pem'), cert);
    writeFileSync(join(folder, 'password'), password);
    const env = { SHOAL_HOST: rig.url, SHOAL_CA: join(folder, 'ca.pem'), SHOAL_PASSWORD_FILE: join(folder, 'password') };
    const shoal = async (...argv: string[]): Promise<{ code: number; json: any; err: string }> => {
      const texts = { out: '', err: '' };
      const code = await command([...argv, '--json', '--source', repository.root], {
        stdout: { write: (piece: string) => void (texts.out += piece) },
        stderr: { write: (piece: string) => void (texts.err += piece) },
        env,
      });
      return { code, json: JSON.parse(texts.out.trimEnd().split('\n').at(-1) ?? ''), err: texts.err };
    };
    const [before] = (await shoal('image', 'build', 'tiny')).json as ImageManifest[];
    repository.commit('index');
    repository.write('unikernels/apps/tiny/tiny.c', 'two\n');
    const fix = repository.commit('a fix of a line');
    const [after] = (await shoal('image', 'build')).json as ImageManifest[];
    for (const one of [before!, after!]) await rig.agent.images.put(one.digest, chunks(Buffer.from(`\x7fELF${one === before ? 'one' : 'two'}\nkernel\n`, 'latin1')));
    await rig.plugin('launch', { spec: JSON.stringify({ name: 'web', image: after!.digest, memoryKib: 4096 }) });

    const shown = await shoal('image', 'show', '--vm', 'web');
    t.deepEqual([shown.code, shown.json.vm, shown.json.source.commit, shown.json.commit.subject], [0, 'web', fix, 'a fix of a line'], 'the source of a running VM');
    t.equal((await shoal('image', 'show')).code, 2, 'of what?');
    const diff = await shoal('image', 'diff', before!.digest, after!.digest);
    t.deepEqual(diff.json.commits.map(({ subject }: { subject: string }) => subject), ['a fix of a line']);
    t.equal((await shoal('image', 'build', 'nobody')).code, 2);
    t.equal((await shoal('image', 'verify', 'tiny')).json[0].same, true);
    const listed = (await shoal('image', 'list')).json as { digest: string; name?: string; commit?: string }[];
    t.deepEqual(listed.find(({ digest }) => digest === after!.digest)?.commit, fix, 'the list says the source too');

    t.equal(rig.agent.images.has(image), true);
    await rig.plugin('launch', { spec: JSON.stringify({ name: 'user', image, memoryKib: 4096 }) });
    const gone = (await shoal('image', 'gc')).json.removed.map(({ digest }: { digest: string }) => digest);
    t.deepEqual(gone, [before!.digest], 'what a VM runs stays, and what the index names');
    t.ok(imageBytes.length > 0 && rig.agent.images.has(image) && rig.agent.images.has(after!.digest));
    t.deepEqual((await shoal('image', 'gc', '--local', '--keep', before!.digest)).json.removed, []);
    t.deepEqual((await shoal('image', 'gc', '--local')).json.removed.map(({ digest }: { digest: string }) => digest), [before!.digest]);
    await rig.close();
    rmSync(folder, { recursive: true });
  }));
