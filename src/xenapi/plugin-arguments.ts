/** Arguments of the plugin's functions, which are strings: read as what they have to be, or refused by name. */
import { ShoalError } from '../model/errors.ts';
import type { Api, Caller } from './api.ts';
import type { WireError } from './plugin-types.ts';

/** Its result goes as JSON; a SlicedText is JSON already. */
export type PluginFunction = (api: Api, caller: Caller, args: Record<string, string>) => Promise<unknown> | unknown;
export type PluginFunctions = Record<string, { takes: readonly string[]; run: PluginFunction }>;

export const shown = ({ code, message, hint, data }: ShoalError): WireError => ({ code, message, hint, data });

export function json(name: string, text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? '');
  } catch {
    throw wrong(name, 'JSON');
  }
}

export const wrong = (name: string, type: string): ShoalError =>
  new ShoalError('FIELD_TYPE_ERROR', `"${name}" must be ${type}.`, { params: [name, type] });

export function integer(name: string, value: unknown, min: number, max: number): number {
  if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
  throw wrong(name, `a whole number, ${min} to ${max}`);
}

export const isStrings = (value: unknown): value is string[] => Array.isArray(value) && value.every((v) => typeof v === 'string');

export function stringsOf(name: string, text: string | undefined): string[] {
  const value = json(name, text);
  if (isStrings(value)) return value;
  throw wrong(name, 'a JSON list of strings');
}

/** Unknown fields are refused. */
export function objectOf(path: string, value: unknown, fields: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(path, 'a JSON object');
  for (const key of Object.keys(value))
    if (!fields.includes(key)) throw wrong(`${path}.${key.slice(0, 64)}`, `one of ${fields.join(', ')}`);
  return value as Record<string, unknown>;
}
