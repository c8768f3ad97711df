/** Checks a parameter against the model and gives it back in one form, whichever protocol it came by. */
import { ShoalError } from '../model/errors.ts';
import type { FieldType } from './model/grammar.ts';

const wrong = (name: string, type: string): ShoalError =>
  new ShoalError('FIELD_TYPE_ERROR', `"${name}" must be ${type}.`, { params: [name, type] });

/** Throws FIELD_TYPE_ERROR. Integers and doubles may be decimal strings (XML-RPC); references are plain strings. */
export function checked(type: FieldType, value: unknown, name: string): unknown {
  switch (type) {
    case 'any':
      return value;
    case 'string':
    case 'datetime':
      if (typeof value === 'string') return value;
      break;
    case 'int': {
      const n = typeof value === 'string' && /^-?\d{1,16}$/.test(value) ? Number(value) : value;
      if (Number.isSafeInteger(n)) return n;
      break;
    }
    case 'float': {
      const n = typeof value === 'string' && /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value;
      if (typeof n === 'number' && Number.isFinite(n)) return n;
      break;
    }
    case 'bool':
      if (typeof value === 'boolean') return value;
      break;
    case 'strings':
      if (Array.isArray(value) && value.every((v) => typeof v === 'string')) return value;
      break;
    case 'map':
      if (isRecord(value) && Object.values(value).every((v) => typeof v === 'string')) return value;
      break;
    default:
      if (type.startsWith('record ') && isRecord(value)) return value;
      if (type.startsWith('refs ') && Array.isArray(value) && value.every((v) => typeof v === 'string')) return value;
      if (type.startsWith('ref ') && typeof value === 'string') return value;
  }
  throw wrong(name, type);
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && Object.getPrototypeOf(value) === Object.prototype;
