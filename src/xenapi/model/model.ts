/** The data model, all classes together, and the types that follow from it. */
import { event, session, system, task } from './control.ts';
import type { ClassModel, ValueOf } from './grammar.ts';
import { host, host_metrics, network, pool } from './host.ts';
import { SR, VBD, VDI } from './storage.ts';
import { consoleClass, VIF, VM, VM_guest_metrics, VM_metrics } from './vm.ts';

export const classes = {
  session,
  pool,
  host,
  host_metrics,
  VM,
  VM_metrics,
  VM_guest_metrics,
  VIF,
  SR,
  VDI,
  VBD,
  network,
  console: consoleClass,
  task,
  event,
  system,
} as const satisfies Record<string, ClassModel>;

export type ClassName = keyof typeof classes;
type Listed = { [C in ClassName]: (typeof classes)[C]['listed'] extends true ? C : never };
/** Classes whose objects can be listed and watched. */
export type ListedClass = Listed[ClassName];

type FieldsOf<C extends ClassName> = (typeof classes)[C]['fields'];
/** A record as it goes over the wire. */
export type RecordOf<C extends ClassName> = {
  [F in keyof FieldsOf<C>]: FieldsOf<C>[F] extends { type: infer T } ? ValueOf<T & import('./grammar.ts').FieldType> : never;
};
type FixedField<C extends ClassName> = {
  [F in keyof FieldsOf<C>]: FieldsOf<C>[F] extends { access: 'fixed' } ? F : never;
}[keyof FieldsOf<C>];
/** What of a record is not fixed by the model. */
export type ChangingOf<C extends ClassName> = Omit<RecordOf<C>, FixedField<C>>;

export const listedClasses = Object.keys(classes).filter((name) => classes[name as ClassName].listed) as ListedClass[];

export const modelOf = (name: string): ClassModel | undefined =>
  Object.hasOwn(classes, name) ? (classes[name as ClassName] as ClassModel) : undefined;

const fixedValues = new Map<ClassName, Record<string, unknown>>();

/**
 * A whole record: the model's fixed values with what changes, in the model's order, so that all records of a class look the same.
 */
export function recordOf<C extends ClassName>(name: C, changing: ChangingOf<C>): RecordOf<C> {
  let values = fixedValues.get(name);
  if (values === undefined) {
    values = Object.fromEntries(Object.entries((classes[name] as ClassModel).fields).map(([field, { value }]) => [field, value]));
    fixedValues.set(name, values);
  }
  return { ...values, ...changing } as RecordOf<C>;
}
