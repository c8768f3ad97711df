/** `shoal ci publish`: what a pipeline calls to bring an image to the fleet, and to know how that ended. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import type { Verb, Words } from '../arguments.ts';
import { Checkout } from '../ci/checkout.ts';
import { appFile, appImage, imageOf, type ImageWords, type Publishable } from '../ci/image.ts';
import { publish, type Published } from '../ci/publish.ts';
import { awaitRollout, exitCodes, type Outcome } from '../ci/wait.ts';
import { withController, type Control } from '../control.ts';
import { duration } from '../format.ts';
import type { Terminal } from '../terminal.ts';
import { build } from './build.ts';

const usage = (message: string, hint: string): ShoalError => new ShoalError('USAGE', message, { hint });

async function image(terminal: Terminal, words: Words): Promise<Publishable> {
  const given = words.text('image');
  if (given === undefined) throw usage('`shoal ci publish` needs an image.', 'Give --image FILE, or the name of an app of this checkout.');
  const text = (name: string) => words.text(name);
  const told: ImageWords = { source: text('source') ?? process.cwd(), manifestFile: text('manifest'), name: text('name'), version: text('version'), compiler: text('compiler'), recipe: text('recipe') };
  const app = appFile(given);
  if (app === undefined) return imageOf(given, told);
  await build(terminal, ['unikernels']);
  return appImage(given, app, told);
}

/** Trust in the controller and its token, for git; only where the repository is the controller's own. */
function ownEnv(words: Words, url: string, controller: URL): { env: Record<string, string>; end: () => void } {
  if (!URL.canParse(url) || new URL(url).origin !== controller.origin) return { env: {}, end: () => {} };
  const file = (option: string, variable: string): string => words.text(option) ?? words.env[variable] ?? '';
  const token = readFileSync(file('token-file', 'SHOAL_TOKEN_FILE'), 'utf8').trim();
  const folder = mkdtempSync(join(tmpdir(), 'shoal-ca-'));
  const ca = join(folder, 'ca.pem');
  writeFileSync(ca, readFileSync(file('controller-ca', 'SHOAL_CONTROLLER_CA')), { mode: 0o600 });
  // In the environment: arguments are for everybody to read.
  return {
    env: { GIT_SSL_CAINFO: ca, GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'http.extraHeader', GIT_CONFIG_VALUE_0: `Authorization: Basic ${Buffer.from(`shoal:${token}`).toString('base64')}` },
    end: () => rmSync(folder, { recursive: true, force: true }),
  };
}

async function pushed(terminal: Terminal, words: Words, control: Control, tenant: string, service: string): Promise<Published> {
  const url = words.text('repo') ?? new URL('/git/deploy.git', control.url).href;
  const key = words.text('key') ?? words.env['SHOAL_SIGNING_KEY'];
  if (key === undefined) throw usage('The key that signs is not known.', 'Give --key FILE, or set SHOAL_SIGNING_KEY.');
  const spec = words.text('spec');
  const what = await image(terminal, words);
  const { env, end } = ownEnv(words, url, control.url);
  let checkout: Checkout | undefined;
  try {
    terminal.status('fetching the deployment repository');
    checkout = await Checkout.open({ url, branch: words.text('branch') ?? 'main', key, author: { name: words.text('author') ?? 'shoal ci', email: 'ci@shoal.invalid' }, env });
    terminal.status('pushing');
    return await publish(checkout, {
      tenant,
      service,
      image: what,
      expiryDays: words.number('expires', 90, 1, 3650),
      keep: words.number('keep', 20, 1, 1000),
      rollout: words.text('rollout'),
      spec: spec === undefined ? undefined : readFileSync(spec, 'utf8'),
      nowMs: Date.now,
      onAgain: (attempt) => terminal.status(`pushing; others were first ${attempt} times`),
    });
  } finally {
    terminal.status('');
    await checkout?.close();
    end();
  }
}

export const ciPublish: Verb = {
  name: 'ci publish',
  summary: 'release an image: commit it signed, push, wait for the rollout',
  options: {
    service: { value: 'TENANT/NAME', help: 'whose new release it is' },
    image: { value: 'FILE|APP', help: 'a stripped ELF, or an app of this checkout, which is built' },
    repo: { value: 'URL', help: "deployment repository; the controller's own by default" },
    branch: { value: 'NAME', help: 'main by default' },
    key: { value: 'FILE', help: 'SSH private key that signs; default $SHOAL_SIGNING_KEY' },
    author: { value: 'NAME', help: 'who the commit says it is from' },
    spec: { value: 'FILE', help: "the service's file, for one that is new or changed" },
    rollout: { value: 'NAME', help: 'rollout policy from now on, for example hot-fix' },
    source: { value: 'FOLDER', help: "the image's source repository; here by default" },
    manifest: { value: 'FILE', help: "the image's manifest, instead of the words below" },
    name: { value: 'NAME', help: "of the application; the file's by default" },
    version: { value: 'TEXT', help: 'the source commit by default' },
    compiler: { value: 'TEXT', help: 'version line of the compiler' },
    recipe: { value: 'TEXT', help: 'command that builds it' },
    expires: { value: 'DAYS', help: 'after so long it is not rolled out any more; 90 by default' },
    keep: { value: 'N', help: 'releases whose files stay in the tree; 20 by default; the history has all' },
    'no-wait': { help: 'end when it is pushed' },
    timeout: { value: 'SECONDS', help: 'wait so long at most; 1800 by default' },
  },
  speaksToController: true,
  notes: `Exit code: 0 done; 1 refused or failed before the rollout; ${Object.entries(exitCodes).filter(([, code]) => code > 1).map(([name, code]) => `${code} ${name}`).join('; ')}.\ndocs/walkthroughs/ci.md has a pipeline.`,
  examples: ['shoal ci publish --service acme/web --image build/web.elf --key ci-key --rollout hot-fix'],
  run: (terminal, words) =>
    withController(words, async (control) => {
      const m = /^([a-z0-9-]{1,16})\/([a-z0-9-]{1,28})$/.exec(words.text('service') ?? '');
      if (m === null) throw usage('`shoal ci publish` needs a service.', 'Give it as --service TENANT/NAME.');
      const began = performance.now();
      const { release, commit } = await pushed(terminal, words, control, m[1]!, m[2]!);
      const pushedS = (performance.now() - began) / 1000;
      terminal.note(`pushed release ${release.counter} of ${m[1]}/${m[2]}, ${commit.slice(0, 12)}, in ${duration(pushedS)}`);
      const waiting = performance.now();
      const outcome: Outcome = words.flag('no-wait')
        ? { outcome: 'pushed' }
        : await awaitRollout(control, terminal, release, words.number('timeout', 1800, 1, 86_400) * 1000).catch((error: unknown): never => {
            const { code, message, hint } = asShoalError(error);
            throw new ShoalError(code, `Release ${release.counter} was pushed as ${commit}; how its rollout goes is not known: ${message}`, { hint, cause: error });
          });
      const seconds = Math.round((performance.now() - waiting) / 100) / 10;
      terminal.printJson({ service: `${m[1]}/${m[2]}`, release: release.counter, commit, image: release.image.digest, source: release.image.source.commit, pushedS: Math.round(pushedS * 10) / 10, rolloutS: seconds, ...outcome });
      terminal.print(`${m[1]}/${m[2]} release ${release.counter}: ${outcome.outcome}${outcome.reason === undefined ? '' : `: ${outcome.reason}`}`);
      return exitCodes[outcome.outcome];
    }),
};
