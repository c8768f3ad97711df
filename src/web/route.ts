/** The page's address after "#": which page, of what, with what filter. Anyone who may see it can be sent it. Pure. */

export interface Route {
  page: 'fleet' | 'hosts' | 'services' | 'tasks' | 'events' | 'vm' | 'host' | 'service' | 'none';
  /** Id of the one thing shown; '' on lists. */
  id: string;
  query: Record<string, string>;
}

const lists = ['fleet', 'hosts', 'services', 'tasks', 'events'] as const;
const maxHash = 2000;

export function parseRoute(hash: string): Route {
  const [path = '', search = ''] = hash.slice(0, maxHash).replace(/^#\/?/, '').split('?');
  const query = Object.fromEntries(new URLSearchParams(search));
  let parts: string[];
  try {
    parts = path.split('/').map(decodeURIComponent);
  } catch {
    return { page: 'none', id: '', query };
  }
  const [first = '', ...rest] = parts;
  const id = rest.join('/');
  if (first === '' && id === '') return { page: 'fleet', id: '', query };
  if (id === '') return { page: lists.find((each) => each === first) ?? 'none', id, query };
  if (first === 'vms') return { page: 'vm', id, query };
  if (first === 'hosts') return { page: 'host', id, query };
  if (first === 'services' && rest.length === 2) return { page: 'service', id, query };
  return { page: 'none', id, query };
}

export function hashOf(path: string, query: Record<string, string> = {}): string {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== '')).toString();
  return `#/${path.split('/').map(encodeURIComponent).join('/')}${search === '' ? '' : `?${search}`}`;
}

export const vmHash = (id: string): string => `#/vms/${encodeURIComponent(id)}`;
export const hostHash = (name: string): string => hashOf(`hosts/${name}`);
export const serviceHash = (key: string): string => hashOf(`services/${key}`);
