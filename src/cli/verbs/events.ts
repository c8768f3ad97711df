/** `shoal events`: changes on the host as they happen, one a line, until Ctrl-C. */
import { ShoalError } from '../../model/errors.ts';
import type { Verb, Words } from '../arguments.ts';
import { watchFleet } from '../fleet-events.ts';
import { nearest } from '../format.ts';
import { withHost } from '../target.ts';
import type { Terminal } from '../terminal.ts';
import { namesOfVms } from '../vms.ts';

interface Happening {
  class: string;
  operation: 'add' | 'mod' | 'del';
  ref: string;
  snapshot?: Record<string, unknown>;
}

const watchable = ['VM', 'VIF', 'VM_metrics', 'VM_guest_metrics', 'host', 'host_metrics', 'pool', 'network', 'console', 'task'];
/** Seconds one event.from waits; shorter than what connections are cut off after. */
const waitS = 30;

export const events: Verb = {
  name: 'events',
  summary: 'watch what changes on the host, or with -w in the fleet',
  operands: '[CLASS...]',
  operandCount: [0, watchable.length],
  options: { watch: { short: 'w', help: 'watch the fleet: vm, service, host, task, note, rollout; all by default' } },
  speaksToHost: true,
  speaksToController: true,
  notes: `Classes of a host: ${watchable.join(', ')}; VM by default.`,
  run: (terminal, words) => (words.flag('watch') ? watchFleet(terminal, words) : watchHost(terminal, words)),
};

const watchHost = (terminal: Terminal, words: Words): Promise<void> =>
  withHost(terminal, words, async (client) => {
    const classes = words.operands.length === 0 ? ['VM'] : [...words.operands];
    for (const name of classes) {
      if (watchable.includes(name)) continue;
      const meant = nearest(
        name.toLowerCase(),
        watchable.map((one) => one.toLowerCase()),
      );
      const right = watchable.find((one) => one.toLowerCase() === meant);
      throw new ShoalError('USAGE', `"${name}" is no class.`, {
        hint: right === undefined ? `There are: ${watchable.join(', ')}.` : `Did you mean ${right}?`,
      });
    }
    const ended = new AbortController();
    process.once('SIGINT', () => ended.abort());
    const { token: begin, names } = await namesOfVms(client);
    let token = begin;
    terminal.note('watching; Ctrl-C ends it');
    while (!ended.signal.aborted) {
      const answer = await client
        .call<{ events: Happening[]; token: string }>('event.from', [classes, token, waitS], {
          signal: ended.signal,
          timeoutMs: (waitS + 30) * 1000,
        })
        .catch((error: unknown) => {
          if (ended.signal.aborted) return undefined;
          throw error;
        });
      if (answer === undefined) break;
      for (const { class: name, operation, ref, snapshot } of answer.events) {
        const label = String(snapshot?.['name_label'] ?? snapshot?.['uuid'] ?? names.get(ref) ?? ref);
        terminal.printJson({ class: name, operation, ref, ...(snapshot === undefined ? {} : { snapshot }) });
        const state = snapshot?.['power_state'];
        const paint = operation === 'add' ? terminal.style.green : operation === 'del' ? terminal.style.red : terminal.style.cyan;
        const time = new Date().toISOString().slice(11, 23);
        const what = [terminal.style.dim(time), paint(operation), name.padEnd(7), label, String(state ?? '').toLowerCase()];
        terminal.print(what.join('  ').trimEnd());
        if (operation === 'del') names.delete(ref);
        else names.set(ref, label);
      }
      token = answer.token;
    }
  });
