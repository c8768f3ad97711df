/** `shoal event create|list|describe|end`, and `shoal event run`, the event router they speak to. */
import { resolve, join } from 'node:path';
import { repositoryRoot } from '../../lab/paths.ts';
import { ShoalError } from '../../model/errors.ts';
import type { OptionModel, Verb, Words } from '../arguments.ts';
import { withController, type Control } from '../control.ts';
import { facts, table, count } from '../format.ts';
import type { Terminal } from '../terminal.ts';
import { runNode } from './scripts.ts';

interface EventView {
  id: string;
  state: string;
  url: string;
  name?: string;
  page?: string;
  origin: string;
  min: number;
  max: number;
  until: string;
  caches: { serving: number; total: number };
  statistics: { viewers?: number; hitRatio?: number | null; totalHitRatio?: number | null; bytesSaved?: number; bpsOut?: number; stalls: number | null; peakViewers: number };
  trouble?: { message: string; hint: string };
  edges?: { id: string; place: string; state: string; load: number }[];
}

const routerOptions: Record<string, OptionModel> = {
  events: { value: 'URL', help: 'address of the event router, https://…; default $SHOAL_EVENTS, then https://127.0.0.1:7444' },
  'controller-ca': { value: 'FILE', help: 'certificate to trust for it; default $SHOAL_CONTROLLER_CA' },
  'token-file': { value: 'FILE', help: 'file with a token; default $SHOAL_TOKEN_FILE' },
};

/** The router is spoken to as the controller is, at its own address. */
function withRouter<T>(words: Words, work: (control: Control) => Promise<T>): Promise<T> {
  const url = words.text('events') ?? words.env['SHOAL_EVENTS'] ?? 'https://127.0.0.1:7444';
  return withController({ env: words.env, text: (name) => (name === 'controller' ? url : words.text(name)) }, work);
}

const percent = (n: number | null | undefined): string => (n === null || n === undefined ? '' : `${(100 * n).toFixed(1)} %`);
const mega = (n: number | undefined, unit: string): string => (n === undefined ? '' : `${(n / 1e6).toFixed(1)} ${unit}`);

/** "TENANT/NAME" as a path. */
function pathOf(key: string): string {
  const m = /^([a-z0-9-]{1,16})\/([a-z0-9-]{1,20})$/.exec(key);
  if (m === null) throw new ShoalError('USAGE', `"${key}" is no event.`, { hint: 'Give it as TENANT/NAME.' });
  return `/v1/video-events/${m[1]}/${m[2]}`;
}

function show(terminal: Terminal, event: EventView): void {
  terminal.printJson(event);
  const { statistics: s } = event;
  terminal.print(
    facts(
      [
        ['event', event.id],
        ['state', event.trouble === undefined ? event.state : `${event.state}: ${event.trouble.message}`],
        ['url', event.url],
        ['name', event.name ?? ''],
        ['page', event.page ?? ''],
        ['origin', event.origin],
        ['until', event.until],
        ['caches', `${event.caches.serving} serving of ${event.caches.total}; ${event.min} to ${event.max}`],
        ['viewers', s.viewers === undefined ? `${count(s.peakViewers)} at most` : `${count(s.viewers)}; ${count(s.peakViewers)} at most`],
        ['hit ratio', percent(s.hitRatio ?? s.totalHitRatio)],
        ['saved', mega(s.bytesSaved, 'MB')],
        ['throughput', mega(s.bpsOut, 'Mb/s')],
        ['stalls', s.stalls === null ? '' : count(s.stalls)],
      ],
      terminal.style,
    ),
  );
  if ((event.edges ?? []).length > 0)
    terminal.print(
      table(
        [{ title: 'CACHE' }, { title: 'PLACE' }, { title: 'STATE' }, { title: 'LOAD', align: 'right' }],
        event.edges!.map(({ id, place, state, load }) => [id, place, state, `${Math.round(100 * load)} %`]),
        terminal.style,
      ),
    );
}

/** "2h30m", or a time. */
export function untilIn(text: string, nowMs: number): string {
  const m = /^(?:(\d{1,3})d)?(?:(\d{1,3})h)?(?:(\d{1,4})m)?$/.exec(text);
  if (m !== null && text !== '') return new Date(nowMs + 60_000 * (1440 * Number(m[1] ?? 0) + 60 * Number(m[2] ?? 0) + Number(m[3] ?? 0))).toISOString();
  const at = Date.parse(text);
  if (Number.isNaN(at)) throw new ShoalError('USAGE', `--until is ${text}.`, { hint: 'Give a time, 2026-12-31T22:00:00Z, or how long: 2h30m.' });
  return new Date(at).toISOString();
}

export const eventCreate: Verb = {
  name: 'event create',
  summary: 'make a video event: caches that come, grow and go with it',
  operands: 'NAME',
  operandCount: [1, 1],
  options: {
    origin: { value: 'URL', help: 'http://HOST:PORT that has the video' },
    hosts: { value: 'LABELS', help: 'places, as labels of hosts: place=berlin,place=paris; any host by default' },
    min: { value: 'N', help: 'caches at least; 1 by default' },
    max: { value: 'N', help: 'caches at most; 10 by default' },
    until: { value: 'TIME', help: '2026-12-31T22:00:00Z, or how long: 2h30m' },
    tenant: { value: 'NAME', help: "whose it is; the token's own by default" },
    path: { value: 'PATH', help: 'what is played, at the origin; /index.m3u8 by default' },
    memory: { value: 'KIB', help: 'of a cache; 16,384 by default' },
    'no-shield': { help: 'edges ask the origin themselves' },
    ...routerOptions,
  },
  examples: ['shoal event create final --origin http://10.0.0.5:8080 --path /match/index.m3u8 --hosts place=berlin --min 1 --max 50 --until 3h'],
  run: (terminal, words) =>
    withRouter(words, async (control) => {
      const [origin, until] = [words.text('origin'), words.text('until')];
      if (origin === undefined || until === undefined)
        throw new ShoalError('USAGE', '`shoal event create` needs --origin and --until.', { hint: 'See `shoal help event create`.' });
      const [tenant, path, hosts, memory] = ['tenant', 'path', 'hosts', 'memory'].map((name) => words.text(name));
      const made = await control.call<EventView>('POST', '/v1/video-events', {
        name: words.operands[0],
        origin,
        until: untilIn(until, Date.now()),
        ...(tenant === undefined ? {} : { tenant }),
        ...(path === undefined ? {} : { path }),
        ...(hosts === undefined ? {} : { hosts: hosts.split(',') }),
        min: words.number('min', 1, 1, 1000),
        max: words.number('max', 10, 1, 1000),
        ...(memory === undefined ? {} : { memoryKib: words.number('memory', 16_384, 4096, 67_108_864) }),
        ...(words.flag('no-shield') ? { shield: false } : {}),
      });
      show(terminal, made);
    }),
};

export const eventList: Verb = {
  name: 'event list',
  summary: 'list video events',
  options: { tenant: { value: 'NAME', help: 'only this one' }, ...routerOptions },
  run: (terminal, words) =>
    withRouter(words, async (control) => {
      const tenant = words.text('tenant');
      const { items } = await control.call<{ items: EventView[] }>('GET', `/v1/video-events${tenant === undefined ? '' : `?tenant=${encodeURIComponent(tenant)}`}`);
      terminal.printJson({ items });
      terminal.print(
        table(
          [{ title: 'EVENT' }, { title: 'STATE' }, { title: 'VIEWERS', align: 'right' }, { title: 'CACHES', align: 'right' }, { title: 'HITS', align: 'right' }, { title: 'UNTIL' }, { title: 'URL' }],
          items.map(({ id, state, statistics: s, caches, until, url }) => [id, state, count(s.viewers ?? 0), String(caches.serving), percent(s.hitRatio ?? s.totalHitRatio), until.slice(0, 16), url]),
          terminal.style,
        ),
      );
    }),
};

const onEvent = (name: string, summary: string, method: string): Verb => ({
  name,
  summary,
  operands: 'TENANT/NAME',
  operandCount: [1, 1],
  options: routerOptions,
  run: (terminal, words) => withRouter(words, async (control) => show(terminal, await control.call<EventView>(method, pathOf(words.operands[0]!)))),
});

export const eventDescribe = onEvent('event describe', 'show one video event, with its page and its caches', 'GET');
export const eventEnd = onEvent('event end', 'end a video event with all its caches', 'DELETE');

export const eventRun: Verb = {
  name: 'event run',
  summary: 'run the event router: it steers caches and sends viewers to them',
  operands: 'CONFIG',
  operandCount: [1, 1],
  notes: 'CONFIG: JSON; docs/formats/event.md has its fields.',
  run: (_terminal, words) => runNode(['--enable-source-maps', '--import', 'tsx', join(repositoryRoot, 'src/main/events.ts'), resolve(words.operands[0]!)], repositoryRoot),
};
