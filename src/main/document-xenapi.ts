/** Writes docs/xenapi.md out of the data model. */
import { writeFileSync } from 'node:fs';
import { documentation } from '../xenapi/documentation.ts';

writeFileSync(new URL('../../docs/xenapi.md', import.meta.url), documentation());
