/**
 * The kernel of this machine, in the network namespace of this process. With `net.mptcp.path_manager=userspace` each connection is steered by itself, and the
 * kernel takes no join while nobody listens to its events: this adapter listens from its first moment. Otherwise the kernel's own path manager
 * is at work, and what can be said to it holds for the whole namespace.
 */
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { ShoalError } from '../../model/errors.ts';
import type { Announced, Connection, Endpoint, MptcpPort, PathEvent, PlainConnection, Subflow } from '../port.ts';
import { errnoOfThrown, loadNative, typed, type Native, type NativeNetlink } from './native.ts';
import { decodeMessages, encodeMessage, errnoOf, flag, message, type Message } from './netlink.ts';
import {
  addressFlag, askFamily, command, commandBody, controlFamily, decodeEndpoint, decodeEvent, decodeFamily, eventGroup, familyName, type AddressFields, type EndpointEntry,
} from './path-manager.ts';
import { backupFlags, byFamily, connectionInfo, decodeSocket, destroyBody, destroyFamily, dumpBody, protocol, subflowInfo, type DiagSocket } from './socket-diag.ts';

const netlinkProtocol = { socketDiag: 4, generic: 16 } as const;
const patienceMs = 5_000;
/** News handled in one turn of the event loop. */
const newsAtOnce = 256;
/** Room for ids: 1 to 255. What the kernel's own path manager takes is eight endpoints. */
const signalId = { least: 1, most: 255 };

const names = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

class Refused extends Error {
  readonly errno: string;
  readonly call: string;
  constructor(call: string, number: number) {
    super(`the kernel refuses it`);
    this.call = call;
    this.errno = names.get(number) ?? `errno ${number}`;
  }
}

/** net.mptcp.path_manager; kernels before 6.15 know only pm_type. */
function managerOf(): 'userspace' | 'kernel' {
  const read = (name: string): string | undefined => {
    try {
      return readFileSync(`/proc/sys/net/mptcp/${name}`, 'utf8').trim();
    } catch {
      return undefined;
    }
  };
  return (read('path_manager') ?? (read('pm_type') === '1' ? 'userspace' : 'kernel')) === 'userspace' ? 'userspace' : 'kernel';
}

const isSignal = ({ flags }: { flags: number }): boolean => (flags & addressFlag.signal) !== 0;

export class LinuxMptcp implements MptcpPort {
  readonly scope: 'connection' | 'namespace';
  readonly #native: Native;
  readonly #diag: NativeNetlink;
  readonly #generic: NativeNetlink;
  readonly #events: NativeNetlink;
  readonly #family: number;
  readonly #listeners = new Set<(event: PathEvent) => void>();
  #sequence = 0;
  #pumping: NodeJS.Immediate | undefined;
  #closed = false;

  private constructor(native: Native) {
    this.#native = native;
    this.scope = managerOf() === 'userspace' ? 'connection' : 'namespace';
    const opened: NativeNetlink[] = [];
    const open = (number: number): NativeNetlink => {
      const socket = native.open(number);
      opened.push(socket);
      return socket;
    };
    try {
      this.#diag = open(netlinkProtocol.socketDiag);
      this.#generic = open(netlinkProtocol.generic);
      this.#events = open(netlinkProtocol.generic);
      const [answer] = this.#ask(this.#generic, controlFamily, 0, askFamily(familyName), 'the family mptcp_pm');
      const found = answer === undefined ? undefined : decodeFamily(answer.body);
      const group = found?.groups.get(eventGroup);
      if (found === undefined || group === undefined) throw new Refused('mptcp_pm', constants.errno.ENOENT);
      this.#family = found.id;
      native.watch(this.#events, group, () => this.#pump());
    } catch (error) {
      for (const socket of opened) native.close(socket);
      throw error;
    }
  }

  /** Needs CAP_NET_ADMIN. Throws MPTCP_FAILED, HOST_UNSUPPORTED when the kernel has no MPTCP, SETUP_FAILED when the addon is not built. */
  static open(native: Native = loadNative()): LinuxMptcp {
    if (!native.known()) throw new ShoalError('HOST_UNSUPPORTED', 'This kernel has no MPTCP, or has it switched off.', { hint: 'Set net.mptcp.enabled=1, on a kernel built with CONFIG_MPTCP.' });
    try {
      return new LinuxMptcp(native);
    } catch (error) {
      throw typed(error, 'the path manager');
    }
  }

  /** Messages of the answer, those about success and the end left out; throws Refused. */
  #ask(socket: NativeNetlink, type: number, flags: number, body: readonly Buffer[], what: string): Message[] {
    const sequence = (this.#sequence = (this.#sequence + 1) >>> 0);
    const wanted = flags === 0 ? flag.ack : flags;
    const answer = decodeMessages(this.#native.request(socket, encodeMessage(type, wanted, sequence, body), patienceMs)).filter((one) => one.sequence === sequence);
    const end = answer.find((one) => one.type === message.error || one.type === message.done);
    const errno = end === undefined ? 0 : errnoOf(end);
    if (errno > 0) throw new Refused(what, errno);
    return answer.filter((one) => one.type !== message.error && one.type !== message.done);
  }

  #command(number: number, what: Parameters<typeof commandBody>[1], name: string): void {
    this.#ask(this.#generic, this.#family, 0, commandBody(number, what), name);
  }

  /** Runs a command; the errors named are no errors, ESRCH and the like become NOT_FOUND. */
  #do(doing: string, forgiven: readonly string[], work: () => void): void {
    try {
      work();
    } catch (error) {
      const errno = errnoOfThrown(error);
      if (errno !== undefined && forgiven.includes(errno)) return;
      throw typed(error, doing);
    }
  }

  #sockets(number: number): DiagSocket[] {
    try {
      return [false, true].flatMap((v6) =>
        this.#ask(this.#diag, byFamily, flag.dump, dumpBody(v6, number), 'inet_diag').flatMap(({ body }) => decodeSocket(body) ?? []),
      );
    } catch (error) {
      throw typed(error, 'the list of sockets');
    }
  }

  connections(): Connection[] {
    const found = new Map<number, Connection>();
    const endpoints = this.scope === 'namespace' ? this.#endpoints(undefined) : [];
    for (const { local, remote, info } of this.#sockets(protocol.mptcp)) {
      const { token, sentBytes, receivedBytes, fallback } = connectionInfo(info);
      // Without a token, or fallen back to TCP: no path can be added to it.
      if (token === 0 || fallback) continue;
      found.set(token, { token, local, remote, subflows: [], announced: [], numbered: [], sentBytes, receivedBytes });
    }
    for (const { local, remote, state, subflow, info } of this.#sockets(protocol.tcp)) {
      const connection = subflow === undefined ? undefined : found.get(subflow.token);
      if (connection === undefined || subflow === undefined) continue;
      const { ackedBytes, receivedBytes, notSentBytes, unackedSegments, mss, rttUs } = subflowInfo(info);
      connection.subflows.push({
        local, remote, state, localId: subflow.localId, remoteId: subflow.remoteId, backup: (subflow.flags & backupFlags) !== 0,
        ackedBytes, receivedBytes, queuedBytes: notSentBytes + unackedSegments * mss, rttUs,
      });
    }
    for (const connection of found.values())
      for (const { address, id, flags } of this.scope === 'connection' ? this.#endpoints(connection.token) : endpoints) (isSignal({ flags }) ? connection.announced : connection.numbered).push({ address, id });
    return [...found.values()];
  }

  plain(): PlainConnection[] {
    return this.#sockets(protocol.tcp).filter(({ state, subflow }) => state === 'established' && subflow === undefined).map(({ local, remote }) => ({ local, remote }));
  }

  /** Of a connection; of the namespace without a token. None of a connection that is gone. */
  #endpoints(token: number | undefined): EndpointEntry[] {
    try {
      return this.#ask(this.#generic, this.#family, flag.dump, commandBody(command.get, token === undefined ? {} : { token }), 'get').flatMap(({ body }) => decodeEndpoint(body) ?? []);
    } catch (error) {
      if (token !== undefined && errnoOfThrown(error) !== undefined) return [];
      throw typed(error, 'the list of addresses');
    }
  }

  #expect(token: number): void {
    if (this.scope === 'connection' && !this.#sockets(protocol.mptcp).some(({ info }) => connectionInfo(info).token === token))
      throw new ShoalError('NOT_FOUND', `There is no connection ${token}.`, { data: { token } });
  }

  /** A command about a connection; the kernel says EINVAL for much, so whether it is gone is looked up only then. */
  #about(token: number, doing: string, forgiven: readonly string[], work: () => void): void {
    try {
      this.#do(doing, forgiven, work);
    } catch (error) {
      this.#expect(token);
      throw error;
    }
  }

  announce(token: number, { address, id }: Announced): void {
    if (id < signalId.least || id > signalId.most) throw new ShoalError('REQUEST_INVALID', `An address has an id from ${signalId.least} to ${signalId.most}.`);
    const local: AddressFields = { address, id, flags: addressFlag.signal };
    if (this.scope === 'namespace') return this.#do(`announcing ${address}`, ['EEXIST'], () => this.#command(command.addEndpoint, { local }, 'add address'));
    const same = this.#endpoints(token).filter((one) => one.address === address);
    if (same.some((one) => isSignal(one) && one.id === id)) return;
    // A join that came after the address was taken back left an entry: the kernel would take the announcement for it, and never list the address as announced.
    for (const one of same) if (!isSignal(one)) this.withdraw(token, one);
    this.#about(token, `announcing ${address}`, [], () => this.#command(command.announce, { token, local }, 'announce'));
  }

  withdraw(token: number, { address, id }: Announced): void {
    if (this.scope === 'namespace')
      return this.#do(`withdrawing ${address}`, ['EINVAL', 'ENOENT'], () => this.#command(command.deleteEndpoint, { local: { address, id } }, 'delete address'));
    this.#do(`withdrawing ${address}`, ['EINVAL', 'ENOENT', 'ESRCH'], () => this.#command(command.remove, { token, localId: id }, 'remove'));
  }

  createSubflow(token: number, { address, id }: Announced, remote: Endpoint): void {
    if (this.scope === 'namespace')
      throw new ShoalError('VALUE_NOT_SUPPORTED', "The kernel's own path manager creates its subflows by itself.", { hint: 'Set net.mptcp.path_manager=userspace before the connection exists.' });
    this.#about(token, `a subflow to ${remote.address}`, [], () => this.#command(command.create, { token, local: { address, id, flags: addressFlag.subflow }, remote }, 'create subflow'));
  }

  destroySubflow(token: number, local: Endpoint, remote: Endpoint): void {
    const bySocket = (): void => void this.#ask(this.#diag, destroyFamily, 0, destroyBody(local, remote), 'destroy socket');
    this.#do(`ending a subflow to ${remote.address}`, ['ENOENT', 'ESRCH'], () => {
      if (this.scope === 'namespace') return bySocket();
      try {
        this.#command(command.destroy, { token, local, remote }, 'destroy subflow');
      } catch (error) {
        // One whose handshake is still under way is no subflow to the path manager yet, but is a socket.
        if (errnoOfThrown(error) === undefined) throw error;
        bySocket();
      }
    });
  }

  setBackup(token: number, subflow: Subflow, backup: boolean): void {
    const flags = backup ? addressFlag.backup : 0;
    const { local, remote, localId } = subflow;
    const doing = `setting ${local.address} backup`;
    if (this.scope === 'connection')
      return this.#about(token, doing, [], () => this.#command(command.setFlags, { token, local: { ...local, id: localId, flags }, remote }, 'set flags'));
    // The kernel sets only what is an endpoint of its own; one without flags is never announced.
    const { address } = local;
    if (!this.#endpoints(undefined).some((one) => one.address === address)) this.#do(doing, ['EEXIST'], () => this.#command(command.addEndpoint, { local: { address, flags: 0 } }, 'add address'));
    this.#do(doing, [], () => this.#command(command.setFlags, { local: { address, flags } }, 'set flags'));
  }

  onEvent(listener: (event: PathEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #tell(event: PathEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #pump(): void {
    if (this.#pumping !== undefined || this.#closed) return;
    for (let count = 0; count < newsAtOnce; count++) {
      let bytes: Buffer | undefined;
      try {
        bytes = this.#native.news(this.#events);
      } catch (error) {
        if (errnoOfThrown(error) !== 'ENOBUFS') throw typed(error, 'news of connections');
        this.#tell({ kind: 'lost' });
        continue;
      }
      if (bytes === undefined) return;
      for (const one of decodeMessages(bytes)) {
        const event = one.type === this.#family ? decodeEvent(one) : undefined;
        if (event !== undefined) this.#tell(event);
      }
      if (this.#closed) return;
    }
    this.#pumping = setImmediate(() => {
      this.#pumping = undefined;
      this.#pump();
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearImmediate(this.#pumping);
    for (const socket of [this.#diag, this.#generic, this.#events]) this.#native.close(socket);
  }
}

