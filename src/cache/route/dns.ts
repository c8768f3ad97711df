/**
 * The authoritative answers for the zone of the events (RFC 1035): NAME.TENANT.ZONE has the addresses of a few caches, those that are near and have
 * room first, for a second or two. What is asked and what is answered are plain values here; sockets are elsewhere. The client's subnet (RFC 7871)
 * says where he is when his resolver tells it, else the resolver's address does.
 */
import packet, { type Answer, type Packet, type Question } from 'dns-packet';
import { parseIpv4 } from './place.ts';

export interface Zone {
  /** "cdn.example", lower case, without a dot at its end. */
  name: string;
  /** Of the name server itself, and its address. */
  server: string;
  serverAddress: string;
  ttlS: number;
}

/** `undefined`: there is no such event. Addresses best first; empty while no cache serves. */
export type Resolve = (tenant: string, event: string, client: string) => readonly string[] | undefined;

/** Addresses in one answer: more would not be tried. */
const maxAddresses = 4;
/** Without EDNS an answer by UDP has so many bytes at most. */
export const plainUdpBytes = 512;
const maxUdpBytes = 1232;

export type Rcode = 'NOERROR' | 'FORMERR' | 'SERVFAIL' | 'NXDOMAIN' | 'NOTIMP' | 'REFUSED';
const rcodes: Record<Rcode, number> = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 };
const aa = 1 << 10;
const rd = 1 << 8;
const tc = 1 << 9;

interface Edns {
  udpBytes: number;
  subnet: { ip: string; bits: number } | undefined;
}

/** The reply to a message; undefined for what is not to be answered (a reply, or nothing that can be read). Never throws. */
export function answer(message: Buffer, client: string, zone: Zone, resolve: Resolve, overTcp: boolean): Buffer | undefined {
  const asked = readMessage(message);
  if (asked === undefined || Buffer.isBuffer(asked)) return asked;
  const { subnet } = asked;
  return asked.reply(lookUp(asked.question, subnet === undefined || subnet.bits === 0 ? client : subnet.ip, zone, resolve), overTcp);
}

/** A query, and how it is replied to. */
export interface Asked {
  question: Question;
  /** Of the client, as his resolver tells it. */
  subnet: { ip: string; bits: number } | undefined;
  /** No larger than allowed: what does not fit over UDP is cut to "come back over TCP". */
  reply(found: Found, overTcp: boolean): Buffer;
  /** Only that, and nothing looked up. */
  truncated(): Buffer;
}

/** A query; or the reply already, to what is none that can be answered; or undefined. Never throws. */
export function readMessage(message: Buffer): Asked | Buffer | undefined {
  if (message.length < 12 || (message[2]! & 0x80) !== 0) return undefined;
  const id = message.readUInt16BE(0);
  let query: Packet & { opcode?: string };
  try {
    query = packet.decode(message) as Packet & { opcode?: string };
  } catch {
    return packet.encode({ id, type: 'response', flags: rcodes.FORMERR });
  }
  const flags = (query.flags ?? 0) & rd;
  const questions = query.questions ?? [];
  const question = questions[0];
  const reply = (rcode: Rcode, more: Partial<Packet> = {}, extra = 0): Packet => ({
    id,
    type: 'response',
    flags: flags | extra | rcodes[rcode],
    questions: question === undefined ? [] : [question],
    ...more,
  });
  if (((message[2]! >> 3) & 0xf) !== 0) return packet.encode(reply('NOTIMP'));
  if (question === undefined || questions.length !== 1) return packet.encode(reply('FORMERR'));
  const edns = ednsOf(query);
  const additionals = edns === undefined ? [] : [optOf(edns)];
  const truncated = (): Buffer => packet.encode(reply('NOERROR', {}, aa | tc));
  return {
    question,
    subnet: edns?.subnet,
    truncated,
    reply: ({ rcode, answers, authorities }, overTcp) => {
      const whole = packet.encode(
        rcode === 'REFUSED' || rcode === 'SERVFAIL'
          ? reply(rcode, { additionals } as Partial<Packet>)
          : reply(rcode, { answers, authorities, additionals } as Partial<Packet>, aa),
      );
      const room = overTcp ? 65_535 : Math.max(plainUdpBytes, Math.min(maxUdpBytes, edns?.udpBytes ?? plainUdpBytes));
      return whole.length <= room ? whole : truncated();
    },
  };
}

export interface Found {
  rcode: Rcode;
  answers: Answer[];
  authorities: Answer[];
}

/** The answer that needs no looking up: to what is not of the zone, or its own; undefined for a name below it. */
export function nothing(question: Question, zone: Zone): Found | undefined {
  const name = question.name.toLowerCase().replace(/\.$/, '');
  const none: Found = { rcode: 'NOERROR', answers: [], authorities: [soa(zone)] };
  if (question.class !== undefined && question.class !== 'IN') return { rcode: 'REFUSED', answers: [], authorities: [] };
  if (name !== zone.name && !name.endsWith(`.${zone.name}`)) return { rcode: 'REFUSED', answers: [], authorities: [] };
  const owner = question.name;
  const type = question.type as string;
  if (name === zone.name) {
    if (type === 'SOA') return { ...none, answers: [soa(zone)], authorities: [] };
    if (type === 'NS') return { ...none, answers: [{ type: 'NS', name: owner, ttl: 3600, data: zone.server }], authorities: [] };
    return none;
  }
  if (name === zone.server) return type === 'A' ? { ...none, answers: [{ type: 'A', name: owner, ttl: 3600, data: zone.serverAddress }], authorities: [] } : none;
  return undefined;
}

function lookUp(question: Question, client: string, zone: Zone, resolve: Resolve): Found {
  const fixed = nothing(question, zone);
  if (fixed !== undefined) return fixed;
  const name = question.name.toLowerCase().replace(/\.$/, '');
  const none: Found = { rcode: 'NOERROR', answers: [], authorities: [soa(zone)] };
  const [owner, type] = [question.name, question.type as string];
  const labels = name.slice(0, -zone.name.length - 1).split('.');
  // Any further label in front is the player's own, so that a name can be cached apart: one rendition, one name.
  const [event, tenant] = labels.slice(-2);
  // The tenants' own level exists, as far as anybody asks, and has nothing.
  if (event === undefined || tenant === undefined) return none;
  const addresses = resolve(tenant, event, client);
  if (addresses === undefined) return { ...none, rcode: 'NXDOMAIN' };
  if (type !== 'A' && type !== 'ANY') return none;
  return {
    rcode: 'NOERROR',
    answers: addresses.slice(0, maxAddresses).map((data) => ({ type: 'A', name: owner, ttl: zone.ttlS, data })),
    authorities: addresses.length === 0 ? [soa(zone)] : [],
  };
}

/** Its minimum is how long "there is none" may be kept: no longer than an address. */
export const soa = (zone: Zone): Answer => ({
  type: 'SOA',
  name: zone.name,
  ttl: zone.ttlS,
  data: { mname: zone.server, rname: `hostmaster.${zone.name}`, serial: 1, refresh: 3600, retry: 600, expire: 86_400, minimum: zone.ttlS },
});

function ednsOf(query: Packet): Edns | undefined {
  const opt = (query.additionals as { type: string; udpPayloadSize?: number; options?: { code: number; data?: Buffer }[] }[] | undefined)?.find((r) => r.type === 'OPT');
  if (opt === undefined) return undefined;
  const data = opt.options?.find(({ code }) => code === 8)?.data;
  let subnet: Edns['subnet'];
  if (data !== undefined && data.length >= 4 && data.readUInt16BE(0) === 1 && data[2]! <= 32) {
    const bytes = [0, 1, 2, 3].map((i) => data[4 + i] ?? 0);
    const ip = bytes.join('.');
    if (parseIpv4(ip) !== undefined) subnet = { ip, bits: data[2]! };
  }
  return { udpBytes: opt.udpPayloadSize ?? plainUdpBytes, subnet };
}

/** Our own record: the client's subnet comes back with the prefix that was looked at, all of what was given. */
function optOf({ subnet }: Edns): Answer {
  const options = [];
  if (subnet !== undefined) {
    const address = subnet.ip.split('.').map(Number).slice(0, Math.ceil(subnet.bits / 8));
    options.push({ code: 8, data: Buffer.from([0, 1, subnet.bits, subnet.bits, ...address]) });
  }
  return { type: 'OPT', name: '.', udpPayloadSize: maxUdpBytes, extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false, options } as unknown as Answer;
}
