/**
 * Who may import whom (docs/design/0001-house.md). Every folder may import `model`; the table says what else. A folder that is
 * not in the table fails, so that a new one gets its rule with its first file.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const src = join(root, 'src');

/** place -> places it may import besides itself and model; `node` says whether Node's own modules are allowed. */
const rules: Record<string, { may: string[]; node: boolean; packages?: string[] }> = {
  model: { may: [], node: true },
  'hypervisor/port.ts': { may: [], node: false },
  'hypervisor/xen': { may: ['hypervisor/port.ts'], node: true },
  'hypervisor/sim': { may: ['hypervisor/port.ts'], node: true },
  image: { may: [], node: true },
  bundle: { may: ['image'], node: true },
  journal: { may: [], node: true },
  plan: { may: [], node: false },
  place: { may: [], node: false },
  // What both ends of a migration agree on; the rest of the folder steers them.
  'migrate/table.ts': { may: [], node: false },
  'migrate/wire.ts': { may: [], node: false },
  'migrate/estimate.ts': { may: [], node: false },
  rollout: { may: [], node: false },
  host: { may: ['image', 'journal', 'hypervisor/port.ts', 'migrate/estimate.ts', 'migrate/table.ts', 'migrate/wire.ts'], node: true },
  xenapi: { may: ['host', 'image'], node: true },
  schema: { may: [], node: false, packages: ['ajv'] },
  // The one reader of the deployment repository; an image is looked at before it is accepted.
  desired: { may: ['image', 'schema'], node: true, packages: ['ajv', 'isomorphic-git', 'piscina'] },
  control: { may: ['desired', 'plan', 'place', 'rollout', 'journal', 'image', 'schema', 'xenapi'], node: true, packages: ['@fastify/static', 'ajv', 'fastify', 'undici', 'xen-api'] },
  // It runs in a browser.
  web: { may: [], node: false },
  'cache/store': { may: [], node: true },
  cache: { may: ['control', 'cache/route', 'schema'], node: true, packages: ['@fastify/static', 'dns-packet', 'fastify', 'piscina'] },
  'cache/route': { may: [], node: true, packages: ['dns-packet'] },
  mptcp: { may: [], node: true },
  migrate: { may: ['control', 'journal', 'mptcp'], node: true },
  summon: { may: ['control', 'cache/route'], node: true, packages: ['dns-packet', 'undici'] },
  setup: { may: [], node: true },
  lab: { may: ['setup'], node: true },
  cli: { may: ['bundle', 'cache/store', 'desired', 'image', 'lab', 'migrate', 'mptcp', 'setup', 'xenapi'], node: true, packages: ['xen-api'] },
  main: { may: ['*'], node: true },
};

/** Longest rule that covers a path below src. */
function placeOf(path: string): string | undefined {
  return Object.keys(rules)
    .filter((place) => path === place || path.startsWith(`${place}/`))
    .sort((a, b) => b.length - a.length)[0];
}

/** Module specifiers of static and dynamic imports, type imports included. */
export function importsOf(text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  const forms = [/\bfrom\s+['"]([^'"]+)['"]/g, /\bimport\s+['"]([^'"]+)['"]/g, /\bimport\(\s*['"]([^'"]+)['"]\s*\)/g];
  return forms.flatMap((form) => [...code.matchAll(form)].map((m) => m[1]!));
}

/** What a file at `path` (below src, slashes) may not import, one sentence each. */
export function violations(path: string, text: string): string[] {
  const place = placeOf(path);
  if (place === undefined) return [`${path}: no rule for this folder`];
  const rule = rules[place]!;
  if (rule.may.includes('*')) return [];
  const found: string[] = [];
  for (const specifier of importsOf(text)) {
    if (specifier.startsWith('node:')) {
      if (!rule.node) found.push(`${path} imports ${specifier}: ${place} is pure`);
    } else if (specifier.startsWith('.')) {
      const target = relative(src, resolve(src, dirname(path), specifier))
        .split(sep)
        .join('/');
      const targetPlace = placeOf(target);
      if (targetPlace === 'main') found.push(`${path} imports ${target}: main is imported by nothing`);
      else if (targetPlace !== place && targetPlace !== 'model' && !rule.may.includes(targetPlace ?? '')) {
        found.push(`${path} imports ${target}: ${place} may not import ${targetPlace ?? 'that'}`);
      }
    } else if (!(rule.packages ?? []).includes(specifier)) {
      found.push(`${path} imports the package ${specifier}: ${place} may not`);
    }
  }
  return found;
}

function sources(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => name.split(sep).join('/'));
}

test('the checker sees forbidden imports of each kind', (t) => {
  t.equal(violations('hypervisor/port.ts', "import { a } from 'node:fs';").length, 1, 'node in a pure place');
  t.equal(violations('host/a.ts', "import type { A } from '../hypervisor/xen/a.ts';").length, 1, 'an adapter from host');
  t.equal(violations('model/a.ts', "const a = await import('../lab/lab.ts');").length, 1, 'dynamic import');
  t.equal(violations('lab/a.ts', "import '../main/agent.ts';").length, 1, 'main');
  t.equal(violations('host/a.ts', "import x from 'lodash';").length, 1, 'a package');
  t.equal(violations('nowhere/a.ts', '').length, 1, 'a folder without a rule');
  t.equal(
    violations('host/a.ts', "import { b } from './b.ts';\nimport { E } from '../model/errors.ts';").length,
    0,
    'the allowed',
  );
  t.end();
});

test('every source file keeps to the import rules', (t) => {
  const files = sources(src);
  t.ok(files.length > 0, 'there are sources');
  const found = files.flatMap((file) => violations(file, readFileSync(join(src, file), 'utf8')));
  t.deepEqual(found, [], 'no violations');
  t.end();
});
