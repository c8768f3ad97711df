/** Errors that come in a body or inside of a result, as an object and not as XenAPI's list. */
import { isErrorCode, ShoalError } from '../model/errors.ts';
import { toShoalError } from '../xenapi/errors.ts';
import type { WireError } from '../xenapi/plugin-types.ts';

export function errorOf({ code, message, hint, data }: WireError): ShoalError {
  return isErrorCode(code) ? new ShoalError(code, message, { hint, data: data ?? {} }) : toShoalError([code, message]);
}
