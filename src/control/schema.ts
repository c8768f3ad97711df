/** The checks that the API shares with the reader of the deployment repository. */
export { ajv, readSpec, reasonsOf, refused, textAjv } from '../schema/schema.ts';
