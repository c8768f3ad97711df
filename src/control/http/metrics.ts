/** OpenMetrics of controller, hosts and VMs. Names keep to Prometheus' habits: a unit at the end, base units. */
import type { Context } from './route.ts';

const escaped = (text: string): string => text.replace(/[\\"\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`));
const labelled = (labels: Record<string, string>): string => {
  const entries = Object.entries(labels);
  return entries.length === 0 ? '' : `{${entries.map(([name, value]) => `${name}="${escaped(value)}"`).join(',')}}`;
};

class Page {
  readonly #lines: string[] = [];

  family(name: string, type: 'gauge' | 'counter', help: string, samples: Iterable<[Record<string, string>, number]>): void {
    this.#lines.push(`# TYPE ${name} ${type}`, `# HELP ${name} ${help}`);
    for (const [labels, value] of samples)
      this.#lines.push(`${name}${type === 'counter' ? '_total' : ''}${labelled(labels)} ${value}`);
  }

  text(): string {
    return `${this.#lines.join('\n')}\n# EOF\n`;
  }
}

export function metrics({ fleet, requests }: Context): string {
  const page = new Page();
  const memory = process.memoryUsage();
  const one = (value: number): [Record<string, string>, number][] => [[{}, value]];
  page.family('shoal_controller_resident_memory_bytes', 'gauge', 'Memory of the controller.', one(memory.rss));
  page.family('shoal_controller_heap_used_bytes', 'gauge', 'Heap in use.', one(memory.heapUsed));
  page.family('shoal_controller_uptime_seconds', 'gauge', 'Since the controller began.', one(Math.round(process.uptime())));
  page.family('shoal_controller_plans', 'counter', 'Rounds of planning.', one(fleet.stats.cycles));
  page.family('shoal_controller_plan_seconds', 'gauge', 'Time of the last round of planning.', one(fleet.stats.planMs / 1000));
  page.family('shoal_controller_place_seconds', 'gauge', 'Time of the last placing.', one(fleet.stats.placeMs / 1000));
  page.family('shoal_copies_created', 'counter', 'Copies asked for.', one(fleet.stats.created));
  page.family('shoal_copies_destroyed', 'counter', 'Copies destroyed.', one(fleet.stats.destroyed));
  page.family('shoal_copy_failures', 'counter', 'Copies that died or could not be made.', one(fleet.stats.failures));
  page.family('shoal_http_requests', 'counter', 'Calls of the API.', one(requests.count));
  page.family('shoal_http_requests_failed', 'counter', 'Calls that ended in an error.', one(requests.failed));

  const services = [...fleet.state.all('service')].map(([key, { spec }]) => ({
    labels: { tenant: spec.tenant, service: spec.name },
    counts: fleet.counts.get(key),
    spec,
  }));
  page.family(
    'shoal_service_copies_wanted',
    'gauge',
    'Copies that are to run.',
    services.map(({ labels, spec }) => [labels, spec.count]),
  );
  page.family(
    'shoal_service_copies_ready',
    'gauge',
    'Copies that run, answer and are up to date.',
    services.map(({ labels, counts }) => [labels, counts?.ready ?? 0]),
  );

  const hosts = [...fleet.units.values()].map((unit) => ({
    labels: { host: unit.record.name },
    unit,
    load: fleet.copies.load(unit.record.name),
  }));
  page.family(
    'shoal_host_up',
    'gauge',
    '1 when the host is reached.',
    hosts.map(({ labels, unit }) => [labels, unit.up ? 1 : 0]),
  );
  page.family(
    'shoal_host_memory_free_bytes',
    'gauge',
    'As Xen says.',
    hosts.map(({ labels, unit }) => [labels, (unit.seen?.freeKib ?? 0) * 1024]),
  );
  page.family(
    'shoal_host_memory_total_bytes',
    'gauge',
    'As Xen says.',
    hosts.map(({ labels, unit }) => [labels, (unit.seen?.totalKib ?? 0) * 1024]),
  );
  page.family(
    'shoal_host_vms',
    'gauge',
    'VMs, those of others included.',
    hosts.map(({ labels, load }) => [labels, load.vms]),
  );
  page.family(
    'shoal_host_queued_operations',
    'gauge',
    'Operations that wait for the host.',
    hosts.map(({ labels, unit }) => [labels, unit.queued]),
  );

  const vms = [...fleet.copies.all()].map((copy) => ({
    copy,
    labels: { vm: copy.name, host: copy.host, tenant: copy.id.tenant, service: copy.id.service },
  }));
  page.family(
    'shoal_vm_ready',
    'gauge',
    '1 when the VM runs and answers its health check.',
    vms.map(({ copy, labels }) => [labels, copy.state === 'running' && copy.ready ? 1 : 0]),
  );
  page.family(
    'shoal_vm_memory_bytes',
    'gauge',
    'Memory of the VM.',
    vms.map(({ copy, labels }) => [labels, copy.memoryKib * 1024]),
  );
  return page.text();
}
