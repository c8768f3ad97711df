/**
 * What a tenant wants: a service, so many copies of one image with their memory, networks, health check and placement. This file
 * has its shape (a JSON schema, which the API, its OpenAPI document and the validation share), what its fields are when they are
 * left out, and what a schema cannot say. docs/formats/service.md tells it to people.
 */

export interface Reason {
  /** Where in the spec, for example "networks/0/addresses"; "" for the whole. */
  path: string;
  message: string;
  hint: string;
}

/** `host`: the controller takes any address of the host's own range. */
export type Addresses = { from: 'host' } | { from: 'pool'; pool: string } | { from: 'list'; list: string[] };

export interface ServiceNetwork {
  name: string;
  addresses: Addresses;
}

interface Probe {
  intervalMs: number;
  timeoutMs: number;
  /** Answers in a row until a copy counts as healthy. */
  healthyAfter: number;
  /** Failures in a row until a healthy copy counts as dead. */
  unhealthyAfter: number;
  /** So long after its start a copy may fail without consequence. */
  graceMs: number;
}

export type HealthCheck = { kind: 'none' } | ({ kind: 'icmp' } & Probe) | ({ kind: 'http'; port: number; path: string } & Probe);

export interface Placement {
  strategy: 'spread' | 'pack';
  /** With spread: rather no copy than a second one on a host. */
  required: boolean;
  /** A host must have all of these. */
  labels: Record<string, string>;
}

export interface RestartPolicy {
  firstMs: number;
  maxMs: number;
  /** A copy that ran for so long begins anew with `firstMs`. */
  resetAfterMs: number;
}

export interface UpdatePolicy {
  /** Copies replaced at once. */
  maxAtOnce: number;
  /** start-first needs room for one more copy; a service with listed addresses always stops first. */
  order: 'start-first' | 'stop-first';
}

export interface ServiceSpec {
  tenant: string;
  name: string;
  /** Digest, or the name of a release. */
  image: string;
  count: number;
  memoryKib: number;
  networks: ServiceNetwork[];
  args: string;
  health: HealthCheck;
  placement: Placement;
  restart: RestartPolicy;
  update: UpdatePolicy;
}

export const serviceLimits = {
  count: 10_000,
  memoryMinKib: 1024,
  memoryMaxKib: 1024 * 1024 * 1024,
  argsBytes: 900,
  networks: 8,
} as const;

/** Lower case, for names end up in names of VMs, in URLs and in folders. */
export const tenantPattern = '^[a-z0-9][a-z0-9-]{0,15}$';
export const servicePattern = '^[a-z0-9][a-z0-9-]{0,27}$';
export const wordPattern = '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$';
const addressPattern = '^(\\d{1,3}\\.){3}\\d{1,3}$';

const whole = (minimum: number, maximum: number, description: string) => ({ type: 'integer', minimum, maximum, description });

const probe = {
  intervalMs: whole(200, 3_600_000, 'Between two probes; 5,000 when left out.'),
  timeoutMs: whole(50, 60_000, 'Of one probe; 1,000 when left out.'),
  healthyAfter: whole(1, 100, 'Answers in a row until a copy counts as healthy; 1 when left out.'),
  unhealthyAfter: whole(1, 100, 'Failures in a row until it counts as dead; 3 when left out.'),
  graceMs: whole(0, 3_600_000, 'After its start a copy may fail so long; 10,000 when left out.'),
};

export const serviceSchema = {
  $id: 'ServiceSpec',
  type: 'object',
  additionalProperties: false,
  required: ['tenant', 'name', 'image', 'count', 'memoryKib'],
  properties: {
    tenant: { type: 'string', pattern: tenantPattern, description: 'Whose service it is.' },
    name: { type: 'string', pattern: servicePattern, description: 'Unique within the tenant.' },
    image: {
      type: 'string',
      minLength: 1,
      maxLength: 80,
      description: 'Digest ("sha256:" and 64 hex digits) or name of a release.',
    },
    count: whole(0, serviceLimits.count, 'Copies that are to run.'),
    memoryKib: {
      ...whole(serviceLimits.memoryMinKib, serviceLimits.memoryMaxKib, 'Memory of a copy, in pages of 4 KiB.'),
      multipleOf: 4,
    },
    networks: {
      type: 'array',
      maxItems: serviceLimits.networks,
      description: 'One vif each, in this order; the network "default" when left out.',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['name'],
        properties: {
          name: { type: 'string', pattern: wordPattern },
          addresses: {
            type: 'object',
            additionalProperties: false,
            required: ['from'],
            properties: {
              from: { enum: ['host', 'pool', 'list'] },
              pool: { type: 'string', pattern: wordPattern, description: 'With "pool": its name.' },
              list: {
                type: 'array',
                maxItems: serviceLimits.count,
                items: { type: 'string', pattern: addressPattern },
                description: 'With "list": one address a copy.',
              },
            },
          },
        },
      },
    },
    args: {
      type: 'string',
      maxLength: serviceLimits.argsBytes,
      pattern: '^[\\x20-\\x7e]*$',
      description: 'Words for the application.',
    },
    health: {
      type: 'object',
      additionalProperties: false,
      required: ['kind'],
      properties: {
        kind: { enum: ['none', 'icmp', 'http'] },
        port: whole(1, 65_535, 'Of http; 80 when left out.'),
        path: { type: 'string', pattern: '^/[\\x21-\\x7e]*$', maxLength: 512, description: 'Of http; "/" when left out.' },
        ...probe,
      },
    },
    placement: {
      type: 'object',
      additionalProperties: false,
      properties: {
        strategy: { enum: ['spread', 'pack'], description: 'spread when left out.' },
        required: { type: 'boolean', description: 'With spread: never two copies on one host.' },
        labels: { type: 'object', maxProperties: 16, additionalProperties: { type: 'string', maxLength: 63 } },
      },
    },
    restart: {
      type: 'object',
      additionalProperties: false,
      properties: {
        firstMs: whole(0, 3_600_000, 'Wait before the first restart; 1,000 when left out. Doubled each time.'),
        maxMs: whole(0, 86_400_000, 'Longest wait; 60,000 when left out.'),
        resetAfterMs: whole(1, 86_400_000, 'Running so long makes good; 600,000 when left out.'),
      },
    },
    update: {
      type: 'object',
      additionalProperties: false,
      properties: {
        maxAtOnce: whole(1, serviceLimits.count, 'Copies replaced at once; a tenth of them when left out, at least one.'),
        order: { enum: ['start-first', 'stop-first'], description: 'start-first when left out.' },
      },
    },
  },
} as const;

type Loose = Record<string, unknown>;
const isObject = (v: unknown): v is Loose => typeof v === 'object' && v !== null && !Array.isArray(v);

/**
 * What a schema cannot say, of a spec that may be wrong in other ways too: fields of a wrong type are passed over, so that these
 * reasons and the schema's can be told together.
 */
export function semanticReasons(value: unknown): Reason[] {
  const reasons: Reason[] = [];
  if (!isObject(value)) return reasons;
  const count = typeof value['count'] === 'number' ? value['count'] : undefined;
  const seen = new Map<string, string>();
  const networks = Array.isArray(value['networks']) ? (value['networks'] as unknown[]) : [];
  networks.forEach((network, i) => {
    const addresses = isObject(network) ? network['addresses'] : undefined;
    if (!isObject(addresses)) return;
    const at = `networks/${i}/addresses`;
    for (const of of ['pool', 'list'] as const) {
      if (addresses['from'] === of && addresses[of] === undefined)
        reasons.push({ path: `${at}/${of}`, message: 'is needed.', hint: `Give "${of}", or take the addresses "from": "host".` });
      if (addresses['from'] !== of && addresses[of] !== undefined)
        reasons.push({
          path: `${at}/${of}`,
          message: `has no meaning with "from": "${String(addresses['from'])}".`,
          hint: `Leave it out, or say "from": "${of}".`,
        });
    }
    if (!Array.isArray(addresses['list'])) return;
    const list = addresses['list'] as unknown[];
    if (addresses['from'] === 'list' && count !== undefined && list.length < count)
      reasons.push({
        path: `${at}/list`,
        message: `has ${list.length} addresses for ${count} copies.`,
        hint: 'Give one address a copy.',
      });
    list.forEach((address, j) => {
      if (typeof address !== 'string') return;
      if (address.split('.').some((part) => Number(part) > 255))
        reasons.push({
          path: `${at}/list/${j}`,
          message: `"${address}" is no IPv4 address.`,
          hint: 'Give four numbers from 0 to 255.',
        });
      const before = seen.get(address);
      if (before !== undefined)
        reasons.push({ path: `${at}/list/${j}`, message: `${address} is given twice.`, hint: `It is at ${before} already.` });
      else seen.set(address, `${at}/list/${j}`);
    });
  });
  const { health, placement, restart } = value;
  if (isObject(health)) {
    if (health['kind'] === 'none' && Object.keys(health).length > 1)
      reasons.push({ path: 'health', message: 'says how to probe, but not to.', hint: 'Give only "kind", or another kind.' });
    for (const field of ['port', 'path'])
      if (health['kind'] === 'icmp' && health[field] !== undefined)
        reasons.push({
          path: `health/${field}`,
          message: 'has no meaning for icmp.',
          hint: 'Leave it out, or say "kind": "http".',
        });
    if (health['kind'] !== 'none' && Number(health['timeoutMs'] ?? 1000) > Number(health['intervalMs'] ?? 5000))
      reasons.push({
        path: 'health/timeoutMs',
        message: 'is longer than the interval.',
        hint: 'Probe less often, or wait less.',
      });
    if (health['kind'] !== 'none' && Array.isArray(value['networks']) && networks.length === 0)
      reasons.push({
        path: 'health',
        message: 'needs a network to probe over.',
        hint: 'Give the service a network, or no health check.',
      });
  }
  if (isObject(placement) && placement['strategy'] === 'pack' && placement['required'] === true)
    reasons.push({ path: 'placement/required', message: 'has no meaning with "pack".', hint: 'Leave it out, or say "spread".' });
  if (isObject(restart) && Number(restart['firstMs'] ?? 1000) > Number(restart['maxMs'] ?? 60_000))
    reasons.push({ path: 'restart/firstMs', message: 'is longer than the longest wait.', hint: 'Give a longer maxMs.' });
  return reasons;
}

/** A spec that schema and `semanticReasons` found right, with all that was left out. */
export function completed(value: unknown): ServiceSpec {
  const given = value as Loose;
  const part = (name: string): Loose => (given[name] ?? {}) as Loose;
  const health = part('health');
  const probed = { intervalMs: 5000, timeoutMs: 1000, healthyAfter: 1, unhealthyAfter: 3, graceMs: 10_000 };
  const networks = (given['networks'] ?? [{ name: 'default' }]) as { name: string; addresses?: Addresses }[];
  const count = given['count'] as number;
  return {
    tenant: given['tenant'] as string,
    name: given['name'] as string,
    image: given['image'] as string,
    count,
    memoryKib: given['memoryKib'] as number,
    networks: networks.map(({ name, addresses }) => ({ name, addresses: addresses ?? { from: 'host' } })),
    args: (given['args'] ?? '') as string,
    health: (health['kind'] === 'http'
      ? { port: 80, path: '/', ...probed, ...health }
      : health['kind'] === 'icmp'
        ? { ...probed, ...health }
        : { kind: 'none' }) as HealthCheck,
    placement: { strategy: 'spread', required: false, labels: {}, ...part('placement') },
    restart: { firstMs: 1000, maxMs: 60_000, resetAfterMs: 600_000, ...part('restart') },
    update: { maxAtOnce: usualAtOnce(count), order: 'start-first', ...part('update') },
  };
}

/** Copies replaced at once where the spec does not say. */
export const usualAtOnce = (count: number): number => Math.max(1, Math.ceil(count / 10));

/** The same service with another number of copies; what follows from their number follows it. */
export function scaled(spec: ServiceSpec, count: number): ServiceSpec {
  const usual = spec.update.maxAtOnce === usualAtOnce(spec.count);
  return { ...spec, count, update: usual ? { ...spec.update, maxAtOnce: usualAtOnce(count) } : spec.update };
}

export const serviceKey = (tenant: string, name: string): string => `${tenant}/${name}`;

/** Addresses that a copy takes, one a network. */
export const addressesPerCopy = (spec: ServiceSpec): number => spec.networks.length;

/** Whether copies have addresses of their own list, so that two copies of one slot can never run beside each other. */
export const hasListedAddresses = (spec: ServiceSpec): boolean =>
  spec.networks.some(({ addresses }) => addresses.from === 'list');

/**
 * The part of a spec that a running copy cannot change, as text: copies whose text differs are replaced. `image` is the digest
 * behind the name; `nonce` changes when a restart of all copies is asked for.
 */
export function revisionText(spec: ServiceSpec, image: string, nonce: number): string {
  const networks = spec.networks.map(({ name, addresses }) => [
    name,
    addresses.from,
    addresses.from === 'pool' ? addresses.pool : '',
  ]);
  return JSON.stringify([image, spec.memoryKib, spec.args, networks, nonce]);
}
