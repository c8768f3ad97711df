/** OpenMetrics of a path agent: what it did, and what the kernel has now. */
import type { PathAgent } from './agent.ts';
import type { Follower } from './follower.ts';
import type { Gateway } from './gateway.ts';

type Sample = [labels: string, value: number];

export function metricsOf(agent: PathAgent, follower: Follower | undefined, gateways: readonly Gateway[]): string {
  const lines: string[] = [];
  const family = (name: string, type: 'gauge' | 'counter', help: string, samples: Sample[]): void => {
    lines.push(`# TYPE ${name} ${type}`, `# HELP ${name} ${help}`);
    for (const [labels, value] of samples) lines.push(`${name}${type === 'counter' ? '_total' : ''}${labels} ${value}`);
  };
  const { counts } = agent;
  const connections = agent.port.connections();
  const subflows = connections.flatMap((connection) => connection.subflows);
  family('shoal_paths_connections', 'gauge', 'MPTCP connections.', [['', connections.length]]);
  const states = ['connecting', 'established', 'closing'] as const;
  family('shoal_paths_subflows', 'gauge', 'Subflows by state.', states.map((state) => [`{state="${state}"}`, subflows.filter((one) => one.state === state).length]));
  family('shoal_paths_backup_subflows', 'gauge', 'Established subflows that are backup.', [['', subflows.filter(({ state, backup }) => state === 'established' && backup).length]]);
  family('shoal_paths_acts', 'counter', 'What was done to connections.', [
    ['{act="announce"}', counts.announced], ['{act="withdraw"}', counts.withdrawn], ['{act="backup"}', counts.backups], ['{act="destroy"}', counts.destroyed],
  ]);
  family('shoal_paths_refusals', 'counter', 'What could not be done to a connection.', [['', counts.refused]]);
  family('shoal_paths_events', 'counter', "The kernel's events.", [['', counts.events]]);
  family('shoal_paths_events_lost', 'counter', 'Times at which the kernel dropped events.', [['', counts.eventsLost]]);
  if (follower !== undefined) {
    family('shoal_paths_followed', 'counter', 'Announced addresses that were joined.', [['', follower.joined]]);
    family('shoal_paths_unanswered', 'counter', 'Announced addresses that never answered.', [['', follower.gaveUp]]);
  }
  if (gateways.length > 0) {
    const each = (of: (gateway: Gateway) => number): Sample[] => gateways.map((gateway) => [`{listen="${gateway.name}"}`, of(gateway)]);
    family('shoal_gateway_open', 'gauge', 'Connections that are relayed.', each(({ open }) => open));
    family('shoal_gateway_connections', 'counter', 'Connections that were relayed.', each(({ counts: { connections: count } }) => count));
    family('shoal_gateway_refused', 'counter', 'Connections that found no room or no other side.', each(({ counts: { refused } }) => refused));
    family('shoal_gateway_bytes', 'counter', 'Bytes relayed, both ways.', each(({ counts: { bytes } }) => bytes));
  }
  return `${lines.join('\n')}\n# EOF\n`;
}
