/**
 * The xenstore protocol as bytes: pure functions, no sockets. test/vectors/xenstore.json has vectors that the C side reads too.
 *
 * Either side sends messages, each a header of four 32-bit little-endian numbers and a body:
 *   type | request id | transaction id | length of the body (at most 4,096)
 * A client chooses request ids; the answer carries the same id, and has the type of the request, or ERROR with the name of an errno as
 * its body ("ENOENT\0"). A client may send many requests before it reads the first answer. Transaction id 0 means none; TRANSACTION_START
 * answers with a number in decimal, TRANSACTION_END takes "T\0" (commit) or "F\0" (drop) and answers EAGAIN when another writer came between:
 * then everything is to be done again in a new transaction.
 * Bodies: texts end with a NUL, except that a value written or read is whatever bytes remain. WRITE: path NUL value. WATCH: path NUL token NUL.
 * SET_PERMS: path NUL and then permissions, each a letter (n none, r read, w write, b both), a domid, NUL: the first names the owner and what
 * everybody else may do, the following ones name single domains. A new node inherits the permissions of its parent.
 * WATCH_EVENT comes unasked, with request id 0: path NUL token NUL. INTRODUCE: domid NUL, machine frame NUL, event channel NUL, all decimal.
 * DIRECTORY answers E2BIG when the names of the children do not fit in one message; then DIRECTORY_PART: path NUL offset NUL, answered with a
 * generation count NUL and the names from that byte offset on, each with its NUL; an empty name marks the end.
 * A path starts with "/" or is relative to the domain's own folder; a watch may name "@releaseDomain" or "@introduceDomain" instead.
 */

export const messageType = {
  control: 0,
  directory: 1,
  read: 2,
  getPerms: 3,
  watch: 4,
  unwatch: 5,
  transactionStart: 6,
  transactionEnd: 7,
  introduce: 8,
  release: 9,
  getDomainPath: 10,
  write: 11,
  mkdir: 12,
  rm: 13,
  setPerms: 14,
  watchEvent: 15,
  error: 16,
  directoryPart: 22,
} as const;

export const headerBytes = 16;
/** Limit of a body, by the protocol. */
export const mostBodyBytes = 4096;
/** Limits of a path with and without leading "/", by the protocol. */
export const mostPathBytes = 3072;

export interface Message {
  type: number;
  requestId: number;
  transactionId: number;
  body: Buffer;
}

/** What a request says, before it has ids. */
export interface Request {
  type: number;
  body: Buffer;
}

/** Thrown by the constructors of requests below: the request would not fit the protocol. */
export class WireError extends Error {}

const nodePath = /^(\/|\/?[A-Za-z0-9\-/_@]*[A-Za-z0-9\-_@])$/;

function checkedPath(path: string): string {
  if (path.length === 0 || path.length > mostPathBytes || !nodePath.test(path) || path.includes('//')) {
    throw new WireError(`not a xenstore path: ${JSON.stringify(path.slice(0, 80))}`);
  }
  return path;
}

function request(type: number, body: Buffer): Request {
  if (body.length > mostBodyBytes) throw new WireError(`a xenstore request of ${body.length} bytes; ${mostBodyBytes} is the limit`);
  return { type, body };
}

const withNuls = (...texts: string[]): Buffer => Buffer.from(texts.map((text) => `${text}\0`).join(''));

export const readRequest = (path: string): Request => request(messageType.read, withNuls(checkedPath(path)));
export const directoryRequest = (path: string): Request => request(messageType.directory, withNuls(checkedPath(path)));
export const directoryPartRequest = (path: string, offset: number): Request =>
  request(messageType.directoryPart, withNuls(checkedPath(path), String(offset)));
export const getPermsRequest = (path: string): Request => request(messageType.getPerms, withNuls(checkedPath(path)));
export const writeRequest = (path: string, value: string): Request =>
  request(messageType.write, Buffer.from(`${checkedPath(path)}\0${value}`));
export const mkdirRequest = (path: string): Request => request(messageType.mkdir, withNuls(checkedPath(path)));
export const rmRequest = (path: string): Request => request(messageType.rm, withNuls(checkedPath(path)));
export const watchRequest = (path: string, token: string): Request => request(messageType.watch, withNuls(checkedPath(path), token));
export const unwatchRequest = (path: string, token: string): Request => request(messageType.unwatch, withNuls(checkedPath(path), token));
export const transactionStartRequest = (): Request => request(messageType.transactionStart, withNuls(''));
export const transactionEndRequest = (commit: boolean): Request => request(messageType.transactionEnd, withNuls(commit ? 'T' : 'F'));
export const introduceRequest = (domid: number, mfn: number, port: number): Request =>
  request(messageType.introduce, withNuls(String(domid), String(mfn), String(port)));
export const releaseRequest = (domid: number): Request => request(messageType.release, withNuls(String(domid)));

export type Access = 'n' | 'r' | 'w' | 'b';
export interface Permissions {
  owner: number;
  /** What every domain not named may do (the owner and dom0 may do everything). */
  others: Access;
  named?: { domid: number; access: Access }[];
}

export function setPermsRequest(path: string, permissions: Permissions): Request {
  const list = [`${permissions.others}${permissions.owner}`, ...(permissions.named ?? []).map((p) => `${p.access}${p.domid}`)];
  return request(messageType.setPerms, withNuls(checkedPath(path), ...list));
}

export function encode(message: Message): Buffer {
  const bytes = Buffer.allocUnsafe(headerBytes + message.body.length);
  bytes.writeUInt32LE(message.type, 0);
  bytes.writeUInt32LE(message.requestId, 4);
  bytes.writeUInt32LE(message.transactionId, 8);
  bytes.writeUInt32LE(message.body.length, 12);
  message.body.copy(bytes, headerBytes);
  return bytes;
}

/** Texts of a body in which each ends with a NUL. */
export function texts(body: Buffer): string[] {
  const parts = body.toString('utf8').split('\0');
  if (parts.at(-1) === '') parts.pop();
  return parts;
}

export interface DirectoryPart {
  /** Changes when the folder changed between two parts. */
  generation: string;
  names: string[];
  /** Bytes of the list in this part. */
  bytes: number;
  last: boolean;
}

/** The answer to directoryPartRequest. */
export function directoryPart(body: Buffer): DirectoryPart {
  const end = body.indexOf(0);
  if (end < 0) throw new WireError('a part of a folder without a generation count');
  const list = body.subarray(end + 1);
  const last = list.length === 0 || (list.at(-1) === 0 && (list.length === 1 || list.at(-2) === 0));
  return { generation: body.toString('latin1', 0, end), names: texts(list).filter((name) => name !== ''), bytes: list.length, last };
}

/** Collects a stream's chunks and yields whole messages. Throws WireError on a header that no peer may send: the stream is then lost. */
export class Decoder {
  private rest: Buffer = Buffer.alloc(0);

  *push(chunk: Buffer): Generator<Message> {
    const bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    let at = 0;
    while (bytes.length - at >= headerBytes) {
      const length = bytes.readUInt32LE(at + 12);
      if (length > mostBodyBytes) throw new WireError(`a xenstore message of ${length} bytes; ${mostBodyBytes} is the limit`);
      if (bytes.length - at < headerBytes + length) break;
      yield {
        type: bytes.readUInt32LE(at),
        requestId: bytes.readUInt32LE(at + 4),
        transactionId: bytes.readUInt32LE(at + 8),
        body: bytes.subarray(at + headerBytes, at + headerBytes + length),
      };
      at += headerBytes + length;
    }
    this.rest = at === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(at));
  }
}
