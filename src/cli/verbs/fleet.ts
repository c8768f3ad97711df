/** `shoal fleet CONFIG`: the controller, in this terminal. */
import { buildController } from '../../lab/build.ts';
import type { Verb } from '../arguments.ts';
import { runNode } from './scripts.ts';

export const fleet: Verb = {
  name: 'fleet',
  summary: 'run the controller of a fleet',
  operands: 'CONFIG',
  operandCount: [1, 1],
  notes:
    "CONFIG: JSON with stateDir, credentialsDir, certFile, keyFile; listen, graceMs, pollS, patienceMs if wanted.\nThe first operator's token is left in stateDir/operator.token.",
  async run(_terminal, words) {
    return runNode(['--enable-source-maps', await buildController(), words.operands[0]!], process.cwd());
  },
};
