/**
 * The words the data model is written in: what a field or a parameter can be, who may set it, what a call looks like. From one
 * model come the record types (below), the server's checks and generic calls (../dispatch.ts) and docs/xenapi.md
 * (../documentation.ts).
 */
import type { WireDouble, WireTime } from '../wire.ts';

/** `ref X` is a reference to an object of class X, `refs X` a list of them, `record X` the record that X.create takes. */
export type FieldType =
  | 'string'
  | 'int'
  | 'float'
  | 'bool'
  | 'datetime'
  | 'strings'
  | 'map'
  | `ref ${string}`
  | `refs ${string}`
  | `record ${string}`
  | 'any';

export type ValueOf<T extends FieldType> = T extends 'string' | `ref ${string}`
  ? string
  : T extends 'int'
    ? number
    : T extends 'float'
      ? WireDouble
      : T extends 'bool'
        ? boolean
        : T extends 'datetime'
          ? WireTime
          : T extends 'strings' | `refs ${string}`
            ? string[]
            : T extends 'map'
              ? Record<string, string>
              : unknown;

/**
 * ro: the server's; create: given at creation, fixed after; rw: can be set at any time the object allows it; fixed: has one value
 * on every Shoal host, and is in the model so that XenAPI's clients find it.
 */
export type Access = 'ro' | 'create' | 'rw' | 'fixed';

export interface Field<T extends FieldType = FieldType, A extends Access = Access> {
  readonly type: T;
  readonly access: A;
  readonly doc: string;
  /** Of a fixed field. */
  readonly value?: unknown;
}

export interface Param {
  readonly name: string;
  readonly type: FieldType;
  /** Taken when the caller leaves the parameter out; a parameter without one is required. */
  readonly otherwise?: unknown;
}

export interface Call {
  readonly params: readonly Param[];
  readonly result: FieldType | 'void';
  readonly doc: string;
  /** Needs no session as its first parameter. */
  readonly open?: true;
  /** Has an Async. form that returns a task. */
  readonly async?: true;
}

export interface ClassModel {
  readonly doc: string;
  readonly fields: Readonly<Record<string, Field>>;
  readonly calls: Readonly<Record<string, Call>>;
  /** Has get_all, get_all_records, get_record, get_by_uuid and events. */
  readonly listed: boolean;
}

export const ro = <T extends FieldType>(type: T, doc: string): Field<T, 'ro'> => ({ type, access: 'ro', doc });
export const rw = <T extends FieldType>(type: T, doc: string): Field<T, 'rw'> => ({ type, access: 'rw', doc });
export const create = <T extends FieldType>(type: T, doc: string): Field<T, 'create'> => ({ type, access: 'create', doc });
export const fixed = <T extends FieldType>(type: T, value: ValueOf<T>, doc: string): Field<T, 'fixed'> => ({
  type,
  access: 'fixed',
  doc,
  value,
});

export const param = (name: string, type: FieldType): Param => ({ name, type });
export const optional = (name: string, type: FieldType, otherwise: unknown): Param => ({ name, type, otherwise });

/** A call with an Async. form. */
export const call = (params: Param[], result: Call['result'], doc: string): Call => ({ params, result, doc, async: true });
/** A call that is over at once and has no Async. form. */
export const quick = (params: Param[], result: Call['result'], doc: string): Call => ({ params, result, doc });
