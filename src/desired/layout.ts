/**
 * Where things are in a deployment repository, and how large they may be. Every path means one thing; a path that means nothing is
 * refused, so that a misspelt folder is found by whoever pushes it and not by whoever wonders why nothing runs.
 * docs/formats/deployment-repository.md tells it to people.
 */
import { servicePattern, tenantPattern, wordPattern } from '../model/service.ts';

export type Place =
  | { kind: 'signers' }
  | { kind: 'policy' }
  | { kind: 'service'; tenant: string; service: string }
  | { kind: 'release'; tenant: string; service: string; counter: number }
  | { kind: 'rollout'; name: string }
  | { kind: 'host'; name: string }
  | { kind: 'image'; hex: string }
  /** For people and their CI: Shoal reads nothing of it. */
  | { kind: 'text' };

export const limits = {
  /** Of one JSON file or of `signers`. */
  fileBytes: 64 * 1024,
  /** Of one image, whatever the policy says. */
  imageBytes: 64 * 1024 * 1024,
  /** Of a file for people. */
  textBytes: 1024 * 1024,
  /** Of a commit object, signature included. */
  commitBytes: 64 * 1024,
  /** Of one tree object. */
  treeBytes: 4 * 1024 * 1024,
  /** Files in the tree. */
  files: 200_000,
  /** New commits in one push. */
  commits: 500,
  /** The same of the first push or fetch. */
  firstCommits: 10_000,
  /** Changed files in one push. */
  changes: 20_000,
  reasons: 50,
  /** Clocks of signer and controller may differ by so much. */
  clockMs: 5 * 60_000,
} as const;

const inner = (pattern: string): string => pattern.slice(1, -1);
const forms: [RegExp, (m: RegExpExecArray) => Place][] = [
  [/^signers$/, () => ({ kind: 'signers' })],
  [/^policy\.json$/, () => ({ kind: 'policy' })],
  [new RegExp(`^services/(${inner(tenantPattern)})/(${inner(servicePattern)})\\.json$`), (m) => ({ kind: 'service', tenant: m[1]!, service: m[2]! })],
  [
    new RegExp(`^releases/(${inner(tenantPattern)})/(${inner(servicePattern)})/([1-9]\\d{0,8})\\.json$`),
    (m) => ({ kind: 'release', tenant: m[1]!, service: m[2]!, counter: Number(m[3]) }),
  ],
  [new RegExp(`^rollouts/(${inner(wordPattern)})\\.json$`), (m) => ({ kind: 'rollout', name: m[1]! })],
  [new RegExp(`^hosts/(${inner(wordPattern)})\\.json$`), (m) => ({ kind: 'host', name: m[1]! })],
  [/^images\/([0-9a-f]{64})$/, (m) => ({ kind: 'image', hex: m[1]! })],
  [/^(README\.md|LICENSE|\.gitattributes|\.gitignore|\.gitlab-ci\.yml|(docs|\.github|\.gitea|\.forgejo)\/[\x20-\x7e]+)$/, () => ({ kind: 'text' })],
];

/** What a path means; undefined: nothing. */
export function placeOf(path: string): Place | undefined {
  for (const [form, make] of forms) {
    const m = form.exec(path);
    if (m !== null) return make(m);
  }
  return undefined;
}

export const paths = {
  signers: 'signers',
  policy: 'policy.json',
  service: (tenant: string, service: string): string => `services/${tenant}/${service}.json`,
  release: (tenant: string, service: string, counter: number): string => `releases/${tenant}/${service}/${counter}.json`,
  rollout: (name: string): string => `rollouts/${name}.json`,
  image: (digest: string): string => `images/${digest.slice('sha256:'.length)}`,
};
