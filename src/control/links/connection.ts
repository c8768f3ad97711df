/**
 * The package xen-api with the host's certificate checked: pinned by its SHA-256 fingerprint, or signed by a given authority. The
 * package itself takes an authority only from the environment of the process, or verifies nothing; the dispatcher of its
 * connections is put in place of its own here, at the one moment when nothing has used it. A test sees to it that a wrong
 * certificate is refused.
 */
import { X509Certificate } from 'node:crypto';
import { connect as tlsConnect, type PeerCertificate } from 'node:tls';
import { Agent } from 'undici';
import { Xapi } from 'xen-api';
import { ShoalError } from '../../model/errors.ts';
import { toShoalError } from '../../xenapi/errors.ts';

export interface HostAddress {
  /** https://host:port */
  url: string;
  /** One of the two. SHA-256 of the host's certificate, "AB:CD:…". */
  fingerprint?: string;
  /** PEM: certificates of authorities, or the host's own. */
  ca?: string;
  user?: string;
  password: string;
}

/** A call that takes longer is given up. */
export const callTimeoutMs = 60_000;

const plainFingerprint = (text: string): string => text.replaceAll(':', '').toLowerCase();

function fingerprintsOf(pem: string): Set<string> {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  return new Set(found.map((each) => plainFingerprint(new X509Certificate(each).fingerprint256)));
}

function dispatcherOf({ fingerprint, ca }: HostAddress): Agent {
  if (fingerprint === undefined && ca === undefined)
    throw new ShoalError('CONFIG_INVALID', 'A host needs the fingerprint of its certificate, or an authority.');
  // The very certificate that was given is right: whoever signed it, whatever name the host is reached by, and whatever its clock said when it made it.
  const own = fingerprint === undefined ? fingerprintsOf(ca!) : new Set([plainFingerprint(fingerprint)]);
  return new Agent({
    bodyTimeout: callTimeoutMs,
    headersTimeout: 10 * callTimeoutMs,
    connections: 24,
    connect: ({ hostname, port, servername }, done) => {
      const name = servername ?? hostname;
      const socket = tlsConnect({
        host: hostname,
        port: Number(port) || 443,
        ...(ca === undefined ? {} : { ca }),
        // Decided below, before a byte is sent.
        rejectUnauthorized: false,
        minVersion: 'TLSv1.2',
        ALPNProtocols: ['http/1.1'],
        ...(/^[\d.:[\]]+$/.test(name) ? {} : { servername: name }),
      });
      const timer = setTimeout(() => socket.destroy(new Error('no answer to the connection')), 10_000);
      const fail = (error: Error): void => (clearTimeout(timer), done(error, null));
      socket.once('error', fail);
      socket.once('secureConnect', () => {
        clearTimeout(timer);
        socket.off('error', fail);
        const shown = plainFingerprint((socket.getPeerCertificate() as PeerCertificate | undefined)?.fingerprint256 ?? '');
        if (own.has(shown) || (ca !== undefined && socket.authorized)) return done(null, socket);
        socket.destroy();
        const why = ca === undefined ? 'the certificate is not the pinned one' : String(socket.authorizationError);
        done(Object.assign(new Error(why), { code: 'CERT_NOT_PINNED' }), null);
      });
    },
  });
}

export interface Connection {
  xapi: Xapi;
  dispatcher: Agent;
}

/** Nothing is sent yet. Throws CONFIG_INVALID. */
export function makeConnection(address: HostAddress, timeoutMs: (method: string) => number): Connection {
  if (!/^https:\/\/[^/\s]+\/?$/.test(address.url))
    throw new ShoalError('CONFIG_INVALID', `"${address.url}" is no address of a host: it must be https://HOST:PORT.`);
  const dispatcher = dispatcherOf(address);
  class CheckedXapi extends Xapi {
    protected override _setUrl(url: unknown): void {
      this._undiciDispatcher = dispatcher;
      super._setUrl(url);
    }
  }
  const xapi = new CheckedXapi({
    url: address.url,
    auth: { user: address.user ?? 'root', password: address.password },
    watchEvents: false,
    callTimeout: timeoutMs,
    callConcurrency: 24,
    roCallRetryOptions: { tries: 1 },
  });
  return { xapi, dispatcher };
}

const certificateCodes =
  /^(ERR_TLS_CERT|CERT_|UNABLE_TO_(VERIFY|GET)|DEPTH_ZERO|SELF_SIGNED|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH)/;

/** Anything the package throws. A failure of the host keeps its code; everything else is about the connection. */
export function linkError(thrown: unknown, url: string): ShoalError {
  if (thrown instanceof ShoalError) return thrown;
  const error = thrown as {
    code?: unknown;
    params?: unknown;
    message?: string;
    name?: string;
    cause?: { code?: unknown; message?: string };
  };
  if (typeof error.code === 'string' && Array.isArray(error.params))
    return toShoalError({ code: error.code, params: error.params.map(String) });
  const code = String(error.code ?? error.cause?.code ?? '');
  if (certificateCodes.test(code))
    return new ShoalError('CERTIFICATE_MISMATCH', `The certificate of ${url} is not to be trusted: ${error.message ?? code}.`, {
      cause: thrown,
    });
  if (error.name === 'TimeoutError' || /timed? ?out/i.test(error.message ?? ''))
    return new ShoalError('TIMEOUT', `${url} gave no answer in time.`, { cause: thrown });
  const why = code === 'ECONNREFUSED' ? 'nothing listens there' : (error.message ?? String(thrown));
  return new ShoalError('CONNECTION_FAILED', `Cannot reach ${url}: ${why}.`, { cause: thrown });
}
