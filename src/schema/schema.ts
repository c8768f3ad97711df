/**
 * Whether what was sent has the shape it must have, with all that is wrong told at once: the same JSON schemas that the OpenAPI
 * document shows, checked by ajv, its findings turned into a path, a sentence, and what to do.
 */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { ShoalError } from '../model/errors.ts';
import { completed, semanticReasons, serviceSchema, type Reason, type ServiceSpec } from '../model/service.ts';

export const ajv = new Ajv({ allErrors: true, strict: false, useDefaults: false, coerceTypes: false });
/** As `ajv`, for what comes as text: path and query. */
export const textAjv = new Ajv({ allErrors: true, strict: false, coerceTypes: true });

/** More would be noise; a body is bounded, but each of its elements may be wrong. */
const maxReasons = 100;

function reasonOf(error: ErrorObject): Reason {
  const path = error.instancePath.replace(/^\//, '');
  const under = (name: string): string => (path === '' ? name : `${path}/${name}`);
  const p = error.params as Record<string, unknown>;
  switch (error.keyword) {
    case 'additionalProperties':
      return {
        path: under(String(p['additionalProperty'])),
        message: 'is not a field.',
        hint: 'Check the spelling, or leave it out.',
      };
    case 'required':
      return { path: under(String(p['missingProperty'])), message: 'is needed.', hint: 'Give it.' };
    case 'enum':
      return {
        path,
        message: 'has another value than it may have.',
        hint: `It may be ${(p['allowedValues'] as unknown[]).map((v) => JSON.stringify(v)).join(', ')}.`,
      };
    case 'type':
      return { path, message: `must be of the type ${String(p['type'])}.`, hint: `Give it as ${String(p['type'])}.` };
    case 'pattern':
      return { path, message: 'has characters it may not have, or too many.', hint: `It must match ${String(p['pattern'])}.` };
    default:
      return { path, message: `${error.message ?? 'is wrong'}.`, hint: 'Change it so.' };
  }
}

export const reasonsOf = (errors: readonly ErrorObject[] | null | undefined): Reason[] =>
  (errors ?? []).slice(0, maxReasons).map(reasonOf);

const checkSpec: ValidateFunction = ajv.compile(serviceSchema);

/** All that is wrong with a spec by itself, and the spec with everything filled in when nothing is. */
export function readSpec(value: unknown): { spec: ServiceSpec | undefined; reasons: Reason[] } {
  const shapely = checkSpec(value);
  const reasons = [...(shapely ? [] : reasonsOf(checkSpec.errors)), ...semanticReasons(value)].slice(0, maxReasons);
  return { spec: reasons.length === 0 ? completed(value) : undefined, reasons };
}

/** An error whose data has the reasons, and whose message the first of them. */
export function refused(
  code: 'SPEC_INVALID' | 'SPEC_IMPOSSIBLE' | 'QUOTA_EXCEEDED' | 'REQUEST_INVALID' | 'DEPLOYMENT_REFUSED',
  reasons: Reason[],
): ShoalError {
  const [first] = reasons;
  const more = reasons.length > 1 ? ` And ${reasons.length - 1} more.` : '';
  return new ShoalError(code, `${first === undefined ? '' : `${first.path} ${first.message}`.trim()}${more}`, {
    data: { reasons },
  });
}
