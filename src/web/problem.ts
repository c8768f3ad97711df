/** What went wrong, as it is shown: what happened, what to do next, and every reason. Pure. */

export interface Reason {
  path: string;
  message: string;
  hint: string;
}

export class Problem extends Error {
  /** HTTP status; 0 when there was no answer. */
  readonly status: number;
  readonly code: string;
  readonly hint: string;
  readonly reasons: readonly Reason[];

  constructor(status: number, code: string, message: string, hint: string, reasons: readonly Reason[] = []) {
    super(message);
    this.status = status;
    this.code = code;
    this.hint = hint;
    this.reasons = reasons;
  }
}

/** Out of a problem document, or of what `fetch` threw. */
export function problemOf(given: unknown, status = 0): Problem {
  if (given instanceof Problem) return given;
  const { code, detail, hint, reasons } = (given ?? {}) as { code?: string; detail?: string; hint?: string; reasons?: Reason[] };
  if (typeof detail === 'string') return new Problem(status, String(code ?? ''), detail, hint ?? '', reasons ?? []);
  if (status !== 0) return new Problem(status, '', `The controller answered ${status}.`, 'Look at its log.');
  const late = (given as { name?: string } | undefined)?.name === 'TimeoutError';
  return new Problem(
    0,
    late ? 'TIMEOUT' : 'CONNECTION_FAILED',
    late ? 'The controller gave no answer in time.' : 'The controller cannot be reached.',
    'Check that it runs and that this machine reaches it, then try again.',
  );
}
