/** The names of all calls, those that follow from the fields included. */
import { classes, modelOf } from './model.ts';

/** Every call by name, as system.listMethods has it. */
export function methodNames(): string[] {
  const names: string[] = [];
  for (const className of Object.keys(classes)) {
    const model = modelOf(className)!;
    for (const [word, call] of Object.entries(model.calls)) {
      names.push(`${className}.${word}`);
      if (call.async === true) names.push(`Async.${className}.${word}`);
    }
    if (model.listed)
      for (const word of ['get_all', 'get_all_records', 'get_record', 'get_by_uuid']) names.push(`${className}.${word}`);
    if (model.listed && Object.hasOwn(model.fields, 'name_label')) names.push(`${className}.get_by_name_label`);
    for (const [field, { type, access }] of Object.entries(model.fields)) {
      names.push(`${className}.get_${field}`);
      if (access !== 'rw') continue;
      names.push(`${className}.set_${field}`);
      if (type === 'map') names.push(`${className}.add_to_${field}`, `${className}.remove_from_${field}`);
    }
  }
  return [...new Set(names)];
}
