/**
 * `click`: the ready-made router's path as a Linux process without devices, 64-byte packets, one core, beside what was published for Click. Both
 * numbers count packets through an IP router; Click's was measured loss-free with network cards, on a processor of its year, so they are not a
 * comparison of like with like.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { repositoryRoot } from '../src/lab/paths.ts';
import { ShoalError } from '../src/model/errors.ts';
import { chaining } from './click/chain.ts';
import { forwarding } from './click/lab.ts';
import { compared, joined, machineFacts, type BenchContext, type Benchmark, type BenchOutcome } from './harness.ts';

/** Kohler, Morris, Chen, Jannotti, Kaashoek: The Click Modular Router, ACM Transactions on Computer Systems 18(3), August 2000, abstract. */
const published = 333_000;

/** 60 bytes and the frame check sequence: UDP from 10.0.0.1 to 10.0.1.2. */
function frame(): string {
  const bytes = Buffer.alloc(60);
  bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 9, 1, 8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 1, 2, 4, 0, 4, 1, 0, 26]);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  bytes.writeUInt16BE(0xffff - sum, 24);
  return bytes.toString('hex');
}

/** What a forwarded packet goes through in router.click; a fixed next hop where ARP's would be, a queue and who empties it where the device would. */
const configuration = (): string => `
InfiniteSource("\\<${frame()}>") -> HostEtherFilter(02:00:00:00:00:01)
  -> kinds :: Classifier(12/0806 20/0001, 12/0806 20/0002, 12/0800, -); kinds[0] -> Discard; kinds[1] -> Discard; kinds[3] -> Discard;
kinds[2] -> Strip(14) -> CheckIPHeader
  -> routes :: RadixIPLookup(10.0.0.254/32 0, 10.0.1.254/32 0, 10.0.0.0/24 1, 10.0.1.0/24 2, 0.0.0.0/0 10.0.1.1 2);
routes[0] -> Discard; routes[1] -> Discard;
routes[2] -> DropBroadcasts -> gateway :: IPGWOptions(10.0.1.254) -> FixIPSrc(10.0.1.254) -> ttl :: DecIPTTL -> cut :: IPFragmenter(1500)
  -> EtherEncap(0x0800, 02:00:00:00:00:02, 02:00:00:00:09:02) -> Queue(512) -> Unqueue -> Discard;
gateway[1] -> Discard; ttl[1] -> Discard; cut[1] -> Discard;
`;

function measure({ quick, terminal }: Omit<BenchContext, 'lab'>): Promise<BenchOutcome> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-bench-click-'));
  try {
    terminal.note('router, 64-byte packets, no device');
    const text = configuration();
    const disk = join(folder, 'router.disk');
    writeFileSync(disk, text + '\0'.repeat(4096 - (text.length % 4096)));
    const seconds = quick ? 2 : 10;
    const words = ['-c', '0', join(repositoryRoot, 'build/unikernels/click-linux'), 'none', 'name=bench', `bench=${seconds}`, 'config=disk', `disk=${disk}`];
    const { stdout, stderr } = spawnSync('taskset', words, { encoding: 'utf8', timeout: (seconds + 20) * 1000 });
    const rate = Number(/(\d+) packets\/s/.exec(stdout)?.[1]);
    if (!(rate > 0)) throw new ShoalError('INTERNAL_ERROR', 'click-linux told no rate.', { hint: `Build it (make -C unikernels). It said: ${`${stdout}${stderr}`.slice(-500)}` });
    return Promise.resolve({
      promises: [compared('CLICK-9', 'Linux build, one core, router, 64-byte packets, no device', rate, 'packets/s')],
      lines: [`Click's own figure, with network cards, loss-free, in 2000: ${published.toLocaleString('en')} packets/s (Kohler et al., ACM TOCS 18(3)).`],
      files: {},
      machine: machineFacts(),
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const click: Benchmark = { name: 'click', summary: "the middlebox beside Linux in a guest, and its router without devices", run: async (context) => joined(await forwarding(context), await chaining(context)), withoutLab: measure };
