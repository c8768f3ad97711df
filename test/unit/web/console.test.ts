/** The console as people meet it, in headless Chromium over a whole controller; its hosts are in memory. */
import test from 'tape';
import type { Page } from 'playwright-core';
import type { SeenVm } from '../../../src/control/port.ts';
import { newVmUuid } from '../../../src/model/uuid.ts';
import { makeWire } from './proxy.ts';
import { cells, makeWeb, signIn, until, type WebRig } from './rig.ts';

let rig: WebRig;
const data = (page: Page, name: string) => async (): Promise<number> => Number(await page.locator('canvas').getAttribute(`data-${name}`));
const count = (page: Page, selector: string) => async (): Promise<number> => page.locator(selector).count();
const text = (page: Page, selector: string) => async (): Promise<string> => (await page.locator(selector).first().textContent()) ?? '';
const hash = async (page: Page): Promise<string> => new URL(page.url()).hash;
const row = (page: Page, name: string) => page.getByRole('row').filter({ has: page.getByRole('link', { name, exact: true }) });
const live = (page: Page) => page.locator('.link[data-state=live]').waitFor();

test('setup', async (t) => {
  rig = await makeWeb(['atlas', 'borealis', 'cygnus'], { heartbeatMs: 200 });
  await rig.apply('acme/web', 12);
  await rig.apply('umbra/edge', 6);
  t.end();
});

test('sign-in: wrong, right, kept for this tab only, out', async (t) => {
  const page = await rig.page(undefined, '#/services?q=web');
  await signIn(page, `${rig.token.slice(0, -2)}xx`);
  await page.getByRole('alert').filter({ hasText: 'wrong' }).waitFor();
  t.equal(await page.evaluate('sessionStorage.length'), 0, 'a wrong token is not kept');
  await page.getByLabel('Token').fill(rig.token);
  await page.keyboard.press('Enter');
  await row(page, 'acme/web').waitFor();
  t.equal(await hash(page), '#/services?q=web', 'the address that was asked for is shown');
  t.equal(await page.getByRole('searchbox').inputValue(), 'web', 'with its filter');
  t.equal(await page.getByRole('row').count(), 2, 'the head and one service');
  t.equal(await page.evaluate('JSON.stringify(localStorage) + document.cookie'), '{}', 'the token is nowhere else');
  t.notOk((await page.content()).includes(rig.token), 'nor in the page');
  await page.reload();
  await row(page, 'acme/web').waitFor();
  t.pass('a reload stays signed in');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Token').waitFor();
  t.equal(await page.evaluate('sessionStorage.length'), 0);
  await page.context().close();
  t.end();
});

test('a token that ends brings back the sign-in, and the page after it', async (t) => {
  const made = (await rig.call('POST', '/v1/tokens', { role: 'viewer' })).body;
  const page = await rig.page(made.token, '#/hosts');
  await row(page, 'atlas').waitFor();
  t.equal(await page.getByRole('button', { name: /Drain/ }).count(), 0, 'a viewer is not offered what it may not do');
  await rig.call('DELETE', `/v1/tokens/${made.id}`);
  await page.getByRole('alert').filter({ hasText: 'not taken any more' }).waitFor();
  await signIn(page, rig.token);
  await row(page, 'atlas').waitFor();
  t.equal(await hash(page), '#/hosts');
  await page.context().close();
  t.end();
});

test('the picture shows every VM and follows what changes, within the page', async (t) => {
  const page = await rig.page(rig.token);
  t.equal(await until(() => cells(page), 18), 18, 'a cell each');
  t.deepEqual(await page.locator('.headings .name').allTextContents(), ['atlas', 'borealis', 'cygnus']);
  await page.evaluate('window.mark = 1');
  await rig.apply('acme/web', 15);
  t.equal(await until(() => cells(page), 21), 21, 'three more');
  const host = rig.hosts.get('atlas')!;
  const foreign: SeenVm = { ...[...host.vms.values()][0]!, uuid: newVmUuid(), name: 'guest', copy: undefined, addresses: [] };
  host.put({ ...foreign, state: 'halted' });
  t.equal(await until(() => cells(page), 22), 22, "one that is no service's");
  t.equal(await until(data(page, 'ready'), 21), 21);
  rig.hosts.get('cygnus')!.disconnect();
  t.match(await until(text(page, '.chip:has(.away)'), 'away7'), /^away7$/, 'VMs of a host that is not reached');
  rig.hosts.get('cygnus')!.connect();
  t.equal(await until(data(page, 'ready'), 21), 21, 'and back');
  host.remove(foreign.uuid);
  t.equal(await until(() => cells(page), 21), 21);
  await page.getByRole('button', { name: 'by service' }).click();
  t.deepEqual(await page.locator('.headings .name').allTextContents(), ['acme/web', 'umbra/edge']);
  t.equal(await hash(page), '#/fleet?by=service');
  await page.getByRole('searchbox').fill('service:umbra host:atlas');
  t.equal(await until(data(page, 'matching'), 2), 2, 'the filter counts');
  t.equal(await page.locator('tbody tr').count(), 2, 'and lists');
  await page.getByRole('button', { name: /^failed/ }).click();
  await page.getByText('Nothing matches the filter.').waitFor();
  await page.getByRole('searchbox').fill('');
  const box = (await page.locator('canvas').boundingBox())!;
  await page.mouse.move(box.x + 8, box.y + 32);
  await page.getByRole('tooltip').waitFor();
  t.match((await page.getByRole('tooltip').textContent()) ?? '', /^acme\.web\.0\..*ready.*10\.64\./, 'pointing at a cell tells which it is');
  await page.mouse.click(box.x + 8, box.y + 32);
  await page.getByRole('heading', { name: /^acme\.web\.0\./ }).waitFor();
  t.equal(await page.evaluate('window.mark'), 1, 'it was one page all the while');
  await page.context().close();
  t.end();
});

test('services: scale, a refusal with its reasons, restart, delete with a question; tasks with progress and cancel', async (t) => {
  const page = await rig.page(rig.token, '#/services');
  await row(page, 'acme/web').getByLabel('Copies of acme/web').fill('9');
  await row(page, 'acme/web').getByRole('button', { name: 'Scale' }).click();
  t.match(await until(text(page, 'tr:has-text("acme/web") .bar .words'), '9 of 9'), /^9 of 9$/, 'scaled down');
  await rig.call('PUT', '/v1/quotas/umbra', { vms: 10 });
  await row(page, 'umbra/edge').getByLabel('Copies of umbra/edge').fill('11');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').filter({ hasText: 'umbra would have 11 vms, its quota is 10.' }).waitFor();
  await page.getByRole('button', { name: 'Close this message' }).last().click();

  for (const host of rig.hosts.values()) host.launchMs = 150;
  await row(page, 'acme/web').getByLabel('Copies of acme/web').fill('400');
  await page.keyboard.press('Enter');
  await page.getByRole('navigation').getByRole('link', { name: 'Tasks' }).click();
  const task = page.getByRole('row').filter({ hasText: 'scale' }).filter({ hasText: 'of 400 ready' }).first();
  await task.waitFor();
  t.match((await task.locator('.bar .words').textContent()) ?? '', /^\d+ %$/, 'how far it is');
  await task.getByRole('button', { name: 'Cancel' }).click();
  await page.getByText('what was before is wanted again of acme/web').waitFor();
  for (const host of rig.hosts.values()) host.launchMs = 0;
  await page.getByRole('navigation').getByRole('link', { name: 'Services' }).click();
  t.equal(await until(text(page, 'tr:has-text("acme/web") td:nth-child(3)'), 'as wanted'), 'as wanted', 'as it was before');

  await page.getByRole('link', { name: 'umbra/edge', exact: true }).click();
  await page.getByRole('heading', { name: 'umbra/edge' }).waitFor();
  await page.getByRole('button', { name: 'Restart umbra/edge' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Keep it as it is' }).click();
  t.equal(await page.getByRole('dialog').count(), 0, 'a question answered with no does nothing');
  const before = (await rig.call('GET', '/v1/vms?tenant=umbra')).body.items[0].id;
  await page.getByRole('button', { name: 'Restart umbra/edge' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Restart' }).click();
  t.equal(await until(async () => (await rig.call('GET', `/v1/vms/${before}`)).status, 404), 404, 'restarted: the copy is another one');
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.keyboard.press('Escape');
  t.equal((await rig.call('GET', '/v1/services/umbra/edge')).body.deleting, false, 'Escape is no');
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('heading', { name: 'There is no service umbra/edge' }).waitFor();
  await rig.apply('umbra/edge', 6);
  t.equal(await until(() => cells(page), 6), 6, 'the page of a service that is back shows it');
  await page.context().close();
  t.end();
});

test('hosts: drain moves the VMs and is a task, and is taken back', async (t) => {
  const page = await rig.page(rig.token, '#/hosts');
  await row(page, 'cygnus').getByRole('button', { name: 'Drain' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Drain' }).click();
  t.equal(await until(text(page, 'tr:has-text("cygnus") td:nth-child(4)'), '0'), '0', 'none left');
  t.match(await until(text(page, 'tr:has-text("cygnus") .standing'), 'up, drained'), /^up, drained$/);
  await row(page, 'cygnus').getByRole('button', { name: 'Take back' }).click();
  t.equal(await until(text(page, 'tr:has-text("cygnus") .standing'), 'up'), 'up');
  await page.getByRole('link', { name: 'cygnus', exact: true }).click();
  await page.getByRole('heading', { name: 'cygnus' }).waitFor();
  await page.context().close();
  t.end();
});

test("a VM's page: facts, console when it is asked for, metrics as plots, and what is done by hand", async (t) => {
  const vm = (await rig.call('GET', '/v1/vms?tenant=acme')).body.items[0];
  const host = rig.hosts.get(vm.host)!;
  let reads = 0;
  let frames = 0;
  host.consoleOf = () => (reads++, `line 1\n${reads > 1 ? 'line 2\n' : ''}`);
  host.countersOf = () => ((frames += 100), { rxFrames: frames, rxBytes: frames * 100, txFrames: frames, txBytes: frames * 10, rxDropped: 0, txDropped: 0 });
  const page = await rig.page(rig.token, `#/vms/${vm.id}`);
  await page.getByRole('definition').getByText(vm.uuid).waitFor();
  for (const fact of [vm.uuid, vm.addresses[0], vm.host, 'acme/web', '1 MiB', `sha256:${'ab'.repeat(32)}`])
    t.ok(await page.locator('.facts dd').filter({ hasText: fact }).first().isVisible(), fact);
  t.equal(reads, 0, 'the console is not read before it is asked for');
  await page.getByRole('button', { name: 'Read' }).click();
  t.equal(await until(text(page, '.console'), 'line 1\n'), 'line 1\n');
  await page.getByRole('button', { name: 'Read' }).click();
  t.equal(await until(text(page, '.console'), 'line 1\nline 2\n'), 'line 1\nline 2\n', 'then what is new');
  await page.getByRole('img', { name: /^Received: .*\/s now/ }).waitFor();
  t.ok(((await page.locator('.plot .line').first().getAttribute('points')) ?? '').includes(','), 'a line is drawn');
  await page.getByRole('button', { name: 'Destroy' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Destroy' }).click();
  await page.getByText('another one is made in its place').waitFor();
  await page.getByRole('heading', { name: 'This VM is gone' }).waitFor();
  await page.context().close();
  t.end();
});

test("a tenant sees its own: another one's VM, service and hosts are not there", async (t) => {
  const token = await rig.tokenFor('tenant', 'umbra');
  const vm = (await rig.call('GET', '/v1/vms?tenant=acme')).body.items[0];
  const page = await rig.page(token);
  t.equal(await until(() => cells(page), 6), 6, 'its six');
  t.deepEqual(await page.getByRole('navigation').getByRole('link').allTextContents(), ['Fleet', 'Services', 'Tasks', 'Events']);
  await page.evaluate(`location.hash = '#/vms/${vm.id}'`);
  await page.getByRole('heading', { name: `There is no VM ${vm.id}` }).waitFor();
  t.notOk((await page.locator('main').textContent())!.includes(vm.addresses[0]));
  await page.evaluate(`location.hash = '#/services/acme/web'`);
  await page.getByRole('heading', { name: 'There is no service acme/web' }).waitFor();
  await page.evaluate(`location.hash = '#/events'`);
  await rig.apply('acme/web', 10);
  await rig.apply('umbra/edge', 7);
  await page.locator('.events li').filter({ hasText: '7 of 7 ready' }).first().waitFor();
  t.notOk((await page.locator('.events').textContent())!.includes('acme'), "no event of another's");
  await page.context().close();
  const nothing = await rig.page(await rig.tokenFor('tenant', 'newcomer'));
  await nothing.getByRole('heading', { name: 'Nothing runs yet' }).waitFor();
  t.ok(await nothing.getByText('shoal apply -f').isVisible(), 'a tenant without services is told how to begin');
  await nothing.context().close();
  t.end();
});

test('colours: as the system says, or as chosen, and kept', async (t) => {
  const paper = (page: Page) => page.evaluate<string>('getComputedStyle(document.documentElement).backgroundColor');
  const page = await rig.page(rig.token, '', { colorScheme: 'dark' });
  await live(page);
  const dark = await paper(page);
  await page.emulateMedia({ colorScheme: 'light' });
  const light = await paper(page);
  t.notEqual(light, dark);
  await page.getByRole('button', { name: /^Colours: system/ }).click();
  await page.getByRole('button', { name: /^Colours: light/ }).click();
  await page.getByRole('button', { name: /^Colours: dark/ }).waitFor();
  t.equal(await paper(page), dark, 'dark by choice on a light system');
  await page.reload();
  await live(page);
  t.equal(await paper(page), dark, 'kept');
  await page.context().close();
  t.end();
});

test('by keyboard only: sign in, find a VM in the picture, open it, read its console, scale', async (t) => {
  const page = await rig.page();
  await page.keyboard.type(rig.token);
  await page.keyboard.press('Enter');
  await live(page);
  await until(() => cells(page), 17);
  const focused = () => page.evaluate<string>('document.activeElement.tagName + " " + (document.activeElement.textContent || document.activeElement.type || "")');
  const tabTo = async (what: string) => {
    for (let i = 0; i < 60; i++) {
      if ((await focused()).startsWith(what)) return true;
      await page.keyboard.press('Tab');
    }
    return false;
  };
  t.ok(await tabTo('A Skip'), 'the first stop leads past the navigation');
  t.ok(await tabTo('CANVAS'), 'the picture is reached');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('PageDown');
  const spoken = await text(page, '.picture [aria-live]')();
  t.match(spoken, /^acme\.web\.\d+\..*runs and answers, on borealis$/, `the cell is told: ${spoken}`);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: spoken.split(':')[0]! }).waitFor();
  t.ok(await tabTo('BUTTON Read'));
  await page.keyboard.press('Enter');
  await page.locator('.console').waitFor();
  await page.keyboard.press('/');
  await page.evaluate(`location.hash = '#/services'`);
  await row(page, 'acme/web').waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('acme');
  t.equal(await until(count(page, 'tbody tr'), 1), 1, 'the filter is one key away');
  t.ok(await tabTo('INPUT number'));
  await page.keyboard.press('ControlOrMeta+A');
  await page.keyboard.type('8');
  await page.keyboard.press('Enter');
  t.match(await until(text(page, 'tr:has-text("acme/web") .bar .words'), '8 of 8'), /^8 of 8$/);
  await page.context().close();
  t.end();
});

test('the stream is cut: what was missed comes with the next one; a controller that began anew is listed anew', async (t) => {
  const wire = await makeWire(rig.controller.server.port);
  const page = await rig.page();
  const lists: string[] = [];
  page.on('request', (request) => {
    if (/\/v1\/vms\?/.test(request.url())) lists.push(request.url());
  });
  const wired = `https://127.0.0.1:${wire.port}`;
  rig.origins.add(wired);
  await page.goto(`${wired}/#/fleet`);
  wire.cut();
  await signIn(page, rig.token);
  await page.getByRole('alert').filter({ hasText: 'The controller cannot be reached. Check that it runs' }).waitFor();
  wire.mend(rig.controller.server.port);
  await signIn(page, rig.token);
  t.equal(await until(() => cells(page), 15), 15);
  t.equal(lists.length, 1);
  wire.cut();
  t.match(await until(text(page, '.link'), 'Not connected'), /Not connected/, 'it says so');
  await rig.apply('acme/web', 11);
  wire.mend(rig.controller.server.port);
  t.equal(await until(() => cells(page), 18), 18, 'three more were missed and are there');
  t.match(await until(text(page, '.link'), 'Live'), /^Live$/);
  t.equal(lists.length, 1, 'nothing was listed anew');
  await page.evaluate(`location.hash = '#/events'`);
  t.ok((await page.locator('.events').textContent())!.includes('11 of 11 ready'), 'the events tell it too');

  wire.cut();
  await rig.reopen();
  await rig.apply('acme/web', 12);
  wire.mend(rig.controller.server.port);
  await page.evaluate(`location.hash = '#/fleet'`);
  t.equal(await until(() => cells(page), 19), 19, 'of the next controller');
  t.equal(lists.length, 2, 'listed anew, once');
  rig.url = `https://127.0.0.1:${rig.controller.server.port}`;
  rig.origins.add(rig.url);
  await page.context().close();
  await wire.close();
  t.end();
});

test('markup and scripts in names, labels, arguments, notes and console text are text', async (t) => {
  const evil = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>';
  const host = rig.hosts.get('atlas')!;
  await rig.call('PATCH', '/v1/hosts/atlas', { labels: { zone: '<img src=x onerror=window.pwned=1>' } });
  await rig.apply('evil/svc', 1, { args: evil });
  const uuid = newVmUuid();
  host.put({ ...[...host.vms.values()][0]!, uuid, name: evil, copy: undefined, addresses: [] });
  for (const each of rig.hosts.values()) each.consoleOf = () => `${evil}\u001b]0;x\u0007</pre>`;
  const vm = (await rig.call('GET', '/v1/vms?tenant=evil')).body.items[0];
  const page = await rig.page(rig.token, '#/hosts');
  await row(page, 'atlas').getByText('<img src=x onerror=window.pwned=1>').waitFor();
  await page.evaluate(`location.hash = '#/services/evil/svc'`);
  await page.getByText(evil).waitFor();
  await page.evaluate(`location.hash = '#/fleet?q=guest+${uuid}'`);
  await page.evaluate(`location.hash = '#/fleet?q=${uuid}'`);
  await page.getByRole('link', { name: evil }).waitFor();
  await page.evaluate(`location.hash = '#/vms/${vm.id}'`);
  await page.getByRole('button', { name: 'Read' }).click();
  t.ok((await until(text(page, '.console'), `${evil}]0;x</pre>`)).startsWith(evil), 'the console shows it as it is');
  await page.evaluate(`location.hash = '#/vms/${encodeURIComponent(evil)}'`);
  await page.getByRole('heading', { name: `There is no VM ${evil}` }).waitFor();
  await page.evaluate(`location.hash = '#/events'`);
  t.equal(await page.evaluate('String(window.pwned)'), 'undefined', 'nothing ran');
  t.equal(await page.locator('main img, main script, main iframe').count(), 0, 'nothing became an element');
  t.deepEqual(rig.complaints, [], 'nor was it tried: the policy had nothing to refuse');
  const tried = await page.evaluate<string>(
    `(() => { const s = document.createElement('script'); s.append('window.pwned = 2'); document.body.append(s);
       try { document.body.innerHTML = '<b>x</b>'; return 'taken'; } catch (error) { return error.name + ' ' + window.pwned; } })()`,
  );
  t.equal(tried, 'TypeError undefined', 'and would refuse both inline scripts and text that is to become markup');
  rig.complaints.length = 0;
  host.remove(uuid);
  await page.context().close();
  t.end();
});

test('on a phone nothing is wider than the screen', async (t) => {
  const page = await rig.page(rig.token, '', { viewport: { width: 390, height: 844 } });
  await live(page);
  const vm = (await rig.call('GET', '/v1/vms')).body.items[0].id;
  for (const where of ['fleet', 'fleet?q=acme', 'hosts', 'hosts/atlas', 'services', 'services/acme/web', 'tasks', 'events', `vms/${vm}`, 'nosuch']) {
    await page.evaluate(`location.hash = '#/${where}'`);
    await page.locator('main h1').waitFor();
    await page.waitForTimeout(60);
    t.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= 390, where);
    const wide = await page.evaluate<string[]>(
      `[...document.querySelectorAll('main :is(td, dd, li, h1, p, .panel, .plot, button)')].filter((e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline').map((e) => e.textContent)`,
    );
    t.deepEqual(wide, [], `${where}: nothing is wider than its place`);
  }
  await page.context().close();
  t.end();
});

test('10,000 VMs: all in the picture, which answers while they change', async (t) => {
  await rig.apply('large/one', 6000);
  await rig.apply('large/two', 3990);
  const services = (await rig.call('GET', '/v1/services')).body.items as { copies: { total: number } }[];
  const total = services.reduce((sum, { copies }) => sum + copies.total, 0);
  t.ok(total >= 10_000, `${total} VMs`);
  const page = await rig.page(rig.token);
  t.equal(await until(() => cells(page), total, 30_000), total, 'a cell each');
  t.equal(await until(data(page, 'ready'), total), total);
  await page.evaluate(`window.frames_ = []; (function tick(before) { requestAnimationFrame((now) => { window.frames_.push(now - before); tick(now); }); })(performance.now())`);
  await rig.call('POST', '/v1/services/large/two/restart');
  await page.locator('canvas').focus();
  const told = new Set<string>();
  for (let i = 0; i < 40; i++) {
    await page.keyboard.press('ArrowDown');
    told.add(await text(page, '.picture [aria-live]')());
  }
  t.ok(told.size > 30, `keys are answered while 3,990 VMs are replaced (${told.size} of 40 cells told)`);
  const frames = (await page.evaluate<number[]>('window.frames_')).sort((a, b) => a - b);
  t.comment(`${frames.length} frames, median ${frames[frames.length >> 1]?.toFixed(0)} ms, longest ${frames.at(-1)?.toFixed(0)} ms, beside controller and hosts in one process`);
  await page.getByRole('searchbox').fill('name:large.one.5999.');
  t.equal(await until(data(page, 'matching'), 1, 40_000), 1, 'one of them is found');
  await page.getByRole('link', { name: /^large\.one\.5999\./ }).click();
  await page.getByRole('heading', { name: /^large\.one\.5999\./ }).waitFor();
  await page.context().close();
  t.end();
});

test('teardown', async (t) => {
  t.deepEqual(rig.strays, [], 'no request ever left the controller');
  t.deepEqual(rig.complaints, [], 'no page complained');
  await rig.close();
  t.end();
});
