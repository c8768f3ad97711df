/**
 * inet_diag (sock_diag(7), <linux/inet_diag.h>): the kernel's sockets listed, with MPTCP's view of them, and one of them destroyed. As bytes, pure.
 * Offsets inside tcp_info and mptcp_info are those of the kernel's headers; both only ever grow at their end.
 */
import type { Endpoint, SubflowState } from '../port.ts';
import { addressBytes, addressText, attribute, decodeAttributes, family, isV6, u32 } from './netlink.ts';

export const byFamily = 20;
export const destroyFamily = 21;
export const protocol = { tcp: 6, mptcp: 262 } as const;

const requestBytes = 56;
const answerBytes = 72;
const infoBit = 1 << (2 - 1);
const extension = { info: 2, ulp: 19 } as const;
const ulp = { name: 1, mptcp: 3 } as const;
const inRequest = { protocol: 3 } as const;
/** TCP_ESTABLISHED … TCP_CLOSING as <net/tcp_states.h> numbers them, without what listens or only waits for its end. */
const stateNumber = { established: 1, synSent: 2, synReceived: 3 } as const;
const gone = [6, 7, 10];
const living = Array.from({ length: 12 }, (_, i) => i + 1).filter((state) => !gone.includes(state)).reduce((bits, state) => bits | (1 << state), 0);

function header(familyNumber: number, protocolNumber: number, states: number): Buffer {
  const b = Buffer.alloc(requestBytes);
  b[0] = familyNumber;
  // One byte has no room for MPTCP's number: the kernel reads the attribute instead.
  b[1] = protocolNumber & 0xff;
  b[2] = infoBit;
  b.writeUInt32LE(states, 4);
  return b;
}

/** Every living socket of a family and protocol. */
export const dumpBody = (v6: boolean, protocolNumber: number): Buffer[] => [
  header(v6 ? family.v6 : family.v4, protocolNumber, living),
  ...(protocolNumber > 255 ? [attribute(inRequest.protocol, u32(protocolNumber))] : []),
];

/** The end of one TCP socket: both sides get a reset. */
export function destroyBody(local: Endpoint, remote: Endpoint): Buffer[] {
  const b = header(isV6(local.address) ? family.v6 : family.v4, protocol.tcp, 0xffffffff);
  b.writeUInt16BE(local.port, 8);
  b.writeUInt16BE(remote.port, 10);
  addressBytes(local.address).copy(b, 12);
  addressBytes(remote.address).copy(b, 28);
  // No cookie: the addresses are enough.
  b.fill(0xff, 48, 56);
  return [b];
}

export interface DiagSocket {
  local: Endpoint;
  remote: Endpoint;
  state: SubflowState;
  info: Buffer | undefined;
  /** Of a subflow of MPTCP. */
  subflow: { token: number; localId: number; remoteId: number; flags: number } | undefined;
}

const u64 = (bytes: Buffer | undefined, at: number): number => (bytes !== undefined && bytes.length >= at + 8 ? Number(bytes.readBigUInt64LE(at)) : 0);
const u32At = (bytes: Buffer | undefined, at: number): number => (bytes !== undefined && bytes.length >= at + 4 ? bytes.readUInt32LE(at) : 0);

const subflowAttr = { tokenLocal: 2, flags: 8, remoteId: 9, localId: 10 } as const;

function decodeSubflow(bytes: Buffer | undefined): DiagSocket['subflow'] {
  const inner = bytes === undefined ? undefined : decodeAttributes(bytes).get(ulp.mptcp);
  if (inner === undefined) return undefined;
  const found = decodeAttributes(inner);
  return {
    token: u32At(found.get(subflowAttr.tokenLocal), 0),
    flags: u32At(found.get(subflowAttr.flags), 0),
    localId: found.get(subflowAttr.localId)?.[0] ?? 0,
    remoteId: found.get(subflowAttr.remoteId)?.[0] ?? 0,
  };
}

/** One message of a dump; undefined of one that is too short. */
export function decodeSocket(body: Buffer): DiagSocket | undefined {
  if (body.length < answerBytes) return undefined;
  const bytes = body[0] === family.v6 ? 16 : 4;
  const number = body[1]!;
  const found = decodeAttributes(body.subarray(answerBytes));
  return {
    local: { address: addressText(body.subarray(8, 8 + bytes)), port: body.readUInt16BE(4) },
    remote: { address: addressText(body.subarray(24, 24 + bytes)), port: body.readUInt16BE(6) },
    state: number === stateNumber.established ? 'established' : number === stateNumber.synSent || number === stateNumber.synReceived ? 'connecting' : 'closing',
    info: found.get(extension.info),
    subflow: decodeSubflow(found.get(extension.ulp)),
  };
}

/** Bits of a subflow's flags (MPTCP_SUBFLOW_FLAG_BKUP_REM, _LOC). */
export const backupFlags = (1 << 4) | (1 << 5);

/** struct mptcp_info. */
export const connectionInfo = (info: Buffer | undefined): { token: number; sentBytes: number; receivedBytes: number; fallback: boolean } => ({
  token: u32At(info, 12),
  sentBytes: u64(info, 56),
  receivedBytes: u64(info, 64),
  fallback: (u32At(info, 8) & 1) !== 0,
});

/** struct tcp_info. */
export const subflowInfo = (info: Buffer | undefined): { ackedBytes: number; receivedBytes: number; notSentBytes: number; unackedSegments: number; mss: number; rttUs: number } => ({
  mss: u32At(info, 16),
  unackedSegments: u32At(info, 24),
  rttUs: u32At(info, 68),
  ackedBytes: u64(info, 120),
  receivedBytes: u64(info, 128),
  notSentBytes: u32At(info, 144),
});
