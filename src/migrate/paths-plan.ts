/** Before a move: what of it will survive, connection by connection. Pure. */
import type { ConnectionPaths, PathStatus } from '../mptcp/paths.ts';
import type { PlainConnection } from '../mptcp/port.ts';
import type { MoveKind } from './paths-table.ts';

export interface PathFacts {
  status: PathStatus;
  kind: MoveKind;
  /** The address that the waypoint has now stays its address at the target: both hosts are in one subnet. */
  addressMoves: boolean;
  /** The VM's state travels with it, so that flows it knows go on. False for a waypoint that starts afresh. */
  stateMoves: boolean;
  /** The most subflows a connection may have, by the path agent's policy. */
  maxSubflows: number;
  /** Peers (addresses) that were announced to before and did not join. */
  refused: ReadonlySet<string>;
}

export type Verdict = 'survives' | 'unsure' | 'lost';

export interface Forecast {
  remote: string;
  token?: number;
  verdict: Verdict;
  why: string;
}

export interface PathPlan {
  forecasts: Forecast[];
  counts: Record<Verdict, number>;
}

const nameOf = ({ address, port }: { address: string; port: number }): string => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);

function ofConnection(connection: ConnectionPaths, { kind, maxSubflows, refused, addressMoves, stateMoves }: PathFacts): Omit<Forecast, 'remote' | 'token'> {
  const { from, to, subflows } = connection;
  if (from.established === 0) return { verdict: 'survives', why: 'it has no subflow on the address that is left' };
  if (to.established > 0) return { verdict: 'survives', why: 'it has a subflow at the target already' };
  if (addressMoves && stateMoves) return { verdict: 'survives', why: 'its address and its state move' };
  if (subflows >= maxSubflows) return { verdict: 'lost', why: `it has ${subflows} subflows, and the policy allows no more` };
  if (refused.has(connection.remote.address)) return { verdict: 'lost', why: 'its other end did not join an announced address before: add_addr_accepted is 0 there, or something removes the option' };
  return {
    verdict: 'unsure',
    why: kind === 'make-before-break' ? 'it survives if its other end joins; the move waits for that and goes back otherwise' : 'it survives if its other end joins, which shows only when the source has stopped',
  };
}

function ofPlain(_: PlainConnection, { addressMoves, stateMoves }: PathFacts): Omit<Forecast, 'remote'> {
  if (!addressMoves) return { verdict: 'lost', why: 'it is plain TCP, and its address does not go to another subnet' };
  if (!stateMoves) return { verdict: 'lost', why: 'it is plain TCP, and the target does not know its flows' };
  return { verdict: 'survives', why: 'it is plain TCP, and its address and its state move' };
}

export function planPaths(facts: PathFacts): PathPlan {
  const forecasts: Forecast[] = [
    ...facts.status.connections.map((connection) => ({ remote: nameOf(connection.remote), token: connection.token, ...ofConnection(connection, facts) })),
    ...facts.status.plain.map((connection) => ({ remote: nameOf(connection.remote), ...ofPlain(connection, facts) })),
  ];
  const counts = { survives: 0, unsure: 0, lost: 0 };
  for (const { verdict } of forecasts) counts[verdict]++;
  return { forecasts, counts };
}
