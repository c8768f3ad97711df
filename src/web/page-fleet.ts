/** The whole fleet as one live picture, with how many stand how, and the VMs that the filter found. */
import type { App, Page } from './app.ts';
import { h, setAttribute, setText, show } from './dom.ts';
import { matches } from './filter.ts';
import { count, plural } from './format.ts';
import { Picture } from './picture.ts';
import { empty, heading, standingPart, Table, text } from './parts.ts';
import { hostHash, serviceHash, vmHash } from './route.ts';
import { may, meaning, standings } from './standing.ts';
import type { Vm } from './types.ts';

const kinds = [...standings, 'outdated'] as const;
type Kind = (typeof kinds)[number];
const always: readonly Kind[] = ['ready', 'starting', 'failed'];
export const noService = 'no service';
export const serviceOf = (vm: Vm): string => (vm.service === undefined ? noService : `${vm.tenant}/${vm.service}`);
const listedAtMost = 200;

export function fleetPage(app: App): Page {
  const { model } = app;
  let by = app.route.query['by'] === 'service' ? 'service' : 'host';
  const summary = h('p.summary');
  const chips = new Map<Kind, { element: HTMLButtonElement; number: HTMLElement }>();
  const legend = h('div.legend', { role: 'group', 'aria-label': 'Show only' });
  for (const kind of kinds) {
    const number = h('b');
    const element = h(
      'button.chip',
      { type: 'button', title: kind === 'outdated' ? 'made from the spec as it was before' : meaning[kind], onclick: () => toggle(kind) },
      h(`i.dot.${kind}`),
      kind,
      number,
    );
    chips.set(kind, { element, number });
    legend.append(element);
  }
  const word = (kind: Kind): string => `state:${kind}`;
  function toggle(kind: Kind): void {
    const words = app.filterText.split(/\s+/).filter((each) => each !== '');
    const rest = words.filter((each) => !each.startsWith('state:'));
    app.setFilter((words.includes(word(kind)) ? rest : [...rest, word(kind)]).join(' '));
  }

  const place = h('div');
  let picture = makePicture();
  function makePicture(): Picture {
    const made = new Picture(app, {
      vms: () => model.vms.values(),
      groupOf: by === 'host' ? (vm) => vm.host : serviceOf,
      hrefOf: (group) =>
        by === 'service' ? (group === noService ? undefined : serviceHash(group)) : may(app.who, 'seeHosts') ? hostHash(group) : undefined,
      label: `The fleet by ${by}`,
      last: noService,
    });
    place.replaceChildren(made.element);
    return made;
  }
  const choices = (['host', 'service'] as const).map((each) => {
    const element = h('button', { type: 'button', onclick: () => choose(each) }, `by ${each}`);
    return { each, element };
  });
  function choose(next: string): void {
    if (next === by) return;
    by = next;
    app.setQuery('by', by === 'host' ? '' : by);
    picture.close();
    picture = makePicture();
    update();
  }

  const found = new Table<Vm>('VMs that match', vmColumns(app), ({ id }) => id);
  const foundTitle = h('h2');
  const list = h('section', { hidden: true }, foundTitle, found.element);
  const nothing = h('div');
  const shown = h('div', {}, legend, place, list);
  const element = h(
    'div',
    {},
    heading('Fleet', summary, h('div.segments', { role: 'group', 'aria-label': 'Group' }, ...choices.map((each) => each.element))),
    nothing,
    shown,
  );

  function update(): void {
    const counts: Record<Kind, number> = { ...model.counts(), outdated: 0 };
    for (const vm of model.vms.values()) if (model.isOutdated(vm)) counts.outdated++;
    const services = model.services.size;
    setText(
      summary,
      `${plural(model.vms.size, 'VM')}${model.hosts.size > 0 ? ` on ${plural(model.hosts.size, 'host')}` : ''}, ${plural(services, 'service')}`,
    );
    for (const [kind, { element: chip, number }] of chips) {
      setText(number, count(counts[kind]));
      const pressed = app.filterText.split(/\s+/).includes(word(kind));
      setAttribute(chip, 'aria-pressed', String(pressed));
      show(chip, counts[kind] > 0 || always.includes(kind) || pressed);
    }
    for (const { each, element: choice } of choices) setAttribute(choice, 'aria-pressed', String(each === by));
    const none = model.vms.size === 0;
    show(shown, !none);
    if (none !== nothing.hasChildNodes() || none) nothing.replaceChildren(...(none ? [why(app)] : []));
    if (none) return;
    picture.update();
    const filtered = app.terms.length > 0;
    show(list, filtered);
    if (!filtered) return;
    const all = [...model.vms.values()].filter((vm) => matches(app.terms, model.fieldsOf(vm)));
    setText(foundTitle, `${count(all.length)} of ${count(model.vms.size)} match`);
    found.update(all.slice(0, listedAtMost));
  }

  return { title: 'Fleet', element, filters: 'name, host:, service:, state:, ip:', update, close: () => picture.close() };
}

function why(app: App): HTMLElement {
  const { model, who } = app;
  if (!model.loaded) return h('p.none', {}, 'Listing the fleet…');
  if (may(who, 'seeHosts') && model.hosts.size === 0)
    return empty('No hosts yet', 'Take a host into the fleet first; its password goes into a file of the folder of credentials.', 'shoal host add host0 https://HOST --certificate host0.pem');
  return empty(
    'Nothing runs yet',
    may(who, 'scale') ? 'Say what is wanted, and the fleet makes it so.' : 'When services are applied, their VMs show here.',
    may(who, 'scale') ? 'shoal apply -f service.json' : undefined,
  );
}

export function vmColumns(app: App): ConstructorParameters<typeof Table<Vm>>[1] {
  return [
    {
      name: 'VM',
      cell: () => {
        const link = h('a');
        return { content: link, update: (vm) => (setText(link, vm.name), setAttribute(link, 'href', vmHash(vm.id))) };
      },
    },
    {
      name: 'State',
      cell: () => {
        const part = standingPart();
        return { content: part.element, update: (vm) => part.update(app.model.standing(vm), app.model.isOutdated(vm) ? ', outdated' : '') };
      },
    },
    text('Host', (vm) => vm.host),
    text('Address', (vm) => vm.addresses.join(', ') || '–', { class: 'code' }),
  ];
}
