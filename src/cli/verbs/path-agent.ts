/** `shoal path-agent CONFIG`: the agent beside ends of MPTCP connections, in this terminal. */
import { join, resolve } from 'node:path';
import { buildPathAgent } from '../../lab/build.ts';
import { repositoryRoot } from '../../lab/paths.ts';
import type { Verb } from '../arguments.ts';
import { runNode } from './scripts.ts';

export const pathAgent: Verb = {
  name: 'path-agent',
  summary: 'steer the MPTCP connections of this machine',
  operands: 'CONFIG',
  operandCount: [1, 1],
  options: { gateway: { help: 'relay between MPTCP and TCP, as "gateways" of CONFIG says' } },
  notes: 'CONFIG: JSON; docs/formats/path-agent.md has its fields. Needs root, and a kernel with MPTCP.',
  async run(_terminal, words) {
    await buildPathAgent();
    const more = words.flag('gateway') ? ['--gateway'] : [];
    return runNode(['--enable-source-maps', '--import', 'tsx', join(repositoryRoot, 'src/main/path-agent.ts'), resolve(words.operands[0]!), ...more], repositoryRoot);
  },
};
