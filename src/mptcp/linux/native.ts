/** The addon: netlink sockets and MPTCP sockets (src/mptcp/native). */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { ShoalError } from '../../model/errors.ts';

export interface NativeNetlink {
  readonly nativeNetlink: unique symbol;
}

export interface Native {
  open(protocol: number): NativeNetlink;
  close(socket: NativeNetlink): void;
  request(socket: NativeNetlink, bytes: Uint8Array, timeoutMs: number): Buffer;
  watch(socket: NativeNetlink, group: number, listener: () => void): void;
  news(socket: NativeNetlink): Buffer | undefined;
  known(): boolean;
  listen(address: string, port: number, backlog: number, mptcp: boolean): number;
  connect(address: string, port: number, local: string, mptcp: boolean, timeoutMs: number): Promise<number>;
  info(fd: number): Buffer | undefined;
}

export const addonPath = fileURLToPath(new URL('../../../build/shoal_mptcp.node', import.meta.url));

/** Throws SETUP_FAILED when the addon is not built. */
export function loadNative(path = addonPath): Native {
  try {
    return createRequire(import.meta.url)(path) as Native;
  } catch (cause) {
    throw new ShoalError('SETUP_FAILED', `The MPTCP addon ${path} cannot be loaded.`, { hint: 'make -C src/mptcp/native', cause });
  }
}

/** errno of a failed call, 'EPERM'; undefined of any other thrown thing. */
export const errnoOfThrown = (thrown: unknown): string | undefined => (thrown as { errno?: string } | undefined)?.errno;

/** A failed call of the addon as MPTCP_FAILED; anything else is thrown on. */
export function typed(thrown: unknown, doing: string): ShoalError {
  const { call, errno, message } = thrown as { call?: string; errno?: string; message: string };
  if (call === undefined) throw thrown;
  return new ShoalError('MPTCP_FAILED', `${doing}: ${message} (${errno}).`, { data: { call, errno }, cause: thrown });
}
