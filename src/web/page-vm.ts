/** One VM: what it is, what goes through it, what it writes, and what can be done to it by hand. */
import type { App, Page } from './app.ts';
import { h, setText, show } from './dom.ts';
import { date, kib, since } from './format.ts';
import { button, empty, facts, heading, standingPart } from './parts.ts';
import { hostHash, serviceHash } from './route.ts';
import { may, meaning } from './standing.ts';
import type { Vm } from './types.ts';
import { VmConsole } from './vm-console.ts';
import { VmMetrics } from './vm-metrics.ts';

const doings = [
  { name: 'Start', method: 'POST', path: '/start', done: 'starts', ask: undefined },
  { name: 'Stop', method: 'POST', path: '/stop', done: 'was stopped', ask: 'It ends at once. A service that wants it starts it again.' },
  { name: 'Restart', method: 'POST', path: '/restart', done: 'was restarted', ask: 'It ends at once and begins anew in a fresh domain.' },
  { name: 'Destroy', method: 'DELETE', path: '', done: 'was destroyed', ask: 'It is gone for good. A service that wants it makes another one in its place.' },
] as const;

export function vmPage(app: App): Page {
  const { model } = app;
  const { id } = app.route;
  const standing = standingPart();
  const list = facts();
  const service = h('a');
  const host = may(app.who, 'seeHosts') ? h('a') : h('span');
  const actions = h(
    'div.actions',
    {},
    ...doings.map(({ name, method, path, done, ask }) =>
      button(
        name,
        (self) =>
          void app.act(self, ask === undefined ? undefined : { title: `${name} ${id}?`, text: ask, yes: name }, async () => {
            const answer = await app.api.call<{ note?: string }>(method, `/v1/vms/${encodeURIComponent(id)}${path}`);
            return `${id} ${done}. ${answer.note ?? ''}`.trim();
          }),
        name === 'Destroy' ? 'danger' : 'plain',
      ),
    ),
  );
  const metrics = new VmMetrics(app, id);
  const output = new VmConsole(app, id);
  const shown = h('div', { hidden: true }, h('div.panel', {}, list.element), metrics.element, output.element);
  const missing = h('div', { hidden: true });
  const title = heading(id, standing.element, may(app.who, 'vm') && actions);
  let known = false;

  return {
    title: id,
    element: h('div', {}, title, missing, shown),
    update: () => {
      const vm: Vm | undefined = model.vms.get(id) ?? [...model.vms.values()].find((each) => each.uuid === id);
      show(missing, model.loaded && vm === undefined);
      show(shown, vm !== undefined);
      for (const each of [standing.element, actions]) show(each, vm !== undefined);
      if (vm === undefined) {
        if (!model.loaded || missing.dataset['known'] === String(known)) return;
        missing.dataset['known'] = String(known);
        missing.replaceChildren(
          known
            ? empty('This VM is gone', 'Its service may have made another one in its place: see the fleet.')
            : empty(`There is no VM ${id}`, 'It may have been replaced: names of VMs end with them. See the fleet for those there are.'),
        );
        return;
      }
      known = true;
      const now = model.standing(vm);
      const outdated = model.isOutdated(vm);
      standing.update(now, outdated ? ', outdated' : '');
      const of = vm.service === undefined ? undefined : model.services.get(`${vm.tenant}/${vm.service}`);
      if (vm.service !== undefined) {
        setText(service, `${vm.tenant}/${vm.service}`);
        service.href = serviceHash(`${vm.tenant}/${vm.service}`);
      }
      setText(host, vm.host);
      if (host instanceof HTMLAnchorElement) host.href = hostHash(vm.host);
      list.update({
        State: `${vm.state}: ${meaning[now]}`,
        Since: vm.since === undefined ? undefined : `${date(vm.since)} (${since(vm.since, Date.now())})`,
        Service: vm.service === undefined ? undefined : service,
        Copy: vm.slot === undefined ? undefined : String(vm.slot),
        Host: host,
        Address: vm.addresses.join(', '),
        Memory: kib(vm.memoryKib),
        Image: of === undefined ? undefined : outdated ? 'of an earlier revision of its service' : of.image,
        Revision: vm.revision === undefined ? undefined : `${vm.revision}${outdated && of !== undefined ? `, its service has ${of.revision}` : ''}`,
        Drift: vm.drift,
        UUID: vm.uuid,
      });
    },
    close: () => (metrics.close(), output.close()),
  };
}
