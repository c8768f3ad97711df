/** What `fleet` makes of its samples; planner and placer as it asks them; a small fleet of processes; tasks by their events. */
import test from 'tape';
import { fleet } from '../../../bench/fleet.ts';
import { orderOf, shareOf, type LaunchSample } from '../../../bench/fleet/launches.ts';
import { launchOutcome, overheadPercent, simulatedOutcome } from '../../../bench/fleet/outcome.ts';
import { measurePlanning } from '../../../bench/fleet/planning.ts';
import { measureSimulated, type Simulated, type SimulatedSize } from '../../../bench/fleet/simulated.ts';
import { untilDone } from '../../../bench/fleet/tasks.ts';
import { joined } from '../../../bench/harness.ts';
import { Control } from '../../../src/cli/control.ts';
import type { Task } from '../../../src/cli/task.ts';
import { Terminal } from '../../../src/cli/terminal.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { makeApi, web } from '../control/api-rig.ts';
import { cert } from '../xenapi/certificate.ts';

const sink = { write: () => undefined };
const terminal = new Terminal({ stdout: sink, stderr: sink, env: {}, json: false });
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: unknown) => (error instanceof ShoalError ? error.code : String(error)),
  );

const samples: LaunchSample[] = [100, 130, 500].flatMap((ms, i) => [
  { round: i + 1, way: 'agents' as const, ms },
  { round: i + 1, way: 'controller' as const, ms: ms * 1.1 },
]);

test('fleet: the overhead is median over median, and says so when it is too much', (t) => {
  t.ok(Math.abs(overheadPercent(samples) - 10) < 1e-9, 'one slow round does not count');
  const { promises, files, lines } = launchOutcome(1000, samples, {});
  t.deepEqual(promises.map(({ row, value, met }) => [row, value, met]), [['FLEET-8', 10, true]]);
  const slow = samples.map((each) => (each.way === 'controller' ? { ...each, ms: each.ms * 1.2 } : each));
  t.equal(launchOutcome(1000, slow, {}).promises[0]!.met, false);
  t.equal(launchOutcome(1000, [], {}).promises[0]!.met, false, 'nothing measured is nothing met');
  const rows = files['fleet.csv']!.trim().split('\n');
  t.deepEqual([rows.length, rows[1]], [7, '1,agents,1000,100.0'], 'the raw series');
  t.match(lines[0]!, /p50 +143 +130$/m);
  t.end();
});

test('fleet: each way is first in every other round, and hosts have equal shares', (t) => {
  t.deepEqual([0, 1, 2].map((round) => orderOf(round)[0]), ['controller', 'agents', 'controller']);
  t.deepEqual([0, 1].map((i) => shareOf(1001, 2, i)), [501, 500]);
  t.ok(fleet.memoryMib!(1000) <= 8192 && fleet.hosts === 2, 'both hosts fit into the smallest machine');
  t.end();
});

test('fleet: planner and placer place every copy, and after a loss every one of that host', (t) => {
  const [scratch, lost] = measurePlanning({ hosts: 10, services: 5, copies: 1000 });
  t.deepEqual([scratch?.what, scratch?.placed, lost?.what, lost?.placed], ['scratch', 1000, 'lost', 100]);
  t.ok([scratch, lost].every((each) => each!.planMs > 0 && each!.placeMs > 0));
  t.end();
});

const size: SimulatedSize = { hosts: 3, services: 2, copies: 30, changes: 4, lists: 2 };

test('fleet: rows of a simulated fleet, and both parts as one outcome', (t) => {
  const simulated: Simulated = { scratchMs: 5000, lostMs: 400, listMs: [900, 950, 1200], eventMs: [5, 500, 20], residentKib: 200 * 1024, residentMostKib: 310 * 1024 };
  const planning = [
    { what: 'scratch' as const, planMs: 10, placeMs: 50, placed: 10_000 },
    { what: 'lost' as const, planMs: 5, placeMs: 2, placed: 200 },
  ];
  const outcome = simulatedOutcome(size, simulated, { hosts: 50, services: 20, copies: 10_000 }, planning);
  t.deepEqual(outcome.promises.map(({ row, value, met }) => [row, value, met]), [
    ['FLEET-3', 0.95, true],
    ['FLEET-4', 20, true],
    ['FLEET-9', 60, null],
    ['FLEET-10', 7, null],
    ['FLEET-11', 5, null],
    ['FLEET-12', 0.4, null],
    ['FLEET-13', 310, false],
  ]);
  const rows = outcome.files['fleet-simulated.csv']!.trim().split('\n');
  t.ok(rows.includes('event_ms,2,500.00') && rows.includes('place_lost_ms,1,2.00'), 'the raw series');
  const both = joined(launchOutcome(1000, samples, { processors: 2 }), outcome);
  t.deepEqual([both.promises.length, Object.keys(both.files), both.machine['processors'], both.machine['simulatedVms']], [8, ['fleet.csv', 'fleet-simulated.csv'], 2, 30]);
  t.end();
});

test('fleet: a small fleet of processes is measured, and none of them is left', async (t) => {
  const measured = await measureSimulated(terminal, size, new AbortController().signal);
  t.ok(measured.scratchMs > 0 && measured.lostMs > 0 && measured.residentMostKib >= measured.residentKib && measured.residentKib > 10_000);
  t.deepEqual([measured.listMs.length, measured.eventMs.length], [2, 4]);
  t.ok(measured.eventMs.every((ms) => ms > 0), `news took ${measured.eventMs.map((ms) => ms.toFixed(1)).join(', ')} ms`);
  const stopped = AbortSignal.abort();
  t.equal(await codeOf(measureSimulated(terminal, size, stopped)), 'TASK_CANCELLED', 'an interruption begins nothing');
});

test('fleet: tasks are done when their events say so', async (t) => {
  const rig = await makeApi();
  const control = new Control(`https://127.0.0.1:${rig.controller.server.port}`, cert, rig.token);
  for (const host of rig.hosts.values()) host.launchMs = 30;
  const put = (count: number) => async () => [await control.call<Task>('PUT', '/v1/services/acme/web', { ...web, count })];
  const took = await untilDone(control, put(4));
  t.ok(took >= 30, `no less than a host takes: ${took} ms`);
  t.equal([...rig.hosts.values()].reduce((sum, host) => sum + host.vms.size, 0), 4, 'all were there then');
  t.equal(await codeOf(untilDone(control, () => Promise.reject(new ShoalError('QUOTA_EXCEEDED', 'no')))), 'QUOTA_EXCEEDED');
  for (const host of rig.hosts.values()) host.refuse = () => new ShoalError('VIF_FAILED', 'no');
  t.equal(await codeOf(untilDone(control, put(6), 300)), 'TIMEOUT');
  const superseded = codeOf(untilDone(control, put(7), 2000));
  await new Promise((resolve) => setTimeout(resolve, 100));
  await put(4)();
  t.equal(await superseded, 'TASK_CANCELLED');
  control.close();
  await rig.close();
});
