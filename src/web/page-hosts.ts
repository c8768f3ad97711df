/** Hosts: memory, load, state, drain; and one host with its own part of the picture. */
import type { App, Page } from './app.ts';
import { h, setAttribute, setText, show } from './dom.ts';
import { matches } from './filter.ts';
import { count, kib, plural, since } from './format.ts';
import { Picture } from './picture.ts';
import { bar, button, empty, facts, heading, Table, text, type Column } from './parts.ts';
import { noService, serviceOf } from './page-fleet.ts';
import { hostHash, serviceHash } from './route.ts';
import { may } from './standing.ts';
import type { Host } from './types.ts';

const path = (host: Host, more = ''): string => `/v1/hosts/${encodeURIComponent(host.id)}${more}`;
const stateOf = (host: Host): string => (host.drained ? `${host.state}, drained` : host.state);

function hostState(): { content: HTMLElement; update(host: Host): void } {
  const dot = h('i.dot');
  const words = h('span');
  return {
    content: h('span.standing', {}, dot, words),
    update: (host) => {
      dot.className = `dot ${host.state === 'up' ? (host.drained ? 'paused' : 'ready') : 'failed'}`;
      setText(words, host.awaySince === undefined ? stateOf(host) : `${stateOf(host)} for ${since(host.awaySince, Date.now())}`);
    },
  };
}

function memory(): { content: HTMLElement; update(host: Host): void } {
  const part = bar('Memory in use');
  return {
    content: part.element,
    update: ({ totalKib, freeKib }) => {
      const used = totalKib === 0 ? 0 : 1 - freeKib / totalKib;
      part.update(used, totalKib === 0 ? 'not known' : `${kib(freeKib)} of ${kib(totalKib)} free`, used > 0.9 ? 'warn' : 'plain');
    },
  };
}

function drainButton(app: App, host: () => Host): HTMLButtonElement {
  return button('Drain', (self) => {
    const now = host();
    void app.act(
      self,
      now.drained
        ? undefined
        : {
            title: `Drain ${now.id}?`,
            text: `Its ${plural(now.vms, 'VM')} are made anew on other hosts, and no new ones come until it is taken back.`,
            yes: 'Drain',
          },
      async () => {
        await app.api.call('POST', path(now, now.drained ? '/undrain' : '/drain'));
        return now.drained ? `${now.id} takes VMs again.` : `${now.id} is being drained.`;
      },
    );
  });
}

const drainWords = (host: Host): string => (host.drained ? 'Take back' : 'Drain');

export function hostsPage(app: App): Page {
  const { model } = app;
  const summary = h('p.summary');
  const columns: Column<Host>[] = [
    {
      name: 'Host',
      cell: () => {
        const link = h('a');
        return { content: link, update: (host) => (setText(link, host.id), setAttribute(link, 'href', hostHash(host.id))) };
      },
    },
    { name: 'State', cell: hostState },
    { name: 'Memory', cell: memory },
    text('VMs', (host) => count(host.vms), { number: true }),
    text('VIFs', (host) => `${count(host.vifs)} of ${count(host.maxVifs)}`, { number: true }),
    text('Queue', (host) => count(host.queued), { number: true }),
    text('Labels', (host) => labelsOf(host)),
  ];
  if (may(app.who, 'drain'))
    columns.push({
      name: 'Action',
      cell: () => {
        let now: Host;
        const drain = drainButton(app, () => now);
        return {
          content: drain,
          update: (host) => {
            now = host;
            setText(drain, drainWords(host));
            setAttribute(drain, 'aria-label', `${drainWords(host)} ${host.id}`);
          },
        };
      },
    });
  const table = new Table<Host>('Hosts', columns, ({ id }) => id);
  const nothing = h('div', {}, empty('No hosts yet', 'Take a host into the fleet.', 'shoal host add host0 https://HOST --certificate host0.pem'));
  return {
    title: 'Hosts',
    element: h('div', {}, heading('Hosts', summary), nothing, table.element),
    filters: 'name, state:, label:',
    update: () => {
      const hosts = [...model.hosts.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
      const up = hosts.filter((host) => host.state === 'up').length;
      setText(summary, model.loaded ? `${count(up)} of ${count(hosts.length)} reached` : 'Listing…');
      show(nothing, model.loaded && hosts.length === 0);
      show(table.element, hosts.length > 0);
      table.update(hosts.filter((host) => matches(app.terms, { name: host.id, state: stateOf(host), label: labelsOf(host), url: host.url })));
    },
  };
}

const labelsOf = (host: Host): string => Object.entries(host.labels).map(([name, value]) => `${name}=${value}`).join(', ') || '–';

export function hostPage(app: App): Page {
  const { model } = app;
  const { id } = app.route;
  const state = hostState();
  const used = memory();
  const drain = drainButton(app, () => model.hosts.get(id)!);
  const list = facts();
  const trouble = h('div.trouble', { role: 'status', hidden: true });
  const picture = new Picture(app, {
    vms: function* () {
      for (const vm of model.vms.values()) if (vm.host === id) yield vm;
    },
    groupOf: serviceOf,
    hrefOf: (group) => (group === noService ? undefined : serviceHash(group)),
    label: `VMs of ${id}`,
    last: noService,
  });
  const shown = h('div', {}, trouble, h('div.panel', {}, used.content, list.element), h('h2', {}, 'Its VMs by service'), picture.element);
  const missing = h('div', { hidden: true }, empty(`There is no host ${id}`, 'It may have been taken out of the fleet. See Hosts for those there are.'));
  return {
    title: id,
    element: h('div', {}, heading(id, state.content, may(app.who, 'drain') && h('div.actions', {}, drain)), missing, shown),
    filters: 'name, service:, state:, ip:',
    update: () => {
      const host = model.hosts.get(id);
      show(missing, model.loaded && host === undefined);
      show(shown, host !== undefined);
      show(drain, host !== undefined);
      show(state.content, host !== undefined);
      if (host === undefined) return;
      state.update(host);
      used.update(host);
      setText(drain, drainWords(host));
      list.update({
        Address: host.url,
        Software: host.version,
        'Physical CPUs': host.cpuCount === 0 ? '' : String(host.cpuCount),
        VMs: count(host.vms),
        VIFs: `${count(host.vifs)} of ${count(host.maxVifs)}`,
        Queue: count(host.queued),
        Networks: host.networks.join(', '),
        Labels: labelsOf(host),
      });
      const words = [host.error === undefined ? '' : `${host.error.message} ${host.error.hint}`, ...host.shortfalls].filter((each) => each !== '');
      show(trouble, words.length > 0);
      setText(trouble, words.join(' '));
      picture.update();
    },
    close: () => picture.close(),
  };
}
