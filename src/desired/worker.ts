/** What runs in the reader's thread: one repository's objects and documents, kept from task to task. */
import { IsoObjects } from './reader.ts';
import { Documents, readState, type DeploymentState } from './state.ts';
import { asShoalError } from '../model/errors.ts';
import type { Reason } from '../model/service.ts';

let kept: { repository: string; objects: IsoObjects; documents: Documents; packs: string } | undefined;

export interface ReadTask {
  repository: string;
  commit: string;
  /** Which packs there are; when it changes the cache is dropped. */
  packs: string;
}

/** An error keeps its code only as data: it crosses a thread. */
export type ReadAnswer = { state: DeploymentState; reasons: Reason[] } | { error: { code: string; message: string } };

export default async function read({ repository, commit, packs }: ReadTask): Promise<ReadAnswer> {
  if (kept?.repository !== repository) {
    const objects = new IsoObjects(repository);
    kept = { repository, objects, documents: new Documents(objects), packs };
  }
  if (kept.packs !== packs) {
    kept.objects.forget();
    kept.packs = packs;
  }
  try {
    return await readState(kept.documents, commit);
  } catch (thrown) {
    const { code, message } = asShoalError(thrown);
    return { error: { code, message } };
  }
}
