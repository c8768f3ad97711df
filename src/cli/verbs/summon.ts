/** `shoal summon CONFIG`: names that boot what they name. */
import { resolve, join } from 'node:path';
import { repositoryRoot } from '../../lab/paths.ts';
import type { Verb } from '../arguments.ts';
import { runNode } from './scripts.ts';

export const summon: Verb = {
  name: 'summon',
  summary: 'a name server that boots what is asked for',
  operands: 'CONFIG',
  operandCount: [1, 1],
  options: {},
  notes:
    'COMMIT.SERVICE.TENANT.ZONE is that version of the service, SERVICE.TENANT.ZONE the service itself; it is booted when it is asked for and stopped when\n' +
    'nothing is sent to it any more. docs/formats/summon.md tells what stands in CONFIG. Ctrl-C ends it, and no VM.',
  examples: ['shoal summon /etc/shoal/summon.json', 'dig @10.64.0.1 4f2a91c0.web.acme.summon.example'],
  run: (_terminal, words) => runNode(['--enable-source-maps', '--import', 'tsx', join(repositoryRoot, 'src/main/summon.ts'), resolve(words.operands[0]!)], repositoryRoot),
};
