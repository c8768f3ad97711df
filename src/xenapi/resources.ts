/**
 * What is not a call but bytes: images are put and deleted, consoles are read. The session comes as the query parameter
 * session_id, as for all of XenAPI's HTTP handlers; an upload may name a task of its caller (task_id), which then says how it
 * ended.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { uuidOfRef } from '../host/refs.ts';
import { serveFile } from '../image/serving.ts';
import { asShoalError, ShoalError, type ErrorCode } from '../model/errors.ts';
import { isDigest, type Digest } from '../model/ids.ts';
import type { Api } from './api.ts';
import { answerUnread } from './body.ts';
import { vmOfPartRef } from './records.ts';
import { refOf } from '../host/refs.ts';

const statuses: Partial<Record<ErrorCode, number>> = {
  SESSION_INVALID: 401,
  IMAGE_UNKNOWN: 404,
  HANDLE_INVALID: 404,
  REQUEST_MALFORMED: 400,
  REQUEST_TOO_LARGE: 413,
  OPERATION_NOT_ALLOWED: 409,
  VM_BAD_POWER_STATE: 409,
  INTERNAL_ERROR: 500,
  HOST_LIMIT: 503,
};

/** Answers when the path is one of a resource; false when it is not. */
export function serveResource(
  api: Api,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  query: URLSearchParams,
): boolean {
  if (serveFile(api.shelf, request, response, path, query)) return true;
  const image = /^\/image\/([^/]+)$/.exec(path)?.[1];
  if (image === undefined && path !== '/console' && path !== '/saved-vm') return false;
  const work = async (): Promise<void> => {
    api.sessions.need(query.get('session_id'));
    if (path === '/saved-vm') return savedVm(api, request, response, query);
    if (image === undefined) return readConsole(api, request, response, query);
    const digest = decodeURIComponent(image);
    if (!isDigest(digest)) throw new ShoalError('REQUEST_MALFORMED', 'The path is /image/sha256:<64 hex digits>.');
    if (request.method === 'PUT') return putImage(api, request, response, digest, query.get('task_id') ?? undefined);
    if (request.method === 'DELETE') return removeImage(api, response, digest);
    throw new ShoalError('REQUEST_MALFORMED', 'An image can be PUT and DELETEd.');
  };
  work().catch((thrown: unknown) => {
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const { code, message, hint, data } = asShoalError(thrown);
    answerUnread(request, response, statuses[code] ?? 422, 'application/json', JSON.stringify({ code, message, hint, data }));
  });
  return true;
}

function answer(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

async function putImage(
  api: Api,
  request: IncomingMessage,
  response: ServerResponse,
  digest: Digest,
  taskRef: string | undefined,
): Promise<void> {
  const task = taskRef === undefined ? undefined : api.tasks.get(taskRef);
  const { images } = api.agent;
  try {
    if (Number(request.headers['content-length'] ?? 0) > images.maxBytes) {
      throw new ShoalError('REQUEST_TOO_LARGE', `An image may have at most ${images.maxBytes} bytes.`, {
        data: { maxBytes: images.maxBytes },
      });
    }
    // Left undestroyed when the store refuses, so that the answer still finds its way out.
    const image = await images.put(digest, request.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>);
    if (task !== undefined) api.tasks.end(task, undefined);
    answer(response, image);
  } catch (error) {
    if (task !== undefined) api.tasks.fail(task, error);
    throw error;
  }
}

async function removeImage(api: Api, response: ServerResponse, digest: Digest): Promise<void> {
  const vms = api.agent.fleet.imageInUse(digest);
  if (vms > 0) {
    throw new ShoalError('OPERATION_NOT_ALLOWED', `The image is used by ${vms} VMs.`, {
      hint: 'Destroy those VMs, or give them another image, first.',
      data: { image: digest, vms },
    });
  }
  await api.agent.removeImage(digest);
  answer(response, { removed: digest });
}

/**
 * GET /saved-vm?uuid=… gives the VM as bytes (docs/formats/saved-vm.md), PUT /saved-vm makes a VM of them: with name=… under another name, with
 * copy=true as another VM, with paused=true without letting it run. Whoever gets fewer bytes than the length says, or PUTs fewer, has no VM.
 */
async function savedVm(api: Api, request: IncomingMessage, response: ServerResponse, query: URLSearchParams): Promise<void> {
  const { suspender, fleet } = api.agent;
  const gone = new AbortController();
  response.once('close', () => response.writableFinished || gone.abort());
  if (request.method === 'GET') {
    const { bytes, chunks } = await suspender.save(fleet.need(query.get('uuid') ?? ''), gone.signal);
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes });
    return pipeline(chunks, response);
  }
  if (request.method !== 'PUT') throw new ShoalError('REQUEST_MALFORMED', 'A saved VM can be got (GET) and PUT.');
  const [name, ipv4] = [query.get('name') ?? undefined, query.get('ip') ?? undefined];
  const choices = { name, ipv4, copy: query.get('copy') === 'true', paused: query.get('paused') === 'true' };
  const { vm, launched } = await suspender.restore(request.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>, choices, gone.signal);
  answer(response, { uuid: vm.uuid, name: vm.name, domid: launched.domid, addresses: vm.vifs.flatMap((vif) => vif.ipv4), ms: launched.ms, steps: launched.steps });
}

/** GET /console?session_id=…&uuid=<of the console>&cursor=N */
async function readConsole(api: Api, request: IncomingMessage, response: ServerResponse, query: URLSearchParams): Promise<void> {
  if (request.method !== 'GET') throw new ShoalError('REQUEST_MALFORMED', 'A console can be read (GET) only.');
  const uuid = query.get('uuid') ?? uuidOfRef(query.get('ref') ?? '') ?? '';
  const vm = vmOfPartRef(api, refOf(uuid), 'console');
  if (vm === undefined)
    throw new ShoalError('HANDLE_INVALID', 'There is no such console.', { params: ['console', uuid.slice(0, 64)] });
  const cursor = Number(query.get('cursor') ?? '0');
  if (!Number.isSafeInteger(cursor) || cursor < 0)
    throw new ShoalError('REQUEST_MALFORMED', 'The cursor is a number given by an answer before.');
  const console = await api.agent.readConsole(vm, cursor);
  response.writeHead(200, { 'content-type': 'text/plain', 'x-console-cursor': String(console.cursor) }).end(console.text);
}
