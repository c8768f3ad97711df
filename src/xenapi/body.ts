/**
 * Reading request bodies without letting anyone fill the memory: a bound on one body, and one on all that are being read. What is
 * too large is refused by its announced length, before a byte of it is read, or as soon as it goes over.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { ShoalError } from '../model/errors.ts';

export class Bodies {
  readonly maxBytes: number;
  readonly #maxAllBytes: number;
  #allBytes = 0;

  /** 1 MiB a body, 32 MiB in all by default. */
  constructor(maxBytes = 1 << 20, maxAllBytes = 32 << 20) {
    this.maxBytes = maxBytes;
    this.#maxAllBytes = maxAllBytes;
  }

  /** The body as text. Throws REQUEST_TOO_LARGE, HOST_LIMIT, CONNECTION_FAILED; the rest of the body is then still unread. */
  read(request: IncomingMessage): Promise<string> {
    return new Promise((resolve, reject) => {
      const announced = Number(request.headers['content-length'] ?? 0);
      if (announced > this.maxBytes) {
        reject(tooLarge(this.maxBytes));
        return;
      }
      const chunks: Buffer[] = [];
      let bytes = 0;
      const end = (finish: () => void) => {
        request.off('data', onData).off('end', onEnd).off('close', onClose);
        this.#allBytes -= bytes;
        finish();
      };
      const onData = (chunk: Buffer) => {
        bytes += chunk.length;
        this.#allBytes += chunk.length;
        if (bytes > this.maxBytes) end(() => reject(tooLarge(this.maxBytes)));
        else if (this.#allBytes > this.#maxAllBytes)
          end(() => reject(new ShoalError('HOST_LIMIT', 'The host is reading too many requests at once.')));
        else chunks.push(chunk);
      };
      const onEnd = () => end(() => resolve(Buffer.concat(chunks).toString('utf8')));
      const onClose = () => end(() => reject(new ShoalError('CONNECTION_FAILED', 'The client hung up.')));
      request.on('data', onData).on('end', onEnd).on('close', onClose);
    });
  }
}

const tooLarge = (maxBytes: number): ShoalError =>
  new ShoalError('REQUEST_TOO_LARGE', `A request may have at most ${maxBytes} bytes.`, { data: { maxBytes } });

/** How much of a refused body is read and dropped, so that a client still sending gets to read the answer, and for how long. */
const dropBytes = 4 << 20;
const dropMs = 2000;

/** Answers a request whose body was not read to its end, and closes the connection. */
export function answerUnread(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  type: string,
  text: string,
): void {
  const bytes = Buffer.from(text);
  response.writeHead(status, { 'content-type': type, 'content-length': bytes.length, connection: 'close' });
  if (request.complete) {
    response.end(bytes);
    return;
  }
  response.write(bytes);
  let dropped = 0;
  const end = () => {
    clearTimeout(timer);
    response.end();
    request.destroy();
  };
  const timer = setTimeout(end, dropMs).unref();
  request.on('data', (chunk: Buffer) => {
    dropped += chunk.length;
    if (dropped > dropBytes) end();
  });
  request.on('end', () => {
    clearTimeout(timer);
    response.end();
  });
  request.on('close', () => clearTimeout(timer));
  request.resume();
}
