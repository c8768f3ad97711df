/** Images of a host over its XenAPI: pushed as bytes, or, where the host has our plugin, fetched by the host itself. */
import { request } from 'undici';
import type { FetchOrder, FetchReport, ImageSource } from '../../model/distribution.ts';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import type { Connection } from './connection.ts';
import { linkError } from './connection.ts';

type CallPlugin = <T>(fn: string, args: Record<string, string>) => Promise<T>;

/** The answer of a host that does not take it, as it stands. Throws CONNECTION_FAILED, TIMEOUT, CERTIFICATE_MISMATCH. */
export async function pushImage(connection: Connection, url: string, digest: string, bytes: Uint8Array): Promise<{ refused: string; status: number } | undefined> {
  const query = new URLSearchParams({ session_id: connection.xapi.sessionId });
  const answer = await request(new URL(`/image/${digest}?${query.toString()}`, url), {
    method: 'PUT',
    body: bytes,
    dispatcher: connection.dispatcher,
  }).catch((error: unknown) => {
    throw linkError(error, url);
  });
  const body = await answer.body.text();
  return answer.statusCode >= 300 ? { refused: body, status: answer.statusCode } : undefined;
}

const unsupported = (url: string): ShoalError => new ShoalError('HOST_UNSUPPORTED', `${url} does not fetch images by itself.`);

/** A host without these functions, or with an older agent, is told apart from one that failed. */
async function asked<T>(work: Promise<T>, url: string): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const { code } = asShoalError(error);
    throw code === 'XENAPI_MISSING_PLUGIN' || code === 'XENAPI_PLUGIN_FAILURE' ? unsupported(url) : error;
  }
}

export const orderFetch = (call: CallPlugin, url: string, order: FetchOrder): Promise<FetchReport> =>
  asked(call<FetchReport>('fetch-image', { order: JSON.stringify(order) }), url);

/** Throws HOST_UNSUPPORTED also where a neighbour could not tell that it speaks with this very host. */
export async function askOffer(call: CallPlugin, url: string, fingerprint: string | undefined, digest: string): Promise<ImageSource> {
  if (fingerprint === undefined) throw unsupported(url);
  const { path } = await asked(call<{ path: string }>('offer-image', { digest }), url);
  return { url: new URL(path, url).href, fingerprint };
}
