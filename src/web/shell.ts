/** The frame around the pages: where one can go, the filter box, whether the picture is live; and which page is shown. */
import type { Api } from './api.ts';
import type { App, Page, Question } from './app.ts';
import { busy, confirm, Messages } from './ask.ts';
import { h, setAttribute, setText, show } from './dom.ts';
import { parseFilter } from './filter.ts';
import { count } from './format.ts';
import { Live, type LinkState } from './live.ts';
import { FleetModel } from './model.ts';
import { eventsPage } from './page-events.ts';
import { fleetPage } from './page-fleet.ts';
import { hostPage, hostsPage } from './page-hosts.ts';
import { servicePage, servicesPage } from './page-services.ts';
import { tasksPage } from './page-tasks.ts';
import { vmPage } from './page-vm.ts';
import { empty, heading } from './parts.ts';
import { hashOf, parseRoute, type Route } from './route.ts';
import { may } from './standing.ts';
import { themeButton } from './theme.ts';
import type { Who } from './types.ts';

const pages: Record<Route['page'], (app: App) => Page> = {
  fleet: fleetPage,
  hosts: hostsPage,
  host: hostPage,
  services: servicesPage,
  service: servicePage,
  tasks: tasksPage,
  events: eventsPage,
  vm: vmPage,
  none: () => ({
    title: 'Not found',
    element: h('div', {}, heading('Not found'), empty('There is no such page', 'Take one of those above.')),
    update: () => {},
  }),
};
const places = [
  ['fleet', 'Fleet', ['vm']],
  ['hosts', 'Hosts', ['host']],
  ['services', 'Services', ['service']],
  ['tasks', 'Tasks', []],
  ['events', 'Events', []],
] as const;
/** Times on the page go on without news. */
const tickMs = 5000;

export class Shell {
  readonly element: HTMLElement;
  readonly #app: App;
  readonly #live: Live;
  readonly #messages = new Messages();
  readonly #main = h('main', { id: 'main' });
  readonly #filter: HTMLInputElement;
  readonly #link = h('span.link', { role: 'status' });
  readonly #retry: HTMLElement;
  readonly #tasks = h('span.badge');
  readonly #links = new Map<string, HTMLElement>();
  readonly #end = new AbortController();
  readonly #ticker: ReturnType<typeof setInterval>;
  #page: Page | undefined;
  #frame = 0;
  #shownHash = '';

  constructor(api: Api, who: Who, signOut: () => void) {
    const model = new FleetModel();
    this.#app = {
      api,
      model,
      who,
      route: parseRoute(location.hash),
      terms: [],
      filterText: '',
      setFilter: (text) => {
        this.#filter.value = text;
        this.#filtered();
      },
      setQuery: (name, value) => this.#setQuery(name, value),
      go: (hash) => void (location.hash = hash),
      refresh: () => this.refresh(),
      say: (text) => this.#messages.say(text),
      complain: (error) => this.#messages.complain(error),
      act: (button, question, work) => this.#act(button, question, work),
    };
    this.#filter = h('input', {
      type: 'search',
      'aria-label': 'Filter',
      spellcheck: 'false',
      autocomplete: 'off',
      maxlength: 200,
      oninput: () => this.#filtered(),
    });
    const nav = h('nav', { 'aria-label': 'Pages' });
    for (const [page, name] of places) {
      if (page === 'hosts' && !may(who, 'seeHosts')) continue;
      const link = h('a', { href: hashOf(page) }, name, page === 'tasks' && this.#tasks);
      this.#links.set(page, link);
      nav.append(link);
    }
    this.#retry = h('button.quiet', { type: 'button', hidden: true, onclick: () => this.#live.retry() }, 'Try now');
    const whose = who.tenant === undefined ? who.role : `${who.role} of ${who.tenant}`;
    const header = h(
      'header',
      {},
      h('a.home', { href: '#/fleet', 'aria-label': 'Shoal, the fleet' }, h('img', { src: 'icon.svg', alt: '' }), h('span', {}, 'Shoal')),
      nav,
      h('div.search', {}, this.#filter),
      h('div.end', {}, this.#link, this.#retry, themeButton(() => this.refresh()), h('button.quiet', { type: 'button', title: `Signed in as ${whose}`, onclick: signOut }, 'Sign out')),
    );
    const footer = h('footer', {}, `${whose} · fleet ${who.fleet} · version ${who.version}`);
    const skip = h('a.skip', { href: '#main', onclick: (event: Event) => (event.preventDefault(), this.#main.querySelector('h1')?.focus()) }, 'Skip to the page');
    this.element = h('div.shell', {}, skip, header, this.#main, footer, this.#messages.element);
    const { signal } = this.#end;
    addEventListener('hashchange', () => this.#navigate(true), { signal });
    addEventListener('resize', () => this.refresh(), { signal });
    addEventListener('keydown', (event) => this.#shortcut(event), { signal });
    this.#ticker = setInterval(() => this.refresh(), tickMs);
    this.#live = new Live(api, model, who, (link) => this.#linked(link));
  }

  /** Called when the element is in the document. */
  open(): void {
    this.#navigate(false);
  }

  close(): void {
    this.#live.close();
    this.#end.abort();
    clearInterval(this.#ticker);
    cancelAnimationFrame(this.#frame);
    this.#page?.close?.();
    this.#app.model.clear();
  }

  /** However much changes, once a frame; at once where frames are not drawn. */
  refresh(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw(): void {
    let running = 0;
    for (const { status } of this.#app.model.tasks.values()) if (status === 'running') running++;
    setText(this.#tasks, running === 0 ? '' : count(running));
    try {
      this.#page?.update();
    } catch (error) {
      console.error(error);
    }
  }

  #navigate(byHand: boolean): void {
    const route = parseRoute(location.hash);
    if (byHand && location.hash === this.#shownHash) return;
    this.#shownHash = location.hash;
    this.#page?.close?.();
    this.#app.route = route;
    this.#filter.value = route.query['q'] ?? '';
    this.#takeFilter();
    const page = (this.#page = pages[route.page](this.#app));
    document.title = `${page.title} · Shoal`;
    this.#main.replaceChildren(page.element);
    for (const [name, , parts] of places) {
      const here = name === route.page || (parts as readonly string[]).includes(route.page);
      const link = this.#links.get(name);
      if (link !== undefined) setAttribute(link, 'aria-current', here ? 'page' : undefined);
    }
    show(this.#filter, page.filters !== undefined);
    setAttribute(this.#filter, 'placeholder', `Filter: ${page.filters ?? ''}`);
    if (byHand) {
      scrollTo(0, 0);
      page.element.querySelector('h1')?.focus({ preventScroll: true });
    }
    this.#draw();
  }

  #filtered(): void {
    this.#takeFilter();
    this.#setQuery('q', this.#filter.value.trim());
    this.refresh();
  }

  #takeFilter(): void {
    this.#app.filterText = this.#filter.value;
    this.#app.terms = parseFilter(this.#filter.value);
  }

  #setQuery(name: string, value: string): void {
    const { route } = this.#app;
    route.query[name] = value;
    const path = location.hash.replace(/^#\/?/, '').split('?')[0]! || 'fleet';
    const hash = hashOf(decodeURIComponent(path), route.query);
    history.replaceState(null, '', hash);
    this.#shownHash = location.hash;
  }

  #shortcut(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    if (event.key === '/' && !event.ctrlKey && !event.metaKey && !target.matches('input, textarea, select') && !this.#filter.hidden) {
      event.preventDefault();
      this.#filter.focus();
      this.#filter.select();
    } else if (event.key === 'Escape' && target === this.#filter) {
      this.#filter.value = '';
      this.#filtered();
      this.#main.querySelector('canvas')?.focus();
    }
  }

  #linked(link: LinkState): void {
    setAttribute(this.#link, 'data-state', link.state);
    setText(this.#link, link.state === 'live' ? 'Live' : link.state === 'connecting' ? 'Connecting' : 'Not connected');
    setAttribute(this.#link, 'title', link.state === 'lost' ? `${link.problem.message} ${link.problem.hint} It is tried again by itself.` : undefined);
    show(this.#retry, link.state === 'lost');
    this.refresh();
  }

  async #act(button: HTMLButtonElement, question: Question | undefined, work: () => Promise<string>): Promise<void> {
    if (question !== undefined && !(await confirm(question))) return button.focus();
    try {
      this.#messages.say(await busy(button, work));
    } catch (error) {
      this.#messages.complain(error);
    }
  }
}
