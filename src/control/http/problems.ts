/** Errors as problem documents (RFC 9457): what happened, what to do next, and every reason. */
import { asShoalError, ShoalError, type ErrorCode } from '../../model/errors.ts';

const statuses: Partial<Record<ErrorCode, number>> = {
  TOKEN_INVALID: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  UUID_INVALID: 404,
  HANDLE_INVALID: 404,
  CONFLICT: 409,
  VM_BAD_POWER_STATE: 409,
  OTHER_OPERATION_IN_PROGRESS: 409,
  REQUEST_TOO_LARGE: 413,
  SPEC_INVALID: 422,
  DEPLOYMENT_REFUSED: 422,
  REPOSITORY_FAILED: 503,
  SPEC_IMPOSSIBLE: 422,
  QUOTA_EXCEEDED: 403,
  REQUEST_INVALID: 400,
  REQUEST_MALFORMED: 400,
  CONFIG_INVALID: 400,
  IMAGE_DIGEST_MISMATCH: 400,
  IMAGE_NOT_ELF: 400,
  IMAGE_NO_XEN_NOTES: 400,
  IMAGE_UNSUPPORTED: 400,
  IMAGE_TOO_LARGE: 413,
  HOST_AWAY: 503,
  CONNECTION_FAILED: 503,
  TIMEOUT: 504,
  HOST_LIMIT: 503,
};

export const statusOf = (error: ShoalError): number => statuses[error.code] ?? 500;

/** What fastify itself throws has a status and a code of its own. */
export function toProblemError(thrown: unknown): ShoalError {
  if (thrown instanceof ShoalError) return thrown;
  const { statusCode, code, message } = thrown as { statusCode?: number; code?: string; message?: string };
  if (statusCode === 413) return new ShoalError('REQUEST_TOO_LARGE', 'The body is larger than this call takes.');
  if (code?.startsWith('FST_') === true || (statusCode !== undefined && statusCode >= 400 && statusCode < 500))
    return new ShoalError('REQUEST_MALFORMED', message ?? 'The request was not understood.', {
      hint: 'Send JSON as "application/json".',
    });
  return asShoalError(thrown);
}

export function problem(error: ShoalError) {
  const { reasons, ...data } = error.data;
  // What went wrong inside is for the log.
  const detail = error.code === 'INTERNAL_ERROR' ? 'The controller failed.' : error.message;
  return {
    type: `urn:shoal:error:${error.code}`,
    title: error.code,
    status: statusOf(error),
    detail,
    code: error.code,
    hint: error.hint,
    ...(reasons === undefined ? {} : { reasons }),
    ...(Object.keys(data).length === 0 || error.code === 'INTERNAL_ERROR' ? {} : { data }),
  };
}
