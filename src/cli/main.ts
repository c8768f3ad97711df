/**
 * The command: words in, exit code out. 0: done. 1: failed, with an error and a hint on standard error (and, with --json, as an
 * object on standard output). 2: what was typed was not understood, and nothing was done.
 */
import { asShoalError } from '../model/errors.ts';
import { findVerb, readWords, type Verb } from './arguments.ts';
import { Terminal, type Sink } from './terminal.ts';
import { apply, deleteVerb, drain, restart, scale } from './verbs/apply.ts';
import { buildVerb } from './verbs/build.ts';
import { bundleApply, bundleMake } from './verbs/bundle.ts';
import { ciPublish } from './verbs/ci.ts';
import { clickInstall, clickList, clickRead, clickWrite } from './verbs/click.ts';
import { makeCompletion } from './verbs/completion.ts';
import { demo } from './verbs/demo.ts';
import { eventCreate, eventDescribe, eventEnd, eventList, eventRun } from './verbs/event.ts';
import { events } from './verbs/events.ts';
import { fleet } from './verbs/fleet.ts';
import { hostAdd, hostLabel, hostRemove, releasePut, tokenEnd, tokenMake } from './verbs/fleet-operator.ts';
import { describe, get } from './verbs/get.ts';
import { helpOf, makeHelp } from './verbs/help.ts';
import { hostShells } from './verbs/host-shells.ts';
import { hostSetup } from './verbs/host-setup.ts';
import { hostShow } from './verbs/host-show.ts';
import { imageList, imagePut, imageRemove } from './verbs/image.ts';
import { imageBuild, imageDiff, imageGc, imageShow, imageVerify } from './verbs/image-source.ts';
import { labVerb } from './verbs/lab.ts';
import { networkList } from './verbs/network-list.ts';
import { origin } from './verbs/origin.ts';
import { rolloutAbort, rolloutList, rolloutPause, rolloutPromote, rolloutResume, rolloutRollback, rolloutShow, rolloutWatch } from './verbs/rollout.ts';
import { pathAgent } from './verbs/path-agent.ts';
import { pathsList, pathsMove, pathsResume } from './verbs/paths.ts';
import { benchVerb, testVerb } from './verbs/scripts.ts';
import { diskCreate, diskDestroy, diskList } from './verbs/disk.ts';
import { storeCat, storeFill, storeList, storeMake, storeVerify } from './verbs/store.ts';
import { summon } from './verbs/summon.ts';
import { top } from './verbs/top.ts';
import { vmCapture } from './verbs/vm-capture.ts';
import { vmConsole } from './verbs/vm-console.ts';
import { vmClone } from './verbs/vm-clone.ts';
import { vmCreate } from './verbs/vm-create.ts';
import { vmList } from './verbs/vm-list.ts';
import { vmDestroy, vmPause, vmStart, vmStop, vmUnpause } from './verbs/vm-power.ts';
import { vmMigrate } from './verbs/vm-migrate.ts';
import { vmShow } from './verbs/vm-show.ts';
import { vmCheckpoint, vmRestore, vmResume, vmSave, vmSuspend } from './verbs/vm-suspend.ts';

export interface World {
  stdout: Sink;
  stderr: Sink;
  env: Record<string, string | undefined>;
}

const help = makeHelp(
  () => verbs,
  (words) => findVerb(verbs, words).verb,
);

const completion = makeCompletion(() => verbs);

/** In the order of the help. */
export const verbs: readonly Verb[] = [
  demo,
  labVerb,
  buildVerb,
  testVerb,
  benchVerb,
  imageBuild,
  imageVerify,
  imageDiff,
  bundleMake,
  fleet,
  completion,
  help,
  apply,
  get,
  describe,
  top,
  scale,
  restart,
  deleteVerb,
  drain,
  ciPublish,
  rolloutList,
  rolloutShow,
  rolloutWatch,
  rolloutPause,
  rolloutResume,
  rolloutAbort,
  rolloutPromote,
  rolloutRollback,
  hostAdd,
  hostLabel,
  hostRemove,
  releasePut,
  tokenMake,
  tokenEnd,
  bundleApply,
  origin,
  summon,
  eventRun,
  eventCreate,
  eventList,
  eventDescribe,
  eventEnd,
  pathAgent,
  pathsMove,
  pathsResume,
  pathsList,
  vmCreate,
  vmClone,
  vmList,
  vmShow,
  vmConsole,
  vmCapture,
  vmStart,
  vmStop,
  vmPause,
  vmUnpause,
  vmSuspend,
  vmResume,
  vmCheckpoint,
  vmSave,
  vmRestore,
  vmMigrate,
  vmDestroy,
  imagePut,
  imageList,
  imageRemove,
  imageShow,
  imageGc,
  networkList,
  diskCreate,
  diskList,
  diskDestroy,
  storeMake,
  storeList,
  storeVerify,
  storeFill,
  storeCat,
  clickInstall,
  clickRead,
  clickWrite,
  clickList,
  hostSetup,
  hostShow,
  hostShells,
  events,
];

/** Runs one command. Resolves with its exit code; never rejects. */
export async function command(argv: readonly string[], world: World): Promise<number> {
  // Errors in the words themselves are reported in the form asked for, too. What follows "--" is not ours.
  const own = argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv;
  const terminal = new Terminal({ ...world, json: own.includes('--json') });
  try {
    const [first] = argv;
    const asked = first === undefined || first === '--help' || first === '-h' ? ['help', ...argv.slice(1)] : argv;
    const { verb, rest } = findVerb(verbs, asked[0] === '--json' ? ['help', '--json'] : asked);
    const words = readWords(verb, rest, world.env);
    if (words.flag('help') || (verb.readsItsWords === true && rest[0] === '--help')) {
      terminal.print(helpOf(verb, terminal.style));
      return 0;
    }
    return (await verb.run(terminal, words)) ?? 0;
  } catch (thrown) {
    const error = asShoalError(thrown);
    terminal.failure(error);
    if (error.code === 'INTERNAL_ERROR' && world.env['SHOAL_DEBUG'] !== undefined) terminal.note(String((thrown as Error).stack));
    return error.code === 'USAGE' ? 2 : 1;
  }
}
