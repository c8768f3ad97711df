/** A host that fetches images, and servers that are cut, lie and stall, as they are told. */
import { X509Certificate } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fetching } from '../../../src/host/fetching.ts';
import { ImageStore } from '../../../src/image/store.ts';
import type { FetchOrder, FetchReport } from '../../../src/model/distribution.ts';
import { asShoalError } from '../../../src/model/errors.ts';
import { cert, key } from '../xenapi/certificate.ts';
import { digestOf, parseFake } from './rig.ts';

export const fingerprint = new X509Certificate(cert).fingerprint256;
export const bytes = Buffer.alloc(100_000, 'not random, yet long ');
bytes[0] = 0x7f;
for (let i = 1; i < bytes.length; i += 97) bytes[i] = i % 251;
export const digest = digestOf(bytes);
export const oldBytes = Buffer.concat([bytes.subarray(0, 50_000), Buffer.from('the old line'), bytes.subarray(50_100)]);
export const oldDigest = digestOf(oldBytes);

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A TLS server that does as told, and counts what it was asked. */
export async function serve(handler: Handler): Promise<{ url: string; asked: string[]; close(): Promise<void> }> {
  const asked: string[] = [];
  const server = createServer({ cert, key }, (request, response) => {
    asked.push(String(request.headers.range ?? 'all'));
    handler(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    close: () => new Promise((resolve) => (server.close(() => resolve()), server.closeAllConnections())),
  };
}

/** The file from the asked offset on; ends the connection after `cutAfter` bytes. */
export const giving =
  (file: Buffer, cutAfter = Infinity): Handler =>
  (request, response) => {
    const first = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const part = file.subarray(first);
    const headers = { 'content-length': part.length, ...(first > 0 ? { 'content-range': `bytes ${first}-${file.length - 1}/${file.length}` } : {}) };
    response.writeHead(first > 0 ? 206 : 200, headers);
    if (part.length <= cutAfter) response.end(part);
    else response.write(part.subarray(0, cutAfter), () => response.socket?.destroySoon());
  };

export interface FetchRig {
  folder: string;
  images: ImageStore;
  fetch: (sources: FetchOrder['sources'], more?: Partial<FetchOrder>) => Promise<FetchReport>;
  reopen(): Promise<void>;
}

export async function inStore(work: (rig: FetchRig) => Promise<void>, parent = tmpdir()): Promise<void> {
  const folder = await mkdtemp(join(parent, 'shoal-fetch-'));
  const rig = { folder } as FetchRig;
  rig.reopen = async () => {
    rig.images = await ImageStore.open(folder, { parse: parseFake });
    const fetching = new Fetching({ images: rig.images, stallMs: 300 });
    rig.fetch = (sources, more = {}) => fetching.fetch({ digest, sizeBytes: bytes.length, sources, timeoutMs: 10_000, ...more });
  };
  await rig.reopen();
  try {
    await work(rig);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export const codeOf = (work: Promise<unknown>): Promise<string> => work.then(() => 'done', (error: unknown) => asShoalError(error).code);
