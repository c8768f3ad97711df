/**
 * Every error Shoal reports on purpose, in one table: a code, and a hint that says what the operator does next.
 * Codes share one name space with XenAPI, so that an error crosses the wire unchanged: where XenAPI has a code for the
 * case it is used with XenAPI's own parameters (`params`), elsewhere the code is ours.
 * docs/errors.md lists the same table; a test compares the two.
 */

/** code -> default hint. A thrower may give a more exact hint of its own. */
export const errorHints = {
  // XenAPI's own codes
  INTERNAL_ERROR: 'This is a fault in Shoal itself; the log of the host agent or the controller has the details.',
  MESSAGE_METHOD_UNKNOWN: 'Ask system.listMethods for the calls this host offers.',
  MESSAGE_PARAMETER_COUNT_MISMATCH: 'Check the number of arguments against the documentation of the call.',
  FIELD_TYPE_ERROR: 'Check the type of the named field against the documentation of the call.',
  VALUE_NOT_SUPPORTED: 'Give the field one of the supported values.',
  SESSION_AUTHENTICATION_FAILED: 'Check the user name and the password file.',
  SESSION_INVALID: 'Log in again.',
  HANDLE_INVALID: 'The object is gone or never was; list the objects of its class again.',
  UUID_INVALID: 'No object has this uuid; list the objects of its class again.',
  VM_BAD_POWER_STATE: 'Bring the VM into the expected power state first.',
  HOST_NOT_ENOUGH_FREE_MEMORY: 'Stop some VMs, give this one less memory, or choose another host.',
  OPERATION_NOT_ALLOWED: 'The state of the object forbids this operation.',
  OTHER_OPERATION_IN_PROGRESS: 'Wait until the operation under way on this VM has ended.',
  MAP_DUPLICATE_KEY: 'Remove the key from the map first.',
  DEVICE_ALREADY_EXISTS: 'Choose another device number, or leave it empty to have one assigned.',
  EVENTS_LOST: 'Fetch all records again, then go on with a new token.',
  EVENT_FROM_TOKEN_PARSE_FAILURE: 'Start again with an empty token.',
  TASK_CANCELLED: 'The task was cancelled on request.',
  XENAPI_MISSING_PLUGIN: 'This host has no such plugin; Shoal offers the plugin "shoal".',
  XENAPI_PLUGIN_FAILURE: 'The plugin call itself failed; see the message.',
  // ours: images
  IMAGE_UNKNOWN: 'Upload the image first (shoal image put FILE), or list the known ones.',
  IMAGE_NOT_ELF: 'Give a 64-bit x86 ELF kernel, not compressed.',
  IMAGE_NO_XEN_NOTES: 'Build the image with the ELF notes of a Xen PV guest.',
  IMAGE_UNSUPPORTED: 'Build the image as a 64-bit PV guest kernel for x86.',
  IMAGE_TOO_LARGE: 'Give the VM more memory or strip the image.',
  IMAGE_DIGEST_MISMATCH: 'The bytes are not those the digest names; upload the image again.',
  DELTA_INVALID: 'The delta is damaged or for another image; fetch the whole image instead.',
  DELTA_FAILED: 'Install bsdiff and bzip2 on the controller; until then images go whole.',
  FETCH_FAILED: 'See the message for each source and what was wrong with it; check the network between the host and the controller.',
  SOURCE_MISSING: 'Fetch the source repository with its history, or run this in the checkout that built the image.',
  // ours: bundles
  BUNDLE_INVALID: 'The file is cut, damaged or no bundle; copy it again from where it was made.',
  BUNDLE_UNTRUSTED: 'Have it signed by someone in the file of allowed signers, for the namespace shoal-bundle; nothing was applied.',
  BUNDLE_EXPIRED: 'Have a new bundle made; nothing was applied.',
  BUNDLE_OLD: 'Apply bundles in their order: the message says which counter is here and which the bundle needs; nothing was applied.',
  // ours: VMs, networks, addresses
  NAME_IN_USE: 'Choose another name, or destroy the VM that has this one.',
  NETWORK_UNKNOWN: 'Choose a network that this host has (shoal network list).',
  ADDRESS_IN_USE: 'Choose another address, or leave it out to have one assigned.',
  ADDRESS_INVALID: 'Give an IPv4 address inside the network and outside of its reserved part.',
  ADDRESSES_EXHAUSTED: 'Destroy VMs that are no longer needed, or use a network with a larger range.',
  MEMORY_INVALID: 'Give the memory in KiB, a whole number within the limits that the message names.',
  COMMAND_LINE_TOO_LONG: 'Shorten the arguments: name, addresses and arguments together must fit in 1,023 bytes.',
  LAUNCH_INCOMPLETE: 'The VMs that were started stay and are listed; the data of this error names those that were not.',
  // ours: host and hypervisor
  HYPERCALL_FAILED: 'See the message for the hypercall and its errno; `xl dmesg` on the host may say more.',
  HYPERVISOR_UNAVAILABLE: 'Run this in dom0 of a Xen host, as root.',
  XENSTORE_FAILED: 'Check that the xenstore daemon of the host runs.',
  VIF_FAILED: 'Check that xen-netback is loaded and that the bridge of the network exists.',
  VBD_FAILED: 'Check that xen-blkback is loaded in dom0 (`modprobe xen-blkback`); its log (dmesg) may say more.',
  DISK_UNUSABLE: 'Check that the path is that of a file or block device in dom0 that can be opened.',
  DISK_IN_USE: 'Shut down and destroy the VM that has the disk, or give the disk to both read-only.',
  DISK_UNKNOWN: 'List the disks of the host (shoal disk list).',
  DISK_FULL: 'Make the disk smaller, or make room where the agent keeps disks.',
  SWITCH_UNAVAILABLE: 'Start shoal-switch on the host, or give the vif the backend netback.',
  SWITCH_REFUSED: 'Look at the log of shoal-switch on the host; its errno says what it did not like.',
  HOST_LIMIT: 'The host is at a limit that the message names; raise it or use another host.',
  CONNECTION_FAILED: 'Check the address of the host and that its agent runs.',
  CERTIFICATE_MISMATCH: 'Give the certificate of this host with --ca; it is not the one that was expected.',
  REQUEST_MALFORMED: 'Send a JSON-RPC 2.0 or XML-RPC call.',
  REQUEST_TOO_LARGE: 'Send less in one request.',
  CONFIG_INVALID: 'Correct the named field of the configuration file.',
  STATE_UNREADABLE: 'Use the version of the agent that wrote the file, or move the file away: running VMs are adopted from Xen.',
  // ours: saved and migrating VMs
  SAVED_VM_INVALID: 'Save the VM again: what was given is cut, changed, or of another version. Nothing was kept of it.',
  MIGRATION_REFUSED: 'See the message for what the target lacks; the VM runs on where it was.',
  MIGRATION_FAILED: 'The VM runs on where it was; see the message, then try again.',
  MIGRATION_IN_DOUBT: 'The VM is suspended until its host can ask the target; `shoal vm migrate VM --resolve here` or `there` decides without it.',
  // ours: controller
  SPEC_INVALID: 'Correct every field that the reasons name; nothing was changed.',
  SPEC_IMPOSSIBLE: 'See the reasons: change the spec or the fleet; nothing was changed.',
  QUOTA_EXCEEDED: 'Ask for less, or ask the operator for more; nothing was changed.',
  REQUEST_INVALID: 'Correct what the reasons name; nothing was changed.',
  TOKEN_INVALID: 'Give a token that this controller made and that has not expired, as "Authorization: Bearer TOKEN".',
  FORBIDDEN: 'Use a token whose role allows this.',
  NOT_FOUND: 'It is gone or never was; list what there is.',
  CONFLICT: 'Look at it again, then decide.',
  HOST_UNSUPPORTED: 'The message names what the host lacks; use a Shoal host agent, or a host that has it.',
  HOST_AWAY: 'Check the host and the network to it; the controller tries again by itself.',
  UNPLACEABLE: 'Add a host, free memory, or ask for less; the controller tries again by itself.',
  // ours: deployment repository
  DEPLOYMENT_REFUSED: 'Correct what the reasons name, commit it anew, signed, and push again; nothing was changed.',
  REPOSITORY_FAILED: 'See the message for what git said; what was accepted before stays as it is, and it is tried again.',
  // ours: object stores
  VOLUME_INVALID: 'Give a file or device that `shoal store make` or minicache made; `shoal store verify` says what is wrong with it.',
  VOLUME_FULL: 'Use a larger volume, or remove objects.',
  // ours: middleboxes
  CLICK_REFUSED: 'Correct the configuration at the lines and columns named; the one that ran runs on.',
  // ours: video
  MEDIA_UNREADABLE: 'Give a file or an address that ffmpeg can read; `ffprobe` on it says more. Nothing was published.',
  MEDIA_FAILED: 'See the message for what ffmpeg said; nothing that is half done was published.',
  UDP_SEND_FAILED: 'Check the address, the route to it and, for multicast, the interface; the message has the errno.',
  // ours: Multipath TCP
  MPTCP_FAILED: 'See the message for the call and its errno; it needs root, and `sysctl net.mptcp` says how the kernel is set.',
  PATHS_LOST: 'See the message for the connections that would not survive; free them, or let the move go on without them.',
  // ours: command line, lab
  USAGE: 'See `shoal help`.',
  LAB_FAILED: 'Run `shoal lab status`; `shoal lab down` cleans up.',
  LAB_NOT_UP: 'Start the lab first: `shoal lab up`.',
  SETUP_FAILED: "Shoal needs Debian 12 on x86-64, root, and Debian's packages and npm within reach.",
  TIMEOUT: 'Try again; if it stays so, look at the state of the host.',
} as const;

export type ErrorCode = keyof typeof errorHints;

export interface ErrorOptions {
  /** What the operator does next; by default the table's. */
  hint?: string;
  /** Facts for programs: plain JSON. */
  data?: Record<string, unknown>;
  /** XenAPI's positional parameters of a XenAPI code (for example [ref, expected, actual] of VM_BAD_POWER_STATE). */
  params?: string[];
  cause?: unknown;
}

export class ShoalError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;
  readonly data: Record<string, unknown>;
  readonly params: string[];

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'ShoalError';
    this.code = code;
    this.hint = options.hint ?? errorHints[code];
    this.data = options.data ?? {};
    this.params = options.params ?? [];
  }
}

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorHints, code);
}

/** Any thrown thing as a ShoalError; what is not one becomes INTERNAL_ERROR with the original as its cause. */
export function asShoalError(thrown: unknown): ShoalError {
  if (thrown instanceof ShoalError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new ShoalError('INTERNAL_ERROR', message, { cause: thrown });
}
