/**
 * One JSON object of a configuration file: every field is taken once by the kind it must have, and what is left at the end is
 * refused, for it is a spelling mistake or meant for another version, and either way not what the operator thinks it is.
 */
import { ShoalError } from '../model/errors.ts';

export const invalid = (field: string, why: string): ShoalError =>
  new ShoalError('CONFIG_INVALID', `Configuration: "${field}" ${why}.`, { data: { field } });

export class Fields {
  readonly #path: string;
  readonly #left: Map<string, unknown>;

  constructor(value: unknown, path: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw invalid(path || 'the file', 'must be a JSON object');
    this.#path = path === '' ? '' : `${path}.`;
    this.#left = new Map(Object.entries(value));
  }

  take(name: string): unknown {
    const value = this.#left.get(name);
    this.#left.delete(name);
    return value;
  }

  string(name: string): string | undefined {
    const value = this.take(name);
    if (value === undefined || (typeof value === 'string' && value !== '')) return value;
    throw invalid(this.#path + name, 'must be a text that is not empty');
  }

  need(name: string): string {
    const value = this.string(name);
    if (value === undefined) throw invalid(this.#path + name, 'is needed');
    return value;
  }

  integer(name: string, min: number, max: number): number | undefined {
    const value = this.take(name);
    if (value === undefined) return undefined;
    if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
    throw invalid(this.#path + name, `must be a whole number from ${min} to ${max}`);
  }

  boolean(name: string): boolean | undefined {
    const value = this.take(name);
    if (value === undefined || typeof value === 'boolean') return value;
    throw invalid(this.#path + name, 'must be true or false');
  }

  end(): void {
    const [unknown] = this.#left.keys();
    if (unknown !== undefined) throw invalid(this.#path + unknown, 'is not a field of this version');
  }
}

/** Throws CONFIG_INVALID. */
export function fieldsOf(text: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ShoalError('CONFIG_INVALID', `The configuration is not JSON: ${(error as Error).message}`, { cause: error });
  }
  return new Fields(value, '');
}
