/** Branded identifiers: a domain id is not a port number, and the compiler knows. */
declare const brand: unique symbol;
type Branded<T, B extends string> = T & { readonly [brand]: B };

/** Xen's number of a domain on one host: 0 is dom0, guests 1..0x7fef. Reused by Xen after it wraps. */
export type Domid = Branded<number, 'Domid'>;
/** Lower-case RFC 9562 text form. */
export type Uuid = Branded<string, 'Uuid'>;
/** `sha256:` and 64 lower-case hex digits. */
export type Digest = Branded<string, 'Digest'>;

export const asDomid = (n: number): Domid => n as Domid;

const uuidForm = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
export const isUuid = (s: string): s is Uuid => uuidForm.test(s);

const digestForm = /^sha256:[0-9a-f]{64}$/;
export const isDigest = (s: string): s is Digest => digestForm.test(s);
