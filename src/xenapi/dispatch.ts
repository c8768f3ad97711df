/**
 * From a method's name and its parameters to the answer. The calls every class has (get_record, get_all_records, get_FIELD,
 * set_FIELD, …) follow from the data model; the others are in calls.ts. No table of methods is built at the start: a name is
 * taken apart when it comes.
 */
import { ShoalError } from '../model/errors.ts';
import { refOf } from '../host/refs.ts';
import type { Api, Caller } from './api.ts';
import { calls, setters } from './calls.ts';
import type { Call, ClassModel } from './model/grammar.ts';
import { modelOf, type ListedClass } from './model/model.ts';
import { needRecord, recordFor, refsFor } from './records.ts';
import { gathered, SlicedMap, SlicedText } from './sliced.ts';
import { checked } from './values.ts';

/** What a method does with its parameters, the session already taken off. */
interface Method {
  call: Pick<Call, 'params' | 'open'>;
  run: (api: Api, caller: Caller, args: unknown[]) => unknown;
  asyncAllowed: boolean;
}

/** Answers one call. Throws ShoalError. */
export async function dispatch(api: Api, name: string, params: readonly unknown[], caller: Caller): Promise<unknown> {
  const isAsync = name.startsWith('Async.');
  const method = methodNamed(isAsync ? name.slice('Async.'.length) : name);
  if (method === undefined || (isAsync && !method.asyncAllowed)) {
    throw new ShoalError('MESSAGE_METHOD_UNKNOWN', `There is no call "${name.slice(0, 100)}".`, { params: [name.slice(0, 100)] });
  }
  let args = [...params];
  let known = caller;
  if (method.call.open !== true) {
    if (args.length === 0) throw countMismatch(name, method.call, 0);
    known = { ...caller, session: api.sessions.need(args[0]) };
    args = args.slice(1);
  }
  args = complete(name, method.call, args);
  if (!isAsync) return method.run(api, known, args);
  // The task outlives the request: a client that hangs up does not end it, task.cancel does.
  const task = api.tasks.run(name, async (signal, progress) => {
    const result = await method.run(api, { ...known, signal, progress }, args);
    return result instanceof SlicedText ? gathered(result.pieces) : result;
  });
  return task.ref;
}

function complete(name: string, call: Method['call'], args: unknown[]): unknown[] {
  const required = call.params.filter((p) => p.otherwise === undefined).length;
  if (args.length < required || args.length > call.params.length) throw countMismatch(name, call, args.length);
  return call.params.map((p, i) => (i < args.length ? checked(p.type, args[i], p.name) : p.otherwise));
}

function countMismatch(name: string, call: Method['call'], got: number): ShoalError {
  const wanted = call.params.length;
  return new ShoalError('MESSAGE_PARAMETER_COUNT_MISMATCH', `${name} takes ${wanted} parameters after the session, not ${got}.`, {
    params: [name, String(wanted), String(got)],
  });
}

function methodNamed(name: string): Method | undefined {
  const dot = name.indexOf('.');
  const model = modelOf(name.slice(0, dot));
  if (dot < 0 || model === undefined) return undefined;
  const word = name.slice(dot + 1);
  if (Object.hasOwn(model.calls, word)) {
    const call = model.calls[word]!;
    return { call, run: (api, caller, args) => calls[name]!(api, caller, args), asyncAllowed: call.async === true };
  }
  if (!model.listed) return ownGetter(name.slice(0, dot), model, word);
  return generic(name.slice(0, dot) as ListedClass, model, word);
}

const self = { name: 'self', type: 'string' } as const;
const reading = (params: Call['params'], run: Method['run']): Method => ({ call: { params }, run, asyncAllowed: false });

/** session.get_FIELD: the record comes from calls.ts. */
function ownGetter(className: string, model: ClassModel, word: string): Method | undefined {
  const field = word.startsWith('get_') ? word.slice(4) : '';
  if (!Object.hasOwn(model.fields, field)) return undefined;
  return reading(
    [self],
    (api, caller, args) => (calls[`${className}.get_record`]!(api, caller, args) as Record<string, unknown>)[field],
  );
}

function generic(name: ListedClass, model: ClassModel, word: string): Method | undefined {
  switch (word) {
    case 'get_all':
      return reading([], (api) => [...refsFor(api, name)]);
    case 'get_all_records':
      return reading([], async (api) => {
        if (name === 'host_metrics') await api.agent.facts();
        return new SlicedMap(recordsOf(api, name));
      });
    case 'get_record':
      return reading([self], (api, _, [ref]) => fresh(api, name, ref as string));
    case 'get_by_uuid':
      return reading([{ name: 'uuid', type: 'string' }], (api, _, [uuid]) => {
        const ref = refOf(uuid as string);
        if (recordFor(api, name, ref) !== undefined) return ref;
        throw new ShoalError('UUID_INVALID', `There is no ${name} with this uuid.`, {
          params: [name, (uuid as string).slice(0, 64)],
        });
      });
    case 'get_by_name_label':
      if (!Object.hasOwn(model.fields, 'name_label')) return undefined;
      return reading([{ name: 'label', type: 'string' }], (api, _, [label]) => byName(api, name, label as string));
  }
  const [verb, field] = split(word);
  const type = Object.hasOwn(model.fields, field) ? model.fields[field]!.type : undefined;
  if (type === undefined) return undefined;
  if (verb === 'get') return reading([self], async (api, _, [ref]) => (await fresh(api, name, ref as string))[field]);
  const setter = setters[`${name}.${field}`];
  if (model.fields[field]!.access !== 'rw' || setter === undefined) return undefined;
  const writing = (params: Call['params'], value: (record: Record<string, unknown>, args: unknown[]) => unknown): Method => ({
    call: { params: [self, ...params] },
    run: async (api, caller, [ref, ...args]) => {
      const next = value(needRecord(api, name, ref as string), args);
      if (next !== undefined) await setter(api, ref as string, next, caller);
    },
    asyncAllowed: true,
  });
  if (verb === 'set') return writing([{ name: field, type }], (_, [value]) => value);
  if (type !== 'map') return undefined;
  const map = (record: Record<string, unknown>) => record[field] as Record<string, string>;
  if (verb === 'add_to') {
    return writing(
      [
        { name: 'key', type: 'string' },
        { name: 'value', type: 'string' },
      ],
      (record, [key, value]) => {
        if (Object.hasOwn(map(record), key as string)) {
          throw new ShoalError('MAP_DUPLICATE_KEY', `${field} has the key "${key as string}" already.`, {
            params: [name, field, record['uuid'] as string, key as string],
          });
        }
        return { ...map(record), [key as string]: value };
      },
    );
  }
  if (verb === 'remove_from') {
    return writing([{ name: 'key', type: 'string' }], (record, [key]) => {
      if (!Object.hasOwn(map(record), key as string)) return undefined;
      const { [key as string]: _, ...rest } = map(record);
      return rest;
    });
  }
  return undefined;
}

function* recordsOf(api: Api, name: ListedClass): Generator<[string, unknown]> {
  for (const ref of refsFor(api, name)) {
    const record = recordFor(api, name, ref);
    if (record !== undefined) yield [ref, record];
  }
}

async function fresh(api: Api, name: ListedClass, ref: string): Promise<Record<string, unknown>> {
  if (name === 'host_metrics') await api.agent.facts();
  return needRecord(api, name, ref);
}

function byName(api: Api, name: ListedClass, label: string): string[] {
  if (name === 'VM') {
    const vm = api.agent.fleet.named(label);
    return vm === undefined ? [] : [refOf(vm.uuid)];
  }
  return [...refsFor(api, name)].filter((ref) => recordFor(api, name, ref)?.['name_label'] === label);
}

function split(word: string): [verb: string, field: string] {
  for (const verb of ['get', 'set', 'add_to', 'remove_from']) {
    if (word.startsWith(`${verb}_`)) return [verb, word.slice(verb.length + 1)];
  }
  return ['', ''];
}
