/**
 * Copies of running guests: a guest is asked to suspend itself, its memory is copied out (native/snapshot.h), and it goes on at once. Each copy is
 * laid into a domain of its own, and takes the suspension for one that ended elsewhere.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Domid } from '../../model/ids.ts';
import { ShoalError } from '../../model/errors.ts';
import { calling, domainFlags, shutdownReasons, type Native, type NativeSnapshot } from './native.ts';
import type { DomainShape, Snapshot } from '../port.ts';
import type { Templates } from './templates.ts';
import type { Wired } from './wired.ts';

/** A guest that is not hung needs a millisecond. */
const suspendWaitMs = 5_000;
const lookMs = 1;
/** The copy is made in one go, and nothing else happens in the agent meanwhile: about a second. */
const mostMemoryKib = 256 * 1024;

export class XenSnapshot implements Snapshot {
  readonly shape: DomainShape;
  readonly native: NativeSnapshot;

  constructor(shape: DomainShape, native: NativeSnapshot) {
    this.shape = shape;
    this.native = native;
  }
}

export class Snapshots {
  private readonly native: Native;
  private readonly templates: Templates;
  private readonly wired: Wired;

  constructor(native: Native, templates: Templates, wired: Wired) {
    this.native = native;
    this.templates = templates;
    this.wired = wired;
  }

  async take(domid: Domid, shape: DomainShape): Promise<Snapshot> {
    if (shape.memoryKib > mostMemoryKib) throw impossible(`a VM of more than ${mostMemoryKib} KiB cannot be cloned while it runs`);
    if (!this.wired.wants(shape) || !this.wired.order(domid, 'suspend')) throw impossible('only a VM whose vifs are on the switch can be cloned while it runs');
    await this.untilSuspended(domid);
    try {
      return calling(`copying domain ${domid}`, () =>
        new XenSnapshot(shape, this.native.takeSnapshot(domid, shape.image.virtBase, this.templates.of(shape.image))));
    } finally {
      calling(`resuming domain ${domid}`, () => this.native.resume(domid));
    }
  }

  private async untilSuspended(domid: Domid): Promise<void> {
    for (const begun = performance.now(); performance.now() - begun < suspendWaitMs; await sleep(lookMs)) {
      const domain = calling(`looking at domain ${domid}`, () => this.native.domain(domid));
      if (domain && domain.flags & domainFlags.shutdown) {
        if (shutdownReasons[domain.shutdownReason] === 'suspend') return;
        break;
      }
    }
    throw new ShoalError('TIMEOUT', `domain ${domid} did not suspend itself within ${suspendWaitMs} ms`, {
      hint: 'Look at the console of the VM; its kernel may be too old for this.',
      data: { domid, timeoutMs: suspendWaitMs },
    });
  }
}

const impossible = (why: string): ShoalError =>
  new ShoalError('VALUE_NOT_SUPPORTED', why, { hint: 'Start new VMs of the same image instead.', params: ['VM', '', why] });
