// A worker thread does not inherit tsx from the process; this file brings it in, and is JavaScript for that reason alone.
import { register } from 'tsx/esm/api';

register();
export default (await import('./worker.ts')).default;
