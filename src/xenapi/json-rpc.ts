/**
 * JSON-RPC 2.0 as XenAPI speaks it: a failure is an error object with code 1, XenAPI's code as its message, and the parameters as
 * its data. Pure: text in, text out, the text of a result in pieces.
 */
import { ShoalError } from '../model/errors.ts';
import { holdsSliced, SlicedList, SlicedMap, SlicedText } from './sliced.ts';

export interface JsonCall {
  /** null for a request without an id: it gets no answer. */
  id: string | number | null;
  answered: boolean;
  method: string;
  params: unknown[];
}

/** A request that is not a call; `code` is JSON-RPC's own. */
export interface BadCall {
  id: string | number | null;
  code: -32700 | -32600 | -32602;
  error: ShoalError;
}

export type JsonRequest = JsonCall | BadCall;
export const isBad = (request: JsonRequest): request is BadCall => 'error' in request;

const maxBatch = 100;

const bad = (id: string | number | null, code: BadCall['code'], message: string): BadCall => ({
  id,
  code,
  error: new ShoalError('REQUEST_MALFORMED', message),
});

/** One request, or several when the text is a batch. */
export function parseJsonRequests(text: string): { batch: boolean; requests: JsonRequest[] } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { batch: false, requests: [bad(null, -32700, `The request is not JSON: ${(error as Error).message}`)] };
  }
  if (!Array.isArray(value)) return { batch: false, requests: [parseOne(value)] };
  if (value.length === 0 || value.length > maxBatch) {
    return { batch: false, requests: [bad(null, -32600, `A batch has 1 to ${maxBatch} calls.`)] };
  }
  return { batch: true, requests: value.map(parseOne) };
}

function parseOne(value: unknown): JsonRequest {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return bad(null, -32600, 'A call is a JSON object.');
  const { jsonrpc, method, params, id } = value as Record<string, unknown>;
  const known = typeof id === 'string' || typeof id === 'number' ? id : null;
  if (jsonrpc !== '2.0') return bad(known, -32600, '"jsonrpc" must be "2.0".');
  if (typeof method !== 'string') return bad(known, -32600, '"method" must be a string.');
  if (id !== undefined && id !== null && known === null) return bad(null, -32600, '"id" must be a string or a number.');
  if (params !== undefined && !Array.isArray(params)) return bad(known, -32602, '"params" must be a list.');
  return { id: known, answered: id !== undefined, method, params: (params as unknown[] | undefined) ?? [] };
}

/** The JSON of a value, in pieces. */
export function* jsonPieces(value: unknown): Generator<string> {
  if (value instanceof SlicedText) {
    yield '"';
    for (const piece of value.pieces) yield JSON.stringify(piece).slice(1, -1);
    yield '"';
  } else if (value instanceof SlicedList) {
    let before = '[';
    for (const item of value.items) {
      yield before + JSON.stringify(item);
      before = ',';
    }
    yield before === '[' ? '[]' : ']';
  } else if (value instanceof SlicedMap) {
    let before = '{';
    for (const [key, item] of value.entries) {
      yield `${before}${JSON.stringify(key)}:${JSON.stringify(item)}`;
      before = ',';
    }
    yield before === '{' ? '{}' : '}';
  } else if (holdsSliced(value)) {
    let before = '{';
    for (const [key, member] of Object.entries(value)) {
      if (member === undefined) continue;
      yield `${before}${JSON.stringify(key)}:`;
      yield* jsonPieces(member);
      before = ',';
    }
    yield '}';
  } else {
    yield JSON.stringify(value);
  }
}

/** The answer in pieces: its result may be too large to make in one go. */
export function* formatJsonResult(id: JsonCall['id'], result: unknown): Generator<string> {
  yield '{"jsonrpc":"2.0","result":';
  yield* jsonPieces(result);
  yield `,"id":${JSON.stringify(id)}}`;
}

export const formatJsonFailure = (id: JsonCall['id'], failure: readonly string[], code = 1): string =>
  JSON.stringify({ jsonrpc: '2.0', error: { code, message: failure[0], data: failure.slice(1) }, id });
