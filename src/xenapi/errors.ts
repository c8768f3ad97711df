/**
 * Errors across the wire, both ways, in one place. XenAPI's failure is a list of strings, the code first. Codes that XenAPI has
 * carry XenAPI's parameters, so that any client understands them; ours carry message, hint and JSON data, so that nothing is lost
 * on the way to our own.
 */
import { asShoalError, errorHints, isErrorCode, ShoalError, type ErrorCode } from '../model/errors.ts';

type Describe = (params: readonly string[]) => string;

/**
 * XenAPI's codes: how many parameters a person needs to read, and how he reads them. A failure with fewer is shown as it came.
 */
const xenApiCodes: Partial<Record<ErrorCode, [least: number, describe: Describe]>> = {
  INTERNAL_ERROR: [1, ([what]) => `The host failed: ${what}`],
  MESSAGE_METHOD_UNKNOWN: [1, ([method]) => `The host has no call "${method}".`],
  MESSAGE_PARAMETER_COUNT_MISMATCH: [3, ([method, wanted, got]) => `${method} takes ${wanted} parameters, not ${got}.`],
  FIELD_TYPE_ERROR: [2, ([field, type]) => `"${field}" must be ${type}.`],
  VALUE_NOT_SUPPORTED: [3, ([field, value, why]) => `${field}${value === '' ? '' : ` "${value}"`}: ${why}`],
  SESSION_AUTHENTICATION_FAILED: [2, ([, why]) => why!],
  SESSION_INVALID: [0, () => 'The session has ended.'],
  HANDLE_INVALID: [2, ([of, ref]) => `There is no ${of} ${ref}.`],
  UUID_INVALID: [2, ([of, uuid]) => `There is no ${of} with the uuid ${uuid}.`],
  VM_BAD_POWER_STATE: [3, ([, wanted, got]) => `The VM is ${got}; this needs it ${wanted}.`],
  HOST_NOT_ENOUGH_FREE_MEMORY: [2, ([need, free]) => `${kib(need!)} KiB are needed, the host has ${kib(free!)} KiB to give.`],
  OPERATION_NOT_ALLOWED: [1, ([why]) => why!],
  OTHER_OPERATION_IN_PROGRESS: [3, ([of, , name]) => `The ${of} is busy: ${name} is under way.`],
  MAP_DUPLICATE_KEY: [4, ([of, field, , key]) => `${of}.${field} has the key "${key}" already.`],
  DEVICE_ALREADY_EXISTS: [1, ([device]) => `The VM has a device ${device} already.`],
  EVENTS_LOST: [0, () => 'Events were lost.'],
  EVENT_FROM_TOKEN_PARSE_FAILURE: [1, ([token]) => `"${token}" is not a token of event.from.`],
  TASK_CANCELLED: [0, () => 'The operation was cancelled.'],
  XENAPI_MISSING_PLUGIN: [1, ([name]) => `The host has no plugin "${name}".`],
  XENAPI_PLUGIN_FAILURE: [3, ([fn, , why]) => `The plugin function ${fn} failed: ${why}`],
};

const kib = (bytes: string): number => Math.ceil(Number(bytes) / 1024);

/** [code, ...params] of anything thrown. */
export function toFailure(thrown: unknown): string[] {
  const error = asShoalError(thrown);
  if (Object.hasOwn(xenApiCodes, error.code)) return [error.code, ...(error.params.length > 0 ? error.params : [error.message])];
  return [error.code, error.message, error.hint, JSON.stringify(error.data)];
}

/** A failure as a client got it: the list itself, or the error of the package xen-api, which has it taken apart. */
export type Failure = readonly string[] | { code: string; params: readonly string[] };

/**
 * The error that `toFailure` was given, as far as the wire carries it. A code of another XenAPI server becomes INTERNAL_ERROR.
 */
export function toShoalError(failure: Failure): ShoalError {
  const [code, params] = 'code' in failure ? [failure.code, failure.params] : [failure[0] ?? '', failure.slice(1)];
  if (!isErrorCode(code)) {
    return new ShoalError('INTERNAL_ERROR', [code, ...params].join(' '), {
      hint: "The error is the host's own; see its documentation.",
      data: { code, params: [...params] },
    });
  }
  const known = xenApiCodes[code];
  if (known !== undefined) {
    const [least, describe] = known;
    const message = params.length >= least ? describe(params) : params.join(' ') || errorHints[code];
    return new ShoalError(code, message, { params: [...params] });
  }
  return new ShoalError(code, params[0] ?? code, { hint: params[1] ?? errorHints[code], data: parseData(params[2]) });
}

function parseData(text: string | undefined): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text ?? '{}');
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
