/**
 * What git starts before it takes a push (hooks/pre-receive), and the controller before it takes what it fetched: the new commits are
 * judged by src/desired. It asks nothing over the network and writes nothing but its answer.
 *
 * `receive pre-receive` reads "OLD NEW REF" lines in git's quarantine; refuses by ending with 1 and all reasons on standard error.
 * `receive check REPOSITORY OLD NEW` prints {"reasons": […]} or {"error": …} as JSON.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { asShoalError } from '../model/errors.ts';
import type { Reason } from '../model/service.ts';
import { noObject } from '../desired/objects.ts';
import type { Pusher } from '../desired/policy.ts';
import { verify } from '../desired/verify.ts';

interface Settings {
  branch: string;
  anchor: string;
}

const settingsOf = (repository: string): Settings => JSON.parse(readFileSync(join(repository, 'shoal.json'), 'utf8')) as Settings;

async function preReceive(): Promise<number> {
  const repository = process.cwd();
  const { branch, anchor } = settingsOf(repository);
  const say = ({ path, message, hint }: Reason): void => void process.stderr.write(`shoal: ${path === '' ? 'this push' : path} ${message}\n       ${hint}\n`);
  const pusher = process.env['SHOAL_PUSHER'];
  const updates = readFileSync(0, 'utf8').split('\n').filter((line) => line !== '').map((line) => line.split(' ') as [string, string, string]);
  for (const [before, after, ref] of updates) {
    const reasons =
      ref === `refs/heads/${branch}`
        ? await verify({ repository, before, after, anchor, nowMs: Date.now(), ...(pusher === undefined ? {} : { pusher: JSON.parse(pusher) as Pusher }) })
        : [{ path: '', message: `changes ${ref}.`, hint: `Only refs/heads/${branch} is taken: git push REMOTE HEAD:${branch}` }];
    if (reasons.length === 0) continue;
    for (const reason of reasons) say(reason);
    process.stderr.write(`shoal: refused for ${reasons.length === 1 ? 'this reason' : `these ${reasons.length} reasons`}; nothing was changed.\n`);
    return 1;
  }
  return 0;
}

async function check(repository: string, before: string, after: string): Promise<number> {
  const { anchor } = settingsOf(repository);
  const reasons = await verify({ repository, before: before === '' ? noObject : before, after, anchor, nowMs: Date.now() });
  process.stdout.write(`${JSON.stringify({ reasons })}\n`);
  return 0;
}

const [mode, ...words] = process.argv.slice(2);
try {
  process.exitCode = mode === 'pre-receive' ? await preReceive() : await check(words[0]!, words[1]!, words[2]!);
} catch (thrown) {
  const { message, hint } = asShoalError(thrown);
  if (mode === 'pre-receive') process.stderr.write(`shoal: this push could not be judged: ${message}\n       ${hint}\n`);
  else process.stdout.write(`${JSON.stringify({ error: message })}\n`);
  process.exitCode = 1;
}
