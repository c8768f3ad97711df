/** Images on their way from a controller to hosts: real agents over TLS, and the controller's own API as the place they fetch from. */
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import type { ControllerOptions } from '../../../src/control/controller.ts';
import { XenApiLink } from '../../../src/control/links/xenapi.ts';
import { DeltaStore } from '../../../src/image/deltas.ts';
import { ImageStore } from '../../../src/image/store.ts';
import type { Digest } from '../../../src/model/ids.ts';
import { chunks, codeOf, digestOf, parseFake, until } from '../host/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeServer, password, type ServerRig } from '../xenapi/rig.ts';
import { makeApi, type ApiRig } from './api-rig.ts';

const fingerprint = new X509Certificate(cert).fingerprint256;

/** Images that differ in a line, as one program's do. */
function imageOf(line: string): Buffer {
  const made = Buffer.alloc(200_000);
  for (let i = 0; i < made.length; i++) made[i] = (Math.imul(i, 2654435761) >>> 13) & 0xff;
  made.write(`\x7fELF ${line}`, 0, 'latin1');
  return made;
}
const v1 = imageOf('one');
const v2 = imageOf('two');
const [d1, d2] = [digestOf(v1), digestOf(v2)];

interface Site {
  api: ApiRig;
  agents: ServerRig[];
  images: ImageStore;
  deltas: DeltaStore;
  folder: string;
  close(): Promise<void>;
}

async function makeSite(count: number, reachable = true): Promise<Site> {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-site-'));
  const images = await ImageStore.open(join(folder, 'images'), { parse: parseFake });
  const bytes = async (digest: string): Promise<Uint8Array | undefined> => (images.has(digest as Digest) ? images.bytes(digest as Digest) : undefined);
  const deltas = await DeltaStore.open(join(folder, 'deltas'), { bytes });
  const agents = await Promise.all(Array.from({ length: count }, () => makeServer()));
  const names = agents.map((_, i) => `h${i}`);
  const origin = { url: '', fingerprint };
  const options: Partial<ControllerOptions> = {
    images: {
      list: () => images.list(),
      put: async (digest, parts) => void (await images.put(digest as Digest, parts)),
      bytes,
      file: (digest) => images.file(digest as Digest),
    },
    deltas,
    origin: reachable ? origin : undefined,
    link: (record) => new XenApiLink({ url: agents[names.indexOf(record.name)]!.url, password, fingerprint, retryMs: 20, pollS: 2 }),
  };
  const api = await makeApi([], options);
  origin.url = `https://127.0.0.1:${api.controller.server.port}`;
  for (const [i, name] of names.entries())
    await api.call('POST', '/v1/hosts', { name, url: agents[i]!.url, credential: name, fingerprint: fingerprint.replaceAll(':', '').toLowerCase() });
  await until(() => [...api.controller.fleet.units.values()].every((unit) => unit.up), 'all hosts up');
  return {
    api,
    agents,
    images,
    deltas,
    folder,
    close: async () => {
      await api.close();
      for (const agent of agents) await agent.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

const unitOf = ({ api }: Site, name: string) => api.controller.fleet.units.get(name)!;

test('a service whose image only the controller has: hosts have it before the first launch', async (t) => {
  const site = await makeSite(2);
  await site.images.put(d1, chunks(v1));
  const { distribution } = site.api.controller;
  const answer = await site.api.call('PUT', '/v1/services/acme/web', { image: d1, count: 4, memoryKib: 4096 });
  t.ok(answer.status < 300, answer.text);
  await until(() => site.agents.every((agent) => agent.agent.fleet.size === 2), 'two on each');
  t.ok(site.agents.every(({ agent }) => agent.images.has(d1)), 'both have it');
  t.equal(distribution!.totals.whole, 2, 'each fetched it once');
  t.notOk(site.api.log.some((line) => line.includes('IMAGE_UNKNOWN')), 'no launch was refused');

  // A host that lost an image gets it again.
  await site.api.call('PUT', '/v1/services/acme/web', { image: d1, count: 0, memoryKib: 4096 });
  await until(() => site.agents.every((agent) => agent.agent.fleet.size === 0), 'none');
  await site.agents[0]!.agent.removeImage(d1);
  await site.api.call('PUT', '/v1/services/acme/web', { image: d1, count: 4, memoryKib: 4096 });
  await until(() => site.agents[0]!.agent.fleet.size > 0 && site.agents[0]!.agent.images.has(d1), 'it is back');
  await site.close();
});

test('a fix goes as a delta that was made once', async (t) => {
  const site = await makeSite(3);
  for (const { agent } of site.agents) await agent.images.put(d1, chunks(v1));
  await site.images.put(d1, chunks(v1));
  await site.images.put(d2, chunks(v2));
  const { distribution } = site.api.controller;
  const reports = await Promise.all(['h0', 'h1', 'h2', 'h2'].map((name) => distribution!.ensure(unitOf(site, name), d2)));
  t.deepEqual(reports.map(({ how }) => how), ['delta', 'delta', 'delta', 'delta']);
  t.ok(reports.every(({ bytes }) => bytes > 0 && bytes < v2.length * 0.02), `${reports[0]!.bytes} bytes for ${v2.length}`);
  t.equal(site.deltas.made, 1, 'made once');
  t.ok((await site.agents[2]!.agent.images.bytes(d2)).length === v2.length);
  t.equal((await distribution!.ensure(unitOf(site, 'h0'), d2)).how, 'had');
  // What a host had is believed; one that lost it all the same takes the whole image.
  for (const digest of [d1, d2]) await site.agents[0]!.agent.removeImage(digest);
  distribution!.forget(unitOf(site, 'h0'), d2);
  t.equal((await distribution!.ensure(unitOf(site, 'h0'), d2)).how, 'whole');
  await site.close();
});

test('a damaged delta is not used twice', async (t) => {
  const site = await makeSite(2);
  for (const { agent } of site.agents) await agent.images.put(d1, chunks(v1));
  await site.images.put(d1, chunks(v1));
  await site.images.put(d2, chunks(v2));
  const { path } = (await site.deltas.need(d1, d2))!;
  const bad = await readFile(path);
  bad[bad.length - 4] = bad[bad.length - 4]! ^ 1;
  await writeFile(path, bad);
  const { distribution } = site.api.controller;
  t.equal((await distribution!.ensure(unitOf(site, 'h0'), d2)).how, 'whole', 'the host takes all of it');
  t.equal((await distribution!.ensure(unitOf(site, 'h1'), d2)).how, 'delta', 'the next gets one that was made anew');
  t.equal(site.deltas.made, 2);
  await site.close();
});

test('a neighbour gives what the controller cannot', async (t) => {
  const site = await makeSite(3, false);
  await site.images.put(d1, chunks(v1));
  const { distribution } = site.api.controller;
  const first = await distribution!.ensure(unitOf(site, 'h0'), d1);
  t.equal(first.how, 'pushed', 'hosts cannot reach the controller, and nobody has it: it is pushed');
  const second = await distribution!.ensure(unitOf(site, 'h1'), d1);
  t.deepEqual([second.how, second.bytes], ['whole', v1.length], 'the next fetches it from the first');
  await site.agents[0]!.agent.removeImage(d1);
  await site.agents[1]!.agent.removeImage(d1);
  t.equal((await distribution!.ensure(unitOf(site, 'h2'), d1)).how, 'pushed', 'neighbours that lost it are no end');
  t.equal(await codeOf(distribution!.ensure(unitOf(site, 'h2'), digestOf(Buffer.from('nobody')))), 'IMAGE_UNKNOWN');
  await site.close();
});

test('files of the controller need no token but the right in their address', async (t) => {
  const site = await makeSite(0);
  await site.images.put(d1, chunks(v1));
  const path = `/blobs/sha256/${d1.slice(7)}`;
  t.equal((await site.api.call('GET', path)).status, 403, 'a token is no right');
  t.equal((await site.api.call('GET', `${path}?until=99999999999&cap=AAAA`, undefined, null)).status, 403);
  t.equal((await site.api.call('GET', '/blobs/sha256/zz', undefined, null)).status, 400);
  await site.close();
});

test('deltas that are kept: after a restart, below their bound, and never half of one', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-deltas-'));
  const all = new Map([v1, v2, imageOf('three'), imageOf('four')].map((image) => [digestOf(image), image]));
  const bytes = async (digest: Digest): Promise<Uint8Array | undefined> => all.get(digest);
  const digests = [...all.keys()];
  const store = await DeltaStore.open(folder, { bytes });
  const one = (await store.need(d1, d2))!;
  t.equal((await store.need(d1, d2))!.path, one.path);
  t.equal(store.made, 1);
  await writeFile(`${one.path}.part`, 'half');
  const again = await DeltaStore.open(folder, { bytes, maxBytes: one.bytes * 2.5 });
  t.deepEqual([again.get(d1, d2)?.bytes, again.made], [one.bytes, 0], 'the folder is the list');
  t.equal(await readFile(`${one.path}.part`).catch(() => 'gone'), 'gone');
  for (const digest of digests.slice(2)) await again.need(d1, digest);
  t.equal(again.get(d1, d2), undefined, 'the one not asked for longest went');
  t.ok(again.get(d1, digests[3]!) !== undefined);
  t.equal(await again.need(d1, digestOf(Buffer.from('unknown'))), undefined);
  await rm(folder, { recursive: true, force: true });
});
