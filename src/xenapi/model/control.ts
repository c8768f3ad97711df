/** The data model: sessions, tasks, events. */
import { fixed, optional, param, quick, ro, rw, type Call, type ClassModel } from './grammar.ts';

const self = param('self', 'ref session');
const open = (call: Call): Call => ({ ...call, open: true });

export const session = {
  doc: 'A login. A session ends by logout, after a day without a call, or when 500 newer ones are in use.',
  listed: false,
  fields: {
    uuid: ro('string', ''),
    this_host: ro('ref host', ''),
    this_user: fixed('ref user', 'OpaqueRef:NULL', ''),
    last_active: ro('datetime', ''),
    pool: ro('ref pool', ''),
    other_config: fixed('map', {}, ''),
    is_local_superuser: fixed('bool', true, ''),
    auth_user_name: ro('string', ''),
    originator: ro('string', ''),
  },
  calls: {
    login_with_password: open(
      quick(
        [
          param('uname', 'string'),
          param('pwd', 'string'),
          optional('version', 'string', ''),
          optional('originator', 'string', ''),
        ],
        'ref session',
        'The user is root, the password that of the password file. After failures from one address the answer takes longer.',
      ),
    ),
    logout: quick([], 'void', 'Ends the session.'),
    get_record: quick([self], 'any', 'Of the own session only, as are the getters of its fields.'),
  },
} as const satisfies ClassModel;

const task_ = param('self', 'ref task');
export const task = {
  doc: 'An operation under way or ended. Every Async. call makes one, its caller destroys it. Tasks do not outlive the agent.',
  listed: true,
  fields: {
    uuid: ro('string', ''),
    name_label: ro('string', ''),
    name_description: ro('string', ''),
    allowed_operations: ro('strings', ''),
    current_operations: fixed('map', {}, ''),
    created: ro('datetime', ''),
    finished: ro('datetime', '1970 while it runs.'),
    status: rw('string', 'pending, success, failure, cancelling or cancelled. Can be set on tasks made with task.create.'),
    resident_on: ro('ref host', ''),
    progress: rw('float', '0 to 1. Can be set on tasks made with task.create.'),
    type: fixed('string', '<none/>', ''),
    result: ro('string', "XML-RPC value of the call's result."),
    error_info: ro('strings', 'Code and parameters of a failure.'),
    other_config: rw('map', 'Anything, up to 8 KiB.'),
    subtask_of: fixed('ref task', 'OpaqueRef:NULL', ''),
    subtasks: fixed('refs task', [], ''),
    backtrace: fixed('string', '', ''),
  },
  calls: {
    create: quick(
      [param('label', 'string'), optional('description', 'string', '')],
      'ref task',
      'A task that the caller steers.',
    ),
    cancel: quick([param('task', 'ref task')], 'void', 'Asks the operation to stop at its next step and leave nothing behind.'),
    destroy: quick([task_], 'void', 'Takes out a task that ended, or one made with task.create.'),
  },
} as const satisfies ClassModel;

export const event = {
  doc: 'Changes of objects. A client that comes late gets one event an object, with its latest record.',
  listed: false,
  fields: {},
  calls: {
    from: quick(
      [param('classes', 'strings'), param('token', 'string'), param('timeout', 'float')],
      'any',
      'Waits up to `timeout` seconds for changes after `token` ("" gives every object) of the classes ("VM", "VM/REF", "*"). ' +
        'Result: {events: [{id, timestamp, class, operation, ref, snapshot}], token, valid_ref_counts}.',
    ),
    inject: quick(
      [param('class', 'string'), param('ref', 'string')],
      'string',
      'A change of the object that changes nothing; returns the token at it.',
    ),
  },
} as const satisfies ClassModel;

export const system = {
  doc: 'About the server.',
  listed: false,
  fields: {},
  calls: {
    listMethods: open(quick([], 'strings', 'Every call.')),
  },
} as const satisfies ClassModel;
