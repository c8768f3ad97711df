/** The package has no types of its own; the tests look at it as any client written in JavaScript does. */
declare module 'xen-api' {
  export function createClient(options: object): any;
}
