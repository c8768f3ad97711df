/**
 * Errors across the wire, both ways, in one place. XenAPI's failure is a list of strings, the code first. Codes that XenAPI has carry XenAPI's
 * parameters, so that any client understands them; ours carry message, hint and JSON data, so that nothing is lost on the way to our own.
 */
import { asShoalError, errorHints, isErrorCode, ShoalError, type ErrorCode } from '../model/errors.ts';

/** XenAPI's codes, and how a person reads their parameters. */
const xenApiCodes: Partial<Record<ErrorCode, (params: readonly string[]) => string>> = {
  INTERNAL_ERROR: ([what]) => `The host failed: ${what ?? 'unknown'}`,
  MESSAGE_METHOD_UNKNOWN: ([method]) => `The host has no call "${method}".`,
  MESSAGE_PARAMETER_COUNT_MISMATCH: ([method, wanted, got]) => `${method} takes ${wanted} parameters, not ${got}.`,
  FIELD_TYPE_ERROR: ([field, type]) => `"${field}" must be of type ${type ?? 'that the documentation names'}.`,
  VALUE_NOT_SUPPORTED: ([field, value, why]) => `${field}${value ? ` "${value}"` : ''}: ${why ?? 'not supported'}`,
  SESSION_AUTHENTICATION_FAILED: ([, why]) => why ?? 'User or password is wrong.',
  SESSION_INVALID: () => 'The session has ended.',
  HANDLE_INVALID: ([of, ref]) => `There is no ${of} ${ref}.`,
  UUID_INVALID: ([of, uuid]) => `There is no ${of} with the uuid ${uuid}.`,
  VM_BAD_POWER_STATE: ([, wanted, got]) => `The VM is ${got}; this needs it ${wanted}.`,
  HOST_NOT_ENOUGH_FREE_MEMORY: ([need, free]) => free === undefined ? need ?? '' : `${kib(need)} KiB are needed, the host has ${kib(free)} KiB to give.`,
  OPERATION_NOT_ALLOWED: ([why]) => why ?? 'The operation is not allowed now.',
  OTHER_OPERATION_IN_PROGRESS: ([of, , name]) => `The ${of} is busy${name ? `: ${name} is under way` : ''}.`,
  MAP_DUPLICATE_KEY: ([of, field, , key]) => `${of}.${field} has the key "${key}" already.`,
  DEVICE_ALREADY_EXISTS: ([device]) => `The VM has a device ${device} already.`,
  EVENTS_LOST: () => 'Events were lost.',
  EVENT_FROM_TOKEN_PARSE_FAILURE: ([token]) => `"${token}" is not a token of event.from.`,
  TASK_CANCELLED: () => 'The operation was cancelled.',
  XENAPI_MISSING_PLUGIN: ([name]) => `The host has no plugin "${name}".`,
  XENAPI_PLUGIN_FAILURE: ([fn, , why]) => `The plugin function ${fn} failed: ${why ?? ''}`,
};

const kib = (bytes: string | undefined): string => String(Math.ceil(Number(bytes ?? 0) / 1024));

/** [code, ...params] of anything thrown. */
export function toFailure(thrown: unknown): string[] {
  const error = asShoalError(thrown);
  if (Object.hasOwn(xenApiCodes, error.code)) return [error.code, ...(error.params.length > 0 ? error.params : [error.message])];
  return [error.code, error.message, error.hint, JSON.stringify(error.data)];
}

/** A failure as a client got it: the list itself, or the error of the package xen-api, which has it taken apart. */
export type Failure = readonly string[] | { code: string; params: readonly string[] };

/** The error that `toFailure` was given, as far as the wire carries it. A code of another XenAPI server becomes INTERNAL_ERROR. */
export function toShoalError(failure: Failure): ShoalError {
  const [code, params] = 'code' in failure ? [failure.code, failure.params] : [failure[0] ?? '', failure.slice(1)];
  if (!isErrorCode(code)) {
    return new ShoalError('INTERNAL_ERROR', [code, ...params].join(' '), {
      hint: 'The error is the host\'s own; see its documentation.',
      data: { code, params: [...params] },
    });
  }
  const describe = xenApiCodes[code];
  if (describe !== undefined) return new ShoalError(code, describe(params), { params: [...params] });
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
