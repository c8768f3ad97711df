/** "What makes this VM valid now?", for every combination of what was wanted and what Xen says. */
import test from 'tape';
import { asDomid } from '../../../src/model/ids.ts';
import { verdict } from '../../../src/host/verdict.ts';
import type { Power, Wanted } from '../../../src/host/vm.ts';

const vm = (wanted: Wanted, power: Power = 'Halted', domid?: number) => ({
  wanted,
  power,
  domid: domid === undefined ? undefined : asDomid(domid),
});
const domain = (state: 'running' | 'paused' | 'shutdown' | 'crashed' | 'dying', more: object = {}) => ({
  domid: asDomid(5),
  ours: true,
  sealed: true,
  state,
  ...more,
});

test('verdicts', (t) => {
  const rows: [string, ReturnType<typeof verdict>, string][] = [
    ['no domain, halted', verdict(vm('halted'), undefined), 'nothing'],
    ['no domain, but it ran', verdict(vm('running', 'Running', 5), undefined), 'mark-halted'],
    ["nobody's domain", verdict(undefined, domain('running', { ours: false })), 'nothing'],
    ['ours, half built', verdict(undefined, domain('paused', { sealed: false })), 'discard'],
    ['ours, half built, of a known VM', verdict(vm('running'), domain('paused', { sealed: false })), 'discard'],
    ['ours, whole, unknown', verdict(undefined, domain('running')), 'adopt'],
    ['running, not noted', verdict(vm('running'), domain('running')), 'note'],
    ['running, wanted halted: a start outlived the agent', verdict(vm('halted'), domain('running')), 'note'],
    ['running, noted', verdict(vm('running', 'Running', 5), domain('running')), 'nothing'],
    ['running, noted, seal unreadable', verdict(vm('running', 'Running', 5), domain('running', { sealed: false })), 'nothing'],
    ['running, noted as paused', verdict(vm('paused', 'Paused', 5), domain('running')), 'note'],
    ['running elsewhere', verdict(vm('running', 'Running', 9), domain('running')), 'discard'],
    ['paused as wanted', verdict(vm('paused', 'Paused', 5), domain('paused')), 'nothing'],
    ['paused as wanted, not noted', verdict(vm('paused'), domain('paused')), 'note'],
    ['paused, wanted running', verdict(vm('running'), domain('paused')), 'resume'],
    ['paused, last step missing', verdict(vm('halted'), domain('paused')), 'resume'],
    ['paused, start was to stay paused', verdict(vm('halted'), domain('paused'), true), 'note'],
    ['powered off', verdict(vm('running', 'Running', 5), domain('shutdown')), 'bury'],
    ['powered off to reboot', verdict(vm('rebooting', 'Running', 5), domain('shutdown')), 'restart'],
    ['rebooted by itself', verdict(vm('running', 'Running', 5), { ...domain('shutdown'), shutdownReason: 'reboot' }), 'restart'],
    ['suspended, and nobody waits for it', verdict(vm('running', 'Running', 5), { ...domain('shutdown'), shutdownReason: 'suspend' }), 'thaw'],
    ['crashed', verdict(vm('running', 'Running', 5), domain('crashed')), 'bury-crashed'],
    ['crashed while rebooting', verdict(vm('rebooting', 'Running', 5), domain('crashed')), 'bury-crashed'],
    ['dying', verdict(vm('running', 'Running', 5), domain('dying')), 'mark-halted'],
    ['dying, unknown', verdict(undefined, domain('dying')), 'nothing'],
  ];
  for (const [name, actual, expected] of rows) t.equal(actual, expected, `${name}: ${expected}`);
  t.end();
});
