/**
 * Who may call. A token is an id and 256 random bits; what is kept is the bits' SHA-256, so that whoever reads the state cannot
 * call. The first token, an operator's, is made at the first start and left in a file for its owner only: there is no default.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { ShoalError } from '../model/errors.ts';
import type { Change } from './port.ts';
import type { State, TokenRecord } from './state.ts';

export type Role = TokenRecord['role'];
export const roles: readonly Role[] = ['operator', 'tenant', 'ci', 'viewer'];

/** Whoever calls, as far as it decides what he may see. */
export interface Actor {
  id: string;
  role: Role;
  /** Undefined: all of them. */
  tenant: string | undefined;
}

const form = /^shoal_([0-9a-f]{8})_([A-Za-z0-9_-]{43})$/;
const hashOf = (secret: string): Buffer => createHash('sha256').update(secret).digest();

function tokenOf(header: string): string {
  const basic = /^Basic ([A-Za-z0-9+/=]{1,400})$/i.exec(header);
  if (basic === null) return header.replace(/^Bearer /i, '');
  return Buffer.from(basic[1]!, 'base64').toString('latin1').replace(/^[^:]*:/, '');
}

export class Tokens {
  readonly #state: State;
  readonly #now: () => number;

  constructor(state: State, now: () => number) {
    this.#state = state;
    this.#now = now;
  }

  /** The token itself is given once and kept nowhere. Throws REQUEST_INVALID. */
  make(given: { role: Role; tenant?: string; note?: string; expiresMs?: number }): {
    token: string;
    record: TokenRecord;
    change: Change;
  } {
    if ((given.role === 'tenant' || given.role === 'ci') && given.tenant === undefined) {
      throw new ShoalError('REQUEST_INVALID', `A token of the role ${given.role} needs a tenant.`, {
        data: { reasons: [{ path: 'tenant', message: 'is needed.', hint: 'Give it.' }] },
      });
    }
    if (given.role === 'operator' && given.tenant !== undefined) {
      throw new ShoalError('REQUEST_INVALID', 'An operator has no tenant.', {
        data: { reasons: [{ path: 'tenant', message: 'has no meaning for an operator.', hint: 'Leave it out.' }] },
      });
    }
    const id = randomBytes(4).toString('hex');
    const secret = randomBytes(32).toString('base64url');
    const record: TokenRecord = {
      id,
      hash: hashOf(secret).toString('hex'),
      role: given.role,
      ...(given.tenant === undefined ? {} : { tenant: given.tenant }),
      note: given.note ?? '',
      createdMs: this.#now(),
      ...(given.expiresMs === undefined ? {} : { expiresMs: given.expiresMs }),
    };
    return { token: `shoal_${id}_${secret}`, record, change: this.#state.set('token', id, record) };
  }

  /** As a bearer, or as the password of Basic auth, which is what git speaks. Throws TOKEN_INVALID, with nothing in it that tells a wrong token from an expired one. */
  check(header: string | undefined): Actor {
    const m = form.exec(tokenOf(header ?? ''));
    const record = m === null ? undefined : this.#state.get('token', m[1]!);
    const given = hashOf(m?.[2] ?? '');
    const right = record !== undefined && timingSafeEqual(given, Buffer.from(record.hash, 'hex'));
    if (!right || (record.expiresMs !== undefined && record.expiresMs <= this.#now()))
      throw new ShoalError('TOKEN_INVALID', 'The token is missing, wrong or expired.');
    return { id: record.id, role: record.role, tenant: record.tenant };
  }

  isGood(header: string | undefined): boolean {
    try {
      this.check(header);
      return true;
    } catch {
      return false;
    }
  }

  hasOperator(): boolean {
    for (const { role, expiresMs } of this.#state.all('token').values())
      if (role === 'operator' && expiresMs === undefined) return true;
    return false;
  }
}
