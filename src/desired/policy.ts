/**
 * Who may change what: the repository's own policy, read at the commit before the one that is judged, so that nobody gives himself a
 * right in the commit that uses it. Roles: `admin` everything, signers and policy included; `fleet` hosts and rollout policies;
 * `deploy` services, releases and images of the services named.
 */
import type { Place } from './layout.ts';

export type SignerRole = 'admin' | 'fleet' | 'deploy';

export interface Policy {
  signers: Record<string, { roles: SignerRole[]; services?: string[] }>;
  limits?: { imageBytes?: number; expiryDays?: number; copies?: number };
}

/** Whom the controller knows the pusher as, by his token; undefined when the commit came from a remote. */
export interface Pusher {
  role: string;
  /** A token of a tenant changes nothing of another's, whoever signed. */
  tenant?: string;
}

export const expiryDaysOf = (policy: Policy): number => policy.limits?.expiryDays ?? 400;

const covers = (pattern: string, tenant: string, service: string): boolean => {
  const [t, s] = pattern.split('/');
  return (t === '*' || t === tenant) && (s === '*' || s === service);
};

/** Why `signer` may not change this; undefined: he may. Images are anyone's who may deploy: a digest is no name. */
export function refusal(policy: Policy, signer: string, place: Place): string | undefined {
  const entry = Object.hasOwn(policy.signers, signer) ? policy.signers[signer] : undefined;
  if (entry === undefined) return `${signer} is in signers, but policy.json gives no role to that name.`;
  if (entry.roles.includes('admin')) return undefined;
  switch (place.kind) {
    case 'service':
    case 'release': {
      const { tenant, service } = place;
      const may = entry.roles.includes('deploy') && (entry.services ?? []).some((pattern) => covers(pattern, tenant, service));
      return may ? undefined : `${signer} may not deploy ${tenant}/${service}.`;
    }
    case 'image':
      return entry.roles.includes('deploy') ? undefined : `${signer} may not deploy.`;
    case 'rollout':
    case 'host':
      return entry.roles.includes('fleet') ? undefined : `${signer} has not the role fleet, which changes this.`;
    default:
      return `${signer} has not the role admin, which alone changes this.`;
  }
}

export function pusherRefusal(pusher: Pusher | undefined, place: Place): string | undefined {
  if (pusher?.tenant === undefined) return undefined;
  if (place.kind === 'image') return undefined;
  if ((place.kind === 'service' || place.kind === 'release') && place.tenant === pusher.tenant) return undefined;
  return `the token is of the tenant ${pusher.tenant}, and this is not his.`;
}

export interface Key {
  principal: string;
  /** Type and base64. */
  key: string;
}

/** `signers`: OpenSSH's allowed_signers with one plain name a line. Gives the keys, or what is wrong with which line. */
export function readSigners(text: string): { keys: Key[]; wrong: { line: number; why: string }[] } {
  const keys: Key[] = [];
  const wrong: { line: number; why: string }[] = [];
  text.split('\n').forEach((line, i) => {
    if (/^\s*(#.*)?$/.test(line)) return;
    const at = i + 1;
    const m = /^([A-Za-z0-9][A-Za-z0-9._@+-]{0,99}) +(?:([a-z][^ ]*) +)?((?:ssh-ed25519|sk-ssh-ed25519@openssh\.com|ecdsa-sha2-nistp\d+|sk-ecdsa-sha2-nistp256@openssh\.com|ssh-rsa) +[A-Za-z0-9+/]{40,4000}={0,2})( .*)?\r?$/.exec(line);
    if (m === null) return void wrong.push({ line: at, why: 'is not NAME [OPTIONS] KEYTYPE KEY, with one plain name' });
    const unknown = m[2] === undefined ? undefined : m[2].split(',').find((option) => !/^(namespaces="git"|valid-(after|before)="\d{8}(\d{4}(\d{2})?)?Z?")$/.test(option));
    if (unknown !== undefined) return void wrong.push({ line: at, why: `has the option ${unknown}; there are namespaces="git", valid-after, valid-before` });
    keys.push({ principal: m[1]!, key: m[3]! });
  });
  return { keys, wrong };
}
