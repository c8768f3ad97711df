/** One GET from a server with a pinned certificate: the certificate is looked at before the address, with the right in it, is sent. */
import { request, type IncomingMessage } from 'node:http';
import { connect, type TLSSocket } from 'node:tls';
import { ShoalError } from '../model/errors.ts';

export interface PinnedGet {
  url: URL;
  /** SHA-256 of the certificate, with or without colons. */
  fingerprint: string;
  /** First byte wanted. */
  offset: number;
  /** Without an answer, or without a further byte, for so long it is given up. */
  stallMs: number;
  signal: AbortSignal;
}

const plain = (text: string): string => text.replaceAll(':', '').toLowerCase();

function socketTo({ url, fingerprint, stallMs, signal }: PinnedGet): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const socket = connect({
      host,
      port: Number(url.port) || 443,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
      ALPNProtocols: ['http/1.1'],
      ...(/^[\d.:]+$/.test(host) ? {} : { servername: host }),
    });
    const end = (error: Error): void => {
      signal.removeEventListener('abort', aborted);
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    const aborted = (): void => end(new ShoalError('TIMEOUT', 'The time for the transfer is over.'));
    const timer = setTimeout(() => end(new ShoalError('CONNECTION_FAILED', `${url.host} does not answer.`)), stallMs);
    signal.addEventListener('abort', aborted, { once: true });
    if (signal.aborted) return aborted();
    socket.once('error', end);
    socket.once('secureConnect', () => {
      signal.removeEventListener('abort', aborted);
      clearTimeout(timer);
      socket.off('error', end);
      if (plain(socket.getPeerX509Certificate()?.fingerprint256 ?? '') === plain(fingerprint)) return resolve(socket);
      socket.destroy();
      reject(new ShoalError('CERTIFICATE_MISMATCH', `The certificate of ${url.host} is not the pinned one.`));
    });
  });
}

/** The answer's head; its body ends with an error when the connection does. Throws CONNECTION_FAILED, CERTIFICATE_MISMATCH, TIMEOUT. */
export async function pinnedGet(get: PinnedGet): Promise<IncomingMessage> {
  const socket = await socketTo(get).catch((error: Error) => {
    throw error instanceof ShoalError ? error : new ShoalError('CONNECTION_FAILED', `Cannot reach ${get.url.host}: ${error.message}.`, { cause: error });
  });
  socket.on('error', () => {});
  return new Promise((resolve, reject) => {
    const outgoing = request({
      createConnection: () => socket,
      host: get.url.hostname,
      path: `${get.url.pathname}${get.url.search}`,
      signal: get.signal,
      headers: { host: get.url.host, connection: 'close', ...(get.offset > 0 ? { range: `bytes=${get.offset}-` } : {}) },
    });
    outgoing.setTimeout(get.stallMs, () => outgoing.destroy(new Error('nothing came any more')));
    outgoing.once('error', (error) => {
      socket.destroy();
      reject(get.signal.aborted ? new ShoalError('TIMEOUT', 'The time for the transfer is over.') : new ShoalError('CONNECTION_FAILED', `${get.url.host}: ${error.message}.`, { cause: error }));
    });
    outgoing.once('response', resolve);
    outgoing.end();
  });
}
