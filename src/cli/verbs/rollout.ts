/** `shoal rollout …`: how far each rollout is, and the operator's hand on it. */
import { ShoalError } from '../../model/errors.ts';
import type { Verb } from '../arguments.ts';
import { withController, type Control } from '../control.ts';
import { facts, table } from '../format.ts';
import type { Terminal } from '../terminal.ts';

interface Shown {
  id: string;
  phase: string;
  release: { counter: number; source: string };
  good?: { counter: number };
  passed: number[];
  mode: string;
  wave: number;
  waves: { copies: number; ready: number; begun: boolean }[];
  failures: number;
  failuresAllowed: number;
  reason: string;
  commit: string;
  entries: { number: number; at: string; event: string; phase: string; wave: number; release: number; text: string }[];
}

const pathOf = (word: string, more = ''): string => {
  const [tenant, name, rest] = word.split('/');
  if (!tenant || !name || rest !== undefined) throw new ShoalError('USAGE', `"${word}" is no service.`, { hint: 'Give it as TENANT/NAME.' });
  return `/v1/rollouts/${encodeURIComponent(tenant)}/${encodeURIComponent(name)}${more}`;
};

const waveWords = ({ waves }: Shown): string => waves.map(({ ready, copies }) => `${ready}/${copies}`).join(' ');
const entryLine = ({ at, release, wave, event, phase, text }: Shown['entries'][0]): string =>
  `${at}  release ${release} wave ${wave}  ${event}: ${phase}${text === '' ? '' : `  ${text}`}`;

function printOne(terminal: Terminal, rollout: Shown): void {
  terminal.printJson(rollout);
  terminal.print(
    facts(
      [
        ['service', rollout.id],
        ['phase', rollout.phase],
        ['release', String(rollout.release.counter)],
        ['source', rollout.release.source],
        ['good', rollout.good === undefined ? 'none' : String(rollout.good.counter)],
        ['passed', rollout.passed.join(' ')],
        ['commit', rollout.commit],
        ['mode', rollout.mode],
        ['waves', waveWords(rollout)],
        ['failures', `${rollout.failures}, ${rollout.failuresAllowed} allowed`],
        ...(rollout.reason === '' ? [] : [['reason', rollout.reason] as [string, string]]),
      ],
      terminal.style,
    ),
  );
  for (const entry of rollout.entries) terminal.print(entryLine(entry));
}

export const rolloutList: Verb = {
  name: 'rollout list',
  summary: 'list rollouts: one a service that came by the deployment repository',
  speaksToController: true,
  run: (terminal, words) =>
    withController(words, async (control) => {
      const items = await control.list<Shown>('/v1/rollouts');
      terminal.printJson(items);
      if (items.length === 0) return terminal.note('No rollouts.');
      const columns = [{ title: 'SERVICE' }, { title: 'RELEASE' }, { title: 'PHASE' }, { title: 'WAVES' }, { title: 'FAILED' }, { title: 'REASON' }];
      const row = (each: Shown): string[] => [each.id, String(each.release.counter), each.phase, waveWords(each), String(each.failures), each.reason];
      terminal.print(table(columns, items.map(row), terminal.style));
    }),
};

export const rolloutShow: Verb = {
  name: 'rollout show',
  summary: 'one rollout: waves, failures, its last steps',
  operands: 'TENANT/NAME',
  operandCount: [1, 1],
  speaksToController: true,
  run: (terminal, words) =>
    withController(words, async (control) => printOne(terminal, await control.call<Shown>('GET', pathOf(words.operands[0]!)))),
};

const act = (name: string, summary: string, more: Partial<Verb> = {}): Verb => ({
  name: `rollout ${name}`,
  summary,
  operands: 'TENANT/NAME',
  operandCount: [1, 1],
  speaksToController: true,
  ...more,
  run: (terminal, words) =>
    withController(words, async (control) => {
      const to = words.text('to') === undefined ? undefined : words.number('to', 0, 0, Number.MAX_SAFE_INTEGER);
      const rollout = await control.call<Shown>('POST', pathOf(words.operands[0]!, `/${name}`), to === undefined ? {} : { to });
      terminal.printJson(rollout);
      terminal.print(`${rollout.id}: ${rollout.phase}, release ${rollout.release.counter}`);
    }),
});

export const rolloutPause = act('pause', 'replace nothing more until it is resumed');
export const rolloutResume = act('resume', 'go on where it was paused');
export const rolloutAbort = act('abort', 'back to the release before, from wherever it is');
export const rolloutPromote = act('promote', 'all copies to the new release at once, no gate is asked');
export const rolloutRollback = act('rollback', 'all copies back at once, to the release before or another that passed', {
  options: { to: { value: 'COUNTER', help: 'number of a release that passed; `shoal rollout show` lists them' } },
});

const isEnded = ({ phase }: Pick<Shown, 'phase'>): boolean => phase === 'done' || phase === 'rolled-back' || phase === 'failed';

export const rolloutWatch: Verb = {
  name: 'rollout watch',
  summary: 'the steps of rollouts as they happen',
  operands: '[TENANT/NAME]',
  operandCount: [0, 1],
  speaksToController: true,
  notes: 'With a service it ends when its rollout does: with 0 when the release is everywhere, else with 1.',
  run: (terminal, words) => withController(words, (control) => watch(terminal, control, words.operands[0])),
};

async function watch(terminal: Terminal, control: Control, only: string | undefined): Promise<number> {
  const ended = new AbortController();
  process.once('SIGINT', () => ended.abort());
  const told = new Map<string, number>();
  let code = 0;
  const take = (rollout: Shown): void => {
    if (only !== undefined && rollout.id !== only) return;
    for (const entry of rollout.entries) {
      if (entry.number <= (told.get(rollout.id) ?? 0)) continue;
      told.set(rollout.id, entry.number);
      terminal.printJson({ service: rollout.id, ...entry });
      terminal.print(`${only === undefined ? `${rollout.id}  ` : ''}${entryLine(entry)}`);
    }
    if (only === undefined || !isEnded(rollout)) return;
    code = rollout.phase === 'done' ? 0 : 1;
    ended.abort();
  };
  const look = async (): Promise<void> => {
    if (only !== undefined) return take(await control.call<Shown>('GET', pathOf(only)));
    for (const rollout of await control.list<Shown>('/v1/rollouts')) take(rollout);
  };
  // Listens first, then looks: nothing is missed in between.
  let failure: unknown;
  await control.events(['rollout'], ended.signal, ({ kind, data: { data } }) => {
    if (kind === 'hello' || kind === 'reset')
      void look().catch((error: unknown) => {
        failure = error;
        ended.abort();
      });
    else if (data !== undefined) take(data as unknown as Shown);
  });
  if (failure !== undefined) throw failure;
  return code;
}
