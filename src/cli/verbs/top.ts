/** `shoal top`: hosts and services as they are, drawn anew every two seconds until Ctrl-C; once where nobody looks. */
import type { Verb } from '../arguments.ts';
import { withController } from '../control.ts';
import { kib, table } from '../format.ts';

const everyMs = 2000;
const bar = (part: number, width = 20): string => {
  const full = Math.round(Math.max(0, Math.min(1, part)) * width);
  return '#'.repeat(full) + '.'.repeat(width - full);
};

type Item = Record<string, any>;

export const top: Verb = {
  name: 'top',
  summary: 'watch hosts and services',
  speaksToController: true,
  run: (terminal, words) =>
    withController(words, async (control) => {
      let ended = false;
      let wake = (): void => {};
      const end = (): void => {
        ended = true;
        wake();
      };
      process.once('SIGINT', end);
      while (!ended) {
        const services = await control.list<Item>('/v1/services');
        // A tenant sees no hosts.
        const hosts = await control.list<Item>('/v1/hosts').catch(() => []);
        terminal.printJson({ hosts, services });
        const memory = (h: Item): string =>
          `${bar(1 - h['freeKib'] / Math.max(1, h['totalKib']))} ${kib(h['totalKib'] - h['freeKib'])} of ${kib(h['totalKib'])}`;
        const copies = (s: Item): string =>
          `${bar(s['copies'].ready / Math.max(1, s['copies'].wanted))} ${s['copies'].ready} of ${s['copies'].wanted}`;
        const parts = [
          table(
            [
              { title: 'HOST' },
              { title: 'STATE' },
              { title: 'VMS', align: 'right' },
              { title: 'QUEUED', align: 'right' },
              { title: 'MEMORY' },
            ],
            hosts.map((h) => [h['id'], h['drained'] ? 'drained' : h['state'], String(h['vms']), String(h['queued']), memory(h)]),
            terminal.style,
          ),
          table(
            [{ title: 'SERVICE' }, { title: 'READY' }, { title: 'NOTE' }],
            services.map((s) => [s['id'], copies(s), s['notes'][0]?.text ?? '']),
            terminal.style,
          ),
        ];
        if (terminal.interactive && !terminal.json) terminal.raw('\x1b[H\x1b[2J');
        terminal.print(parts.join('\n\n'));
        if (!terminal.interactive) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
          setTimeout(resolve, everyMs);
        });
      }
    }),
};
