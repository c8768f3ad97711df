/** A service's rollout on its page: its waves as bars, what failed, the last steps, and the hand on it. */
import type { App } from './app.ts';
import { h, Rows, setText, show } from './dom.ts';
import { date } from './format.ts';
import { bar, button } from './parts.ts';
import { rolloutWords, waveName } from './rollout-words.ts';
import { may } from './standing.ts';
import type { Rollout } from './types.ts';

const ended = (phase: string): boolean => phase === 'done' || phase === 'rolled-back' || phase === 'failed';

const actions: { name: string; label: string; ask: string; when: (phase: string) => boolean; who: 'restart' | 'delete' }[] = [
  { name: 'pause', label: 'Pause', ask: '', when: (phase) => !ended(phase) && phase !== 'paused', who: 'restart' },
  { name: 'resume', label: 'Resume', ask: '', when: (phase) => phase === 'paused', who: 'restart' },
  {
    name: 'promote',
    label: 'Promote',
    ask: 'All copies go to the new release at once, and no gate is asked.',
    when: (phase) => !ended(phase) && phase !== 'promoting',
    who: 'delete',
  },
  {
    name: 'rollback',
    label: 'Roll back',
    ask: 'All copies go back at once to the release that passed before.',
    when: (phase) => phase !== 'rolling-back',
    who: 'restart',
  },
];

export function rolloutBox(app: App, id: string): { element: HTMLElement; update(): void } {
  const words = h('p.summary');
  const path = `/v1/rollouts/${id.split('/').map(encodeURIComponent).join('/')}`;
  const buttons = actions.map((action) => ({
    action,
    element: button(action.label, (self) =>
      void app.act(self, action.ask === '' ? undefined : { title: `${action.label} ${id}?`, text: action.ask, yes: action.label }, async () => {
        await app.api.call('POST', `${path}/${action.name}`, {});
        return `${id}: ${action.label.toLowerCase()}.`;
      }),
    ),
  }));
  const waves = h('div.panel');
  const waveRows = new Rows<{ index: number; of: number; wave: Rollout['waves'][0] }>(
    waves,
    ({ index }) => String(index),
    () => {
      const name = h('span');
      const part = bar('Copies of the wave on the new release');
      return {
        element: h('div', {}, name, part.element),
        update: ({ index, of, wave }) => {
          setText(name, waveName(index, of));
          part.update(wave.copies === 0 ? 1 : wave.ready / wave.copies, `${wave.ready} of ${wave.copies}${wave.begun ? '' : ', to come'}`);
        },
      };
    },
  );
  const steps = h('ul.notes');
  const stepRows = new Rows<Rollout['entries'][0]>(
    steps,
    ({ number }) => String(number),
    () => {
      const element = h('li');
      return {
        element,
        update: (entry) =>
          setText(element, `${date(entry.at)}  release ${entry.release}, ${waveName(entry.wave, entry.wave + 1)}: ${entry.event}, ${entry.phase}${entry.text === '' ? '' : `: ${entry.text}`}`),
      };
    },
  );
  const element = h(
    'section',
    { hidden: true },
    h('h2', {}, 'Rollout'),
    words,
    h('div.actions', {}, ...buttons.filter(({ action }) => may(app.who, action.who)).map((each) => each.element)),
    waves,
    steps,
  );
  return {
    element,
    update: () => {
      const rollout = app.model.rollouts.get(id);
      show(element, rollout !== undefined);
      if (rollout === undefined) return;
      const { failures, failuresAllowed, phase } = rollout;
      setText(words, `${rolloutWords(rollout)}${failures > 0 ? `; ${failures} failed, ${failuresAllowed} allowed` : ''}`);
      for (const { action, element: each } of buttons) show(each, action.when(phase));
      waveRows.update(rollout.waves.map((wave, index) => ({ index, of: rollout.waves.length, wave })));
      stepRows.update([...rollout.entries].reverse().slice(0, 10));
    },
  };
}
