/** Services: what is wanted and what is there, how far an update is, scale, restart, delete; and one service with its picture. */
import type { App, Page } from './app.ts';
import { h, Rows, setAttribute, setText, show } from './dom.ts';
import { matches } from './filter.ts';
import { count, date, kib, plural, shortDigest } from './format.ts';
import { Picture } from './picture.ts';
import { bar, button, empty, facts, heading, Table, text, type Column } from './parts.ts';
import { rolloutBox } from './rollout.ts';
import { hostHash, serviceHash } from './route.ts';
import { may } from './standing.ts';
import type { Service } from './types.ts';

const pathOf = (key: string, more = ''): string => `/v1/services/${key.split('/').map(encodeURIComponent).join('/')}${more}`;

/** How the service stands, in words. */
export function rollOf({ deleting, copies }: Service): string {
  const { wanted, ready, serving, waiting, total } = copies;
  if (deleting) return `being deleted, ${count(total)} left`;
  if (ready === wanted && total === wanted) return 'as wanted';
  if (ready < wanted && serving > ready) return `updating, ${count(wanted - ready)} to go`;
  if (waiting > 0) return `${count(waiting)} waiting`;
  return total > wanted ? `${count(total - wanted)} too many` : `${count(wanted - ready)} to come`;
}

function readyBar(): { content: HTMLElement; update(service: Service): void } {
  const part = bar('Copies that are ready');
  return {
    content: part.element,
    update: ({ copies: { ready, wanted, waiting } }) =>
      part.update(wanted === 0 ? 1 : ready / wanted, `${count(ready)} of ${count(wanted)}`, waiting > 0 ? 'warn' : 'plain'),
  };
}

interface Controls {
  element: HTMLElement;
  update(service: Service): void;
}

function controls(app: App, key: string): Controls {
  const { who, api } = app;
  const number = h('input', { type: 'number', min: 0, max: 10_000, step: 1, required: true, inputmode: 'numeric', 'aria-label': `Copies of ${key}` });
  const send = h('button', { type: 'submit', class: 'plain' }, 'Scale');
  let touched = false;
  number.addEventListener('input', () => (touched = true));
  const form = h(
    'form.scale',
    {
      onsubmit: (event: SubmitEvent) => {
        event.preventDefault();
        void app.act(send, undefined, async () => {
          const wanted = Number(number.value);
          await api.call('POST', pathOf(key, '/scale'), { count: wanted });
          touched = false;
          return `${key} is to have ${plural(wanted, 'copy', 'copies')}.`;
        });
      },
    },
    number,
    send,
  );
  const restart = button('Restart', (self) =>
    void app.act(
      self,
      { title: `Restart ${key}?`, text: 'Every copy is replaced by a new one, as many at once as an update may.', yes: 'Restart' },
      async () => {
        await api.call('POST', pathOf(key, '/restart'));
        return `${key} is being restarted.`;
      },
    ),
  );
  const remove = button(
    'Delete',
    (self) => {
      const copies = app.model.services.get(key)?.copies.total ?? 0;
      void app.act(
        self,
        { title: `Delete ${key}?`, text: `The service ends with its ${plural(copies, 'VM')}. Until they are gone the task can be cancelled.`, yes: 'Delete' },
        async () => {
          await api.call('DELETE', pathOf(key));
          return `${key} is being deleted.`;
        },
      );
    },
    'danger',
  );
  for (const [each, what] of [
    [restart, 'Restart'],
    [remove, 'Delete'],
  ] as const)
    each.setAttribute('aria-label', `${what} ${key}`);
  return {
    element: h('div.actions', {}, may(who, 'scale') && form, may(who, 'restart') && restart, may(who, 'delete') && remove),
    update: ({ spec, deleting }) => {
      if (!touched && document.activeElement !== number && number.value !== String(spec.count)) number.value = String(spec.count);
      for (const each of [number, send, restart, remove]) if (!each.hasAttribute('aria-busy')) each.disabled = deleting;
    },
  };
}

export function servicesPage(app: App): Page {
  const { model } = app;
  const summary = h('p.summary');
  const columns: Column<Service>[] = [
    {
      name: 'Service',
      cell: () => {
        const link = h('a');
        return { content: link, update: ({ id }) => (setText(link, id), setAttribute(link, 'href', serviceHash(id))) };
      },
    },
    { name: 'Ready', cell: readyBar },
    text('State', rollOf),
    text('Memory', ({ spec }) => kib(spec.memoryKib), { number: true }),
    text('Image', ({ spec }) => shortDigest(spec.image), { class: 'code' }),
  ];
  if (may(app.who, 'scale'))
    columns.push({
      name: 'Action',
      cell: () => {
        const place = h('div');
        let made: Controls | undefined;
        return {
          content: place,
          update: (service) => {
            if (made === undefined) place.append((made = controls(app, service.id)).element);
            made.update(service);
          },
        };
      },
    });
  const table = new Table<Service>('Services', columns, ({ id }) => id);
  const nothing = h(
    'div',
    {},
    empty('No services yet', may(app.who, 'scale') ? 'Say what is wanted, and the fleet makes it so.' : 'When services are applied they show here.', may(app.who, 'scale') ? 'shoal apply -f service.json' : undefined),
  );
  return {
    title: 'Services',
    element: h('div', {}, heading('Services', summary), nothing, table.element),
    filters: 'name, tenant:, image:, state:',
    update: () => {
      const services = [...model.services.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
      const fine = services.filter((service) => rollOf(service) === 'as wanted').length;
      setText(summary, model.loaded ? `${count(fine)} of ${count(services.length)} as wanted` : 'Listing…');
      show(nothing, model.loaded && services.length === 0);
      show(table.element, services.length > 0);
      table.update(
        services.filter((service) =>
          matches(app.terms, { name: service.id, tenant: service.spec.tenant, image: `${service.spec.image} ${service.image}`, state: rollOf(service) }),
        ),
      );
    },
  };
}

export function servicePage(app: App): Page {
  const { model } = app;
  const { id } = app.route;
  const ready = readyBar();
  const roll = h('p.summary');
  const part = controls(app, id);
  const list = facts();
  const notes = h('ul.notes');
  const noteRows = new Rows<Service['notes'][0]>(
    notes,
    ({ slot }) => String(slot),
    () => {
      const element = h('li');
      return { element, update: (note) => setText(element, `Copy ${note.slot}: ${note.text}`) };
    },
  );
  const noteBox = h('section', { hidden: true }, h('h2', {}, 'Not as it should be'), notes);
  const picture = new Picture(app, {
    vms: function* () {
      for (const vm of model.vms.values()) if (vm.service !== undefined && `${vm.tenant}/${vm.service}` === id) yield vm;
    },
    groupOf: (vm) => vm.host,
    hrefOf: (host) => (may(app.who, 'seeHosts') ? hostHash(host) : undefined),
    label: `VMs of ${id}`,
  });
  const rollout = rolloutBox(app, id);
  const shown = h('div', {}, h('div.panel', {}, ready.content, list.element), rollout.element, noteBox, h('h2', {}, 'Its VMs by host'), picture.element);
  const missing = h('div', { hidden: true }, empty(`There is no service ${id}`, 'It may have been deleted. See Services for those there are.'));
  return {
    title: id,
    element: h('div', {}, heading(id, roll, part.element), missing, shown),
    filters: 'name, host:, state:, ip:',
    update: () => {
      const service = model.services.get(id);
      show(missing, model.loaded && service === undefined);
      for (const each of [shown, part.element, roll]) show(each, service !== undefined);
      if (service === undefined) return;
      const { spec, image } = service;
      ready.update(service);
      setText(roll, rollOf(service));
      part.update(service);
      rollout.update();
      list.update({
        Image: spec.image,
        Digest: spec.image === image ? '' : image || 'no release has this name',
        'Memory a copy': kib(spec.memoryKib),
        Arguments: spec.args,
        Networks: spec.networks.map(({ name, addresses }) => `${name} (addresses from ${addresses.from})`).join(', '),
        Health: spec.health.kind,
        Placement: `${spec.placement.strategy}${spec.placement.required ? ', never two on one host' : ''}${Object.entries(spec.placement.labels).map(([name, value]) => `, ${name}=${value}`).join('')}`,
        Update: `${plural(spec.update.maxAtOnce, 'copy', 'copies')} at once, ${spec.update.order}`,
        Revision: service.revision,
        Changed: date(service.changed),
      });
      show(noteBox, service.notes.length > 0);
      noteRows.update(service.notes);
      picture.update();
    },
    close: () => picture.close(),
  };
}
