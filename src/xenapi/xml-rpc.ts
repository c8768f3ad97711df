/**
 * XML-RPC as XenAPI speaks it: every answer is a struct {Status: "Success", Value} or {Status: "Failure", ErrorDescription:
 * [code, …]}, and integers are decimal strings, because XML-RPC's own have 32 bits only. Pure: text in, text out.
 *
 * The reader knows the elements of XML-RPC and nothing else of XML: no attributes, no document types, no entities but XML's five
 * and numbered characters.
 */
import { ShoalError } from '../model/errors.ts';
import { holdsSliced, SlicedList, SlicedMap, SlicedText } from './sliced.ts';
import { WireDouble, WireInt32, WireTime } from './wire.ts';

const maxDepth = 32;
const malformed = (message: string): ShoalError => new ShoalError('REQUEST_MALFORMED', message);

// Reading

class Reader {
  readonly #text: string;
  #at = 0;
  /** Of an element that was written <x/>: its end is still to be taken. */
  #emptyElement: string | undefined;

  constructor(text: string) {
    this.#text = text;
  }

  /** Skips white space, comments and processing instructions. */
  #skip(): void {
    for (;;) {
      while (this.#at < this.#text.length && ' \t\r\n'.includes(this.#text[this.#at]!)) this.#at++;
      const end = this.#text.startsWith('<?', this.#at) ? '?>' : this.#text.startsWith('<!--', this.#at) ? '-->' : undefined;
      if (end === undefined) return;
      const to = this.#text.indexOf(end, this.#at);
      if (to < 0) throw malformed('The XML ends within a comment.');
      this.#at = to + end.length;
    }
  }

  /** The name of the element that begins here; undefined when one ends here or text stands here. */
  peek(): string | undefined {
    if (this.#emptyElement !== undefined) return undefined;
    this.#skip();
    return /^<([A-Za-z0-9.]{1,32})\s*\/?>/.exec(this.#text.slice(this.#at, this.#at + 64))?.[1];
  }

  open(name: string): void {
    const m = /^<([A-Za-z0-9.]{1,32})\s*(\/?)>/.exec(this.peek() === name ? this.#text.slice(this.#at, this.#at + 64) : '');
    if (m === null) throw malformed(`<${name}> is expected at character ${this.#at}.`);
    this.#at += m[0].length;
    if (m[2] === '/') this.#emptyElement = name;
  }

  close(name: string): void {
    if (this.#emptyElement !== undefined) {
      if (this.#emptyElement !== name) throw malformed(`</${name}> is expected at character ${this.#at}.`);
      this.#emptyElement = undefined;
      return;
    }
    this.#skip();
    const m = new RegExp(`^</${name.replace('.', '\\.')}\\s*>`).exec(this.#text.slice(this.#at, this.#at + 64));
    if (m === null) throw malformed(`</${name}> is expected at character ${this.#at}.`);
    this.#at += m[0].length;
  }

  /** Text up to the next tag, white space included. */
  text(): string {
    if (this.#emptyElement !== undefined) return '';
    const to = this.#text.indexOf('<', this.#at);
    if (to < 0) throw malformed('The XML ends within a value.');
    const raw = this.#text.slice(this.#at, to);
    this.#at = to;
    return raw.includes('&') ? raw.replace(/&([^;]{0,10});?/g, (whole, name: string) => entity(whole, name)) : raw;
  }

  /**
   * Whether the element that is open ends here with nothing but text before: returns that text, and leaves it unread otherwise.
   */
  textToEnd(): string | undefined {
    const before = this.#at;
    const text = this.text();
    if (this.#emptyElement !== undefined || this.#text.startsWith('</', this.#at)) return text;
    this.#at = before;
    return undefined;
  }

  end(): void {
    this.#skip();
    if (this.#at < this.#text.length) throw malformed(`Nothing is expected after the call, at character ${this.#at}.`);
  }
}

const entities: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

function entity(whole: string, name: string): string {
  if (Object.hasOwn(entities, name) && whole.endsWith(';')) return entities[name]!;
  const m = /^#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}))$/.exec(name);
  const code = m === null ? Number.NaN : m[1] !== undefined ? Number.parseInt(m[1], 16) : Number(m[2]);
  if (!(code <= 0x10ffff) || !whole.endsWith(';')) throw malformed(`"${whole}" is not an entity XML-RPC has.`);
  return String.fromCodePoint(code);
}

function readValue(r: Reader, depth: number): unknown {
  if (depth > maxDepth) throw malformed(`Values are nested deeper than ${maxDepth}.`);
  r.open('value');
  const value = readTyped(r, depth);
  r.close('value');
  return value;
}

function readTyped(r: Reader, depth: number): unknown {
  const plain = r.textToEnd();
  if (plain !== undefined) return plain;
  const kind = r.peek();
  switch (kind) {
    case 'array': {
      const items: unknown[] = [];
      r.open('array');
      r.open('data');
      while (r.peek() === 'value') items.push(readValue(r, depth + 1));
      r.close('data');
      r.close('array');
      return items;
    }
    case 'struct': {
      const members: [string, unknown][] = [];
      r.open('struct');
      while (r.peek() === 'member') {
        r.open('member');
        r.open('name');
        const name = r.text();
        r.close('name');
        members.push([name, readValue(r, depth + 1)]);
        r.close('member');
      }
      r.close('struct');
      return Object.fromEntries(members);
    }
    case 'string':
    case 'int':
    case 'i4':
    case 'i8':
    case 'boolean':
    case 'double':
    case 'dateTime.iso8601':
    case 'base64':
    case 'nil': {
      r.open(kind);
      const text = r.text();
      r.close(kind);
      return scalar(kind, text);
    }
    default:
      throw malformed(kind === undefined ? 'A value holds text beside an element.' : `<${kind}> is not a value of XML-RPC.`);
  }
}

function scalar(kind: string, text: string): unknown {
  switch (kind) {
    case 'int':
    case 'i4':
    case 'i8':
      if (!/^\s*[+-]?\d{1,19}\s*$/.test(text)) throw malformed(`"${text.slice(0, 40)}" is not an integer.`);
      return Number(text);
    case 'double':
      if (text.trim() === '' || !Number.isFinite(Number(text))) throw malformed(`"${text.slice(0, 40)}" is not a number.`);
      return Number(text);
    case 'boolean':
      if (!/^\s*[01]\s*$/.test(text)) throw malformed('A boolean is 0 or 1.');
      return text.trim() === '1';
    case 'nil':
      return null;
    default:
      return text;
  }
}

export interface XmlCall {
  method: string;
  params: unknown[];
}

/** Throws REQUEST_MALFORMED. */
export function parseXmlCall(text: string): XmlCall {
  const r = new Reader(text.startsWith('\ufeff') ? text.slice(1) : text);
  r.open('methodCall');
  r.open('methodName');
  const method = r.text().trim();
  r.close('methodName');
  const params: unknown[] = [];
  if (r.peek() === 'params') {
    r.open('params');
    while (r.peek() === 'param') {
      r.open('param');
      params.push(readValue(r, 0));
      r.close('param');
    }
    r.close('params');
  }
  r.close('methodCall');
  r.end();
  return { method, params };
}

// Writing

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '\r': '&#13;' };
// Characters XML 1.0 has no way to write are replaced; strings taken in cannot hold them.
const escapeXml = (text: string): string =>
  text.replace(/[&<>\r]/g, (c) => escapes[c]!).replace(/[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/g, '\ufffd');

/** `<value>…</value>` of a plain value. */
export function formatXmlValue(value: unknown): string {
  return `<value>${content(value)}</value>`;
}

function content(value: unknown): string {
  if (typeof value === 'string') return escapeXml(value);
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : `<double>${value}</double>`;
  if (typeof value === 'boolean') return `<boolean>${value ? 1 : 0}</boolean>`;
  if (value instanceof WireTime) return `<dateTime.iso8601>${value.toString()}</dateTime.iso8601>`;
  if (value instanceof WireDouble) return `<double>${value.value}</double>`;
  if (value instanceof WireInt32) return `<i4>${value.value}</i4>`;
  if (Array.isArray(value)) return `<array><data>${value.map(formatXmlValue).join('')}</data></array>`;
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).map(
      ([name, v]) => `<member><name>${escapeXml(name)}</name>${formatXmlValue(v)}</member>`,
    );
    return `<struct>${members.join('')}</struct>`;
  }
  // Nothing: XenAPI's void.
  return '';
}

const response = (struct: object): string =>
  `<?xml version="1.0"?><methodResponse><params><param>${formatXmlValue(struct)}</param></params></methodResponse>`;

/** `<value>…</value>` of a value, in pieces. */
export function* xmlPieces(value: unknown): Generator<string> {
  if (value instanceof SlicedText) {
    yield '<value>';
    for (const piece of value.pieces) yield escapeXml(piece);
    yield '</value>';
  } else if (value instanceof SlicedList) {
    yield '<value><array><data>';
    for (const item of value.items) yield formatXmlValue(item);
    yield '</data></array></value>';
  } else if (value instanceof SlicedMap) {
    yield '<value><struct>';
    for (const [key, item] of value.entries) yield `<member><name>${escapeXml(key)}</name>${formatXmlValue(item)}</member>`;
    yield '</struct></value>';
  } else if (holdsSliced(value)) {
    yield '<value><struct>';
    for (const [key, member] of Object.entries(value)) {
      yield `<member><name>${escapeXml(key)}</name>`;
      yield* xmlPieces(member);
      yield '</member>';
    }
    yield '</struct></value>';
  } else {
    yield formatXmlValue(value);
  }
}

const [beforeResult, afterResult] = response({ Status: 'Success', Value: '' }).split('<value></value>') as [string, string];

/** The answer in pieces: its value may be too large to make in one go. */
export function* formatXmlResult(value: unknown): Generator<string> {
  yield beforeResult;
  yield* xmlPieces(value ?? '');
  yield afterResult;
}

export const formatXmlFailure = (failure: readonly string[]): string =>
  response({ Status: 'Failure', ErrorDescription: failure });
