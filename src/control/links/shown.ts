/** Errors as a host's answers show them. */
import { ShoalError } from '../../model/errors.ts';

export interface ErrorShown {
  code: string;
  message: string;
  hint: string;
  data?: Record<string, unknown>;
}

export const errorOf = (shown: ErrorShown | undefined): ShoalError =>
  new ShoalError((shown?.code ?? 'INTERNAL_ERROR') as ShoalError['code'], shown?.message ?? 'The host gave no outcome.', {
    hint: shown?.hint ?? '',
    data: shown?.data ?? {},
  });

/** Undefined when the body is no such answer. */
export function parsed(body: string): ErrorShown | undefined {
  try {
    return JSON.parse(body) as ErrorShown;
  } catch {
    return undefined;
  }
}
