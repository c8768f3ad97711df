import test from 'tape';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { machineAptSources, parseAptSources } from '../../../src/lab/apt.ts';

test('apt: classic lines of this release are taken, with and without options', (t) => {
  const text = [
    '# deb http://a.example/debian bookworm main',
    'deb http://a.example/debian bookworm main contrib',
    'deb-src http://a.example/debian bookworm main',
    'deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://s.example/security bookworm-security main # note',
    'deb http://a.example/debian trixie main',
    'deb http://a.example/debian bookworm-backports main',
    'deb [signed-by=/usr/share/keyrings/other.gpg] http://o.example/x bookworm main',
    'deb http://o.example/tool bookworm stable',
  ].join('\n');
  t.deepEqual(parseAptSources('sources.list', text), [
    { uri: 'http://a.example/debian', suite: 'bookworm' },
    { uri: 'http://s.example/security', suite: 'bookworm-security' },
  ]);
  t.end();
});

test('apt: deb822 paragraphs, several suites and addresses, disabled ones left out', (t) => {
  const text = `Types: deb deb-src
# a comment
URIs: http://a.example/debian
 http://b.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://c.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: http://d.example/node
Suites: nodistro
Components: main
Signed-By: /usr/share/keyrings/node.gpg
`;
  t.deepEqual(parseAptSources('debian.sources', text), [
    { uri: 'http://a.example/debian', suite: 'bookworm' },
    { uri: 'http://a.example/debian', suite: 'bookworm-updates' },
    { uri: 'http://b.example/debian', suite: 'bookworm' },
    { uri: 'http://b.example/debian', suite: 'bookworm-updates' },
  ]);
  t.end();
});

test('apt: a machine without a source for the release is refused, duplicates count once', (t) => {
  const etc = mkdtempSync(join(tmpdir(), 'shoal-apt-'));
  t.throws(() => machineAptSources(etc), /no source for Debian bookworm/);
  mkdirSync(join(etc, 'sources.list.d'));
  writeFileSync(join(etc, 'sources.list'), 'deb http://a.example/debian bookworm main\n');
  writeFileSync(join(etc, 'sources.list.d/more.list'), 'deb http://a.example/debian bookworm main\n');
  writeFileSync(join(etc, 'sources.list.d/more.list.save'), 'deb http://saved.example/debian bookworm main\n');
  t.deepEqual(machineAptSources(etc), [{ uri: 'http://a.example/debian', suite: 'bookworm' }]);
  rmSync(etc, { recursive: true });
  t.end();
});
