/** A host whose clock is hours from the controller's: its certificate may begin in the future, or have ended, as the controller sees it. */
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { XenApiLink } from '../../../src/control/links/xenapi.ts';
import type { ShoalError } from '../../../src/model/errors.ts';
import { until } from '../host/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeServer, password } from '../xenapi/rig.ts';

interface Made {
  cert: string;
  key: string;
}

/** Self-signed, or signed by an authority, good between two moments. */
function certificate(folder: string, name: string, fromMs: number, untilMs: number, by?: string): Made {
  const at = (ms: number): string => `${new Date(ms).toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`;
  const file = (ending: string, of = name): string => join(folder, `${of}.${ending}`);
  const subject = `/CN=${by === undefined ? name : 'localhost'}`;
  execFileSync('openssl', ['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', subject, '-keyout', file('key'), '-out', file('csr')], { stdio: 'ignore' });
  writeFileSync(file('index'), '');
  writeFileSync(file('conf'), ['[ca]', 'default_ca = d', '[d]', `database = ${file('index')}`, 'rand_serial = yes', 'default_md = sha256', `new_certs_dir = ${folder}`, 'policy = p', 'x509_extensions = x', '[p]', 'commonName = supplied', '[x]', by === undefined ? 'basicConstraints = CA:TRUE' : 'subjectAltName = DNS:localhost, IP:127.0.0.1', ''].join('\n'));
  const signer = by === undefined ? ['-selfsign', '-keyfile', file('key')] : ['-cert', file('crt', by), '-keyfile', file('key', by)];
  execFileSync('openssl', ['ca', '-batch', '-notext', '-config', file('conf'), '-startdate', at(fromMs), '-enddate', at(untilMs), ...signer, '-in', file('csr'), '-out', file('crt')], { stdio: 'ignore' });
  return { cert: readFileSync(file('crt'), 'utf8'), key: readFileSync(file('key'), 'utf8') };
}

test('the very certificate that was given is right, whatever the clocks say; one that an authority signed has to be good now', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-clocks-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const [hour, now] = [3_600_000, Date.now()];
  const year = 365 * 24 * hour;
  const ahead = certificate(folder, 'ahead', now + 6 * hour, now + year);
  const behind = certificate(folder, 'behind', now - year, now - 6 * hour);
  const authority = certificate(folder, 'authority', now - year, now + year);
  const signed = certificate(folder, 'signed', now - hour, now + year, 'authority');
  const signedAhead = certificate(folder, 'signed-ahead', now + 6 * hour, now + year, 'authority');
  const attempt = async (tls: Made, trust: object): Promise<string> => {
    const rig = await makeServer({ server: { tls } });
    const link = new XenApiLink({ url: rig.url, password, retryMs: 20, pollS: 2, ...trust });
    let outcome: string | undefined;
    link.open({ picture: () => (outcome ??= 'seen'), vm: () => {}, gone: () => {}, host: () => {}, away: (error: ShoalError) => (outcome ??= error.code) });
    await until(() => outcome !== undefined, 'an outcome');
    const sessions = rig.api.sessions.size;
    await link.close();
    await rig.close();
    return sessions === 0 || outcome === 'seen' ? outcome! : `${outcome}, and a password was sent`;
  };
  for (const [what, made] of [['ahead', ahead], ['behind', behind]] as const) {
    t.equal(await attempt(made, { ca: made.cert }), 'seen', `${what}: given whole`);
    t.equal(await attempt(made, { fingerprint: new X509Certificate(made.cert).fingerprint256 }), 'seen', `${what}: by its fingerprint`);
    t.equal(await attempt(made, { ca: cert }), 'CERTIFICATE_MISMATCH', `${what}: another one was given`);
  }
  t.equal(await attempt(signed, { ca: authority.cert }), 'seen', 'signed');
  t.equal(await attempt(signedAhead, { ca: authority.cert }), 'CERTIFICATE_MISMATCH', 'signed, for later');
  t.equal(await attempt(signed, { ca: cert }), 'CERTIFICATE_MISMATCH', 'signed by another');
});
