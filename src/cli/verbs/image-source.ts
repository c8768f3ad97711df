/** `shoal image build|show|verify|diff|gc`: images and the source they are of. */
import { makeDelta } from '../../image/make-delta.ts';
import type { Digest } from '../../model/ids.ts';
import { ShoalError } from '../../model/errors.ts';
import type { Verb } from '../arguments.ts';
import { count, facts, shortDigest, table } from '../format.ts';
import { applications, buildImage, checkoutAt, chosen, collectLocal, commitLine, knownManifests, manifestOf, sourceLog, sourceOption, verifyImage } from '../image-source.ts';
import { changedSections, type SectionChange } from '../image-sections.ts';
import { listImages } from '../images.ts';
import { withHost } from '../target.ts';
import { findVm } from '../vms.ts';

export const imageBuild: Verb = {
  name: 'image build',
  summary: 'build images from source and note which source that is',
  operands: '[APP...]',
  operandCount: [0, 32],
  options: { source: sourceOption },
  notes: 'Writes images/APP.json, to be committed; the same commit gives the same bytes anywhere (shoal image verify).',
  async run(terminal, words) {
    const checkout = checkoutAt(words.text('source'));
    const all = applications(checkout);
    const unknown = words.operands.find((app) => !all.includes(app));
    if (unknown !== undefined) throw new ShoalError('USAGE', `There is no application "${unknown}".`, { hint: `There are: ${all.join(', ')}.` });
    const built = [];
    for (const app of words.operands.length > 0 ? words.operands : all) {
      terminal.status(`building ${app}`);
      const manifest = await buildImage(checkout, app);
      built.push(manifest);
      terminal.status('');
      terminal.print(`${app}  ${manifest.digest}  ${count(manifest.sizeBytes)} bytes  source ${manifest.source.commit.slice(0, 12)}${manifest.source.dirty ? ' (changed since)' : ''}`);
    }
    terminal.printJson(built);
    if (built.some(({ source }) => source.dirty)) terminal.note('The source differs from the commit: commit it, then build again.');
  },
};

export const imageShow: Verb = {
  name: 'image show',
  summary: 'which source an image, or a running VM, is of',
  operands: '[IMAGE]',
  operandCount: [0, 1],
  options: { vm: { value: 'NAME', help: 'the image that this VM of the host runs' }, source: sourceOption },
  speaksToHost: true,
  notes: 'IMAGE: an application, APP@REVISION, a digest or its beginning, a file. The manifest is found in the index, its history, or what was built here.',
  async run(terminal, words) {
    const checkout = checkoutAt(words.text('source'));
    const vm = words.text('vm');
    const [word] = words.operands;
    if ((vm === undefined) === (word === undefined)) throw new ShoalError('USAGE', 'Give an image, or --vm NAME.');
    let digest: Digest;
    if (vm === undefined) digest = (await chosen(checkout, word!)).digest;
    else
      digest = await withHost(terminal, words, async (client) => {
        const { ref } = await findVm(client, vm);
        const record = await client.call<Record<string, unknown>>('VM.get_record', [ref]);
        return String(record['PV_kernel']) as Digest;
      });
    const manifest = await manifestOf(checkout, digest);
    const commit = await commitLine(checkout, manifest.source.commit);
    terminal.printJson({ ...(vm === undefined ? {} : { vm }), ...manifest, commit: commit ?? null });
    terminal.print(
      facts(
        [
          ...(vm === undefined ? [] : [['vm', vm] as const]),
          ['name', `${terminal.style.bold(manifest.name)} ${manifest.version}`],
          ['image', manifest.digest],
          ['bytes', count(manifest.sizeBytes)],
          ['commit', `${manifest.source.commit}${manifest.source.dirty ? ' and changes that were not committed' : ''}`],
          ['', commit === undefined ? 'not in this repository' : `${commit.subject} (${commit.author}, ${commit.date})`],
          ['source', manifest.source.digest],
          ['compiler', manifest.compiler],
          ['recipe', manifest.recipe],
        ],
        terminal.style,
      ),
    );
  },
};

export const imageVerify: Verb = {
  name: 'image verify',
  summary: 'build the source of an image anew and compare the bytes',
  operands: '[IMAGE...]',
  operandCount: [0, 32],
  options: { source: sourceOption },
  notes: 'Without IMAGE all of the index. Exit code 1 when one differs.',
  async run(terminal, words) {
    const checkout = checkoutAt(words.text('source'));
    const wanted = words.operands.length > 0 ? words.operands : applications(checkout);
    const results = [];
    for (const word of wanted) {
      const { digest } = await chosen(checkout, word);
      const manifest = await manifestOf(checkout, digest);
      terminal.status(`building ${manifest.name} of ${manifest.source.commit.slice(0, 12)}`);
      const verified = await verifyImage(checkout, manifest);
      terminal.status('');
      results.push({ name: manifest.name, image: manifest.digest, commit: manifest.source.commit, same: verified.same, built: verified.digest, reasons: verified.reasons });
      const why = verified.reasons.length > 0 ? `: ${verified.reasons.join('; ')}` : '';
      terminal.print(verified.same ? `${manifest.name}  ${manifest.digest}  the same bytes` : `${manifest.name}  ${manifest.digest}  DIFFERS from ${verified.digest}${why}`);
    }
    terminal.printJson(results);
    return results.every(({ same }) => same) ? 0 : 1;
  },
};

export const imageDiff: Verb = {
  name: 'image diff',
  summary: 'what changed from one image to another: source, size, sections, bytes to send',
  operands: 'A B',
  operandCount: [2, 2],
  options: { source: sourceOption },
  notes: 'A, B: as for `shoal image show`. Sections and the delta are told when both were built here, or are files.',
  async run(terminal, words) {
    const checkout = checkoutAt(words.text('source'));
    const [a, b] = await Promise.all([chosen(checkout, words.operands[0]!), chosen(checkout, words.operands[1]!)]);
    const log = a.manifest === undefined || b.manifest === undefined ? undefined : await sourceLog(checkout, a.manifest, b.manifest).catch(() => undefined);
    const both = a.bytes !== undefined && b.bytes !== undefined ? { a: a.bytes, b: b.bytes } : undefined;
    const sections = both === undefined ? undefined : sectionsIfElf(both.a, both.b);
    const same = a.digest === b.digest;
    const delta = both === undefined || same ? undefined : await makeDelta(both.a, both.b);
    const size = (one: typeof a): number | undefined => one.bytes?.length ?? one.manifest?.sizeBytes;
    const [before, after] = [size(a), size(b)];
    terminal.printJson({
      from: a.digest,
      to: b.digest,
      same,
      bytes: { from: before ?? null, to: after ?? null, delta: delta?.length ?? null },
      commits: log ?? null,
      sections: sections ?? null,
    });
    if (terminal.json) return;
    if (same) return terminal.print('the same bytes');
    const told = (n: number | undefined): string => (n === undefined ? 'unknown' : count(n));
    terminal.print(`${shortDigest(a.digest)} → ${shortDigest(b.digest)}: ${told(before)} → ${told(after)} bytes`);
    if (delta !== undefined && after !== undefined) terminal.print(`delta: ${count(delta.length)} bytes, ${((100 * delta.length) / after).toFixed(2)} % of the image`);
    else terminal.print(both === undefined ? 'delta: not known; one of them was not built here' : 'delta: of no use; the whole image is sent');
    if (sections !== undefined && sections.length > 0) {
      const right = (title: string) => ({ title, align: 'right' as const });
      terminal.print(table([{ title: 'SECTION' }, right('BEFORE'), right('AFTER'), right('DIFFERING')], sections.map((each) => [each.name, count(each.before), count(each.after), count(each.differing)]), terminal.style));
    }
    if (log === undefined) terminal.print('source: not known for both');
    else if (log.length === 0) terminal.print('source: no commit between them');
    for (const { commit, subject } of log ?? []) terminal.print(`${commit.slice(0, 12)} ${subject}`);
  },
};

/** Undefined when one is no ELF file. */
function sectionsIfElf(before: Uint8Array, after: Uint8Array): SectionChange[] | undefined {
  try {
    return changedSections(before, after);
  } catch (error) {
    if (error instanceof ShoalError && error.code === 'IMAGE_NOT_ELF') return undefined;
    throw error;
  }
}

export const imageGc: Verb = {
  name: 'image gc',
  summary: 'remove images that no VM runs and the index does not name',
  options: {
    local: { help: 'those that were built here, instead of those of the host' },
    keep: { value: 'DIGEST,…', help: 'digests to keep all the same' },
    source: sourceOption,
  },
  speaksToHost: true,
  notes: 'A controller brings an image again to a host that needs it later.',
  async run(terminal, words) {
    const checkout = checkoutAt(words.text('source'));
    const keep = new Set((words.text('keep') ?? '').split(',').filter(Boolean));
    let removed: { digest: string; bytes: number }[];
    if (words.flag('local')) removed = collectLocal(checkout, keep);
    else {
      for (const { digest } of knownManifests({ ...checkout, store: '' })) keep.add(digest);
      removed = await withHost(terminal, words, async (client) => {
        const gone = [];
        for (const image of await listImages(client)) {
          if (image.vms > 0 || keep.has(image.digest)) continue;
          // A VM may have been made of it meanwhile: the host refuses then.
          const done = await client.resource('DELETE', `/image/${image.digest}`).then(
            () => true,
            (error: unknown) => {
              if (error instanceof ShoalError && (error.code === 'OPERATION_NOT_ALLOWED' || error.code === 'IMAGE_UNKNOWN')) return false;
              throw error;
            },
          );
          if (done) gone.push({ digest: image.digest, bytes: image.fileBytes });
        }
        return gone;
      });
    }
    terminal.printJson({ removed });
    for (const { digest, bytes } of removed) terminal.print(`removed ${digest}  ${count(bytes)} bytes`);
    if (removed.length === 0) terminal.note('nothing to remove');
  },
};
