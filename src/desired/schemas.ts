/** The shapes of the repository's JSON files, as schemas; what they mean together is looked at elsewhere. */
import { serviceSchema, servicePattern, tenantPattern, wordPattern } from '../model/service.ts';

const whole = (minimum: number, maximum: number) => ({ type: 'integer', minimum, maximum });
const object = (properties: Record<string, unknown>, optional: readonly string[] = []) => ({
  type: 'object',
  additionalProperties: false,
  required: Object.keys(properties).filter((name) => !optional.includes(name)),
  properties,
});
const day = 86_400_000;
const digest = { type: 'string', pattern: '^sha256:[0-9a-f]{64}$' };
const time = { type: 'string', pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d{1,9})?(Z|[+-]\\d{2}:\\d{2})$' };
const hexBytes = { type: 'string', pattern: '^([0-9a-f]{2}){0,1024}$' };
const port = whole(1, 65_535);
const timeoutMs = whole(50, 600_000);
const timesInRow = whole(1, 100);

const gates: Record<string, Record<string, unknown>> = {
  ready: { withinMs: whole(1, day) },
  icmp: { timesInRow, timeoutMs },
  http: { port, path: { type: 'string', pattern: '^/[\\x21-\\x7e]{0,511}$' }, status: whole(100, 599), timesInRow, timeoutMs },
  udp: { port, send: hexBytes, expect: hexBytes, timeoutMs },
  compare: { windowMs: whole(100, day), maxErrorRate: { type: 'number', minimum: 0, maximum: 1 }, maxLatencyRatio: { type: 'number', minimum: 0, maximum: 1000 } },
  command: { name: { type: 'string', pattern: wordPattern }, timeoutMs },
};
/** A gate's kind says which fields it has: only those are asked for, so that the reasons are about the kind that was meant. */
const gate = {
  type: 'object',
  required: ['kind'],
  properties: { kind: { enum: Object.keys(gates) } },
  allOf: Object.entries(gates).map(([kind, fields]) => ({
    if: { properties: { kind: { const: kind } }, required: ['kind'] },
    then: object({ kind: {}, ...fields }),
  })),
};

export const rolloutSchema = object({
  mode: { enum: ['waves', 'hot-fix'] },
  canary: whole(1, 10_000),
  waves: { type: 'array', minItems: 1, maxItems: 100, items: { type: 'number', exclusiveMinimum: 0, maximum: 100 } },
  observeMs: whole(0, 7 * day),
  budget: whole(1, 10_000),
  gates: { type: 'array', maxItems: 20, items: gate },
  failuresAllowed: whole(0, 10_000),
  onFailure: { enum: ['rollback', 'pause'] },
  replace: object({ address: { enum: ['move', 'new'] }, drainMs: whole(0, day) }),
});

const { tenant: _tenant, name: _name, image: _image, ...serviceProperties } = serviceSchema.properties;
export const serviceFileSchema = {
  type: 'object',
  additionalProperties: false,
  required: ['count', 'memoryKib', 'release', 'rollout'],
  properties: {
    ...serviceProperties,
    release: whole(1, 999_999_999),
    rollout: { if: { type: 'string' }, then: { pattern: wordPattern }, else: rolloutSchema },
    summon: object({ idleS: whole(1, 30 * 86_400) }),
  },
};

const hex40 = { type: 'string', pattern: '^([0-9a-f]{40}|[0-9a-f]{64})$' };
const line = (maxLength: number) => ({ type: 'string', minLength: 1, maxLength, pattern: '^[\\x20-\\x7e]*$' });
export const releaseSchema = object({
  format: { const: 'shoal-release-1' },
  tenant: { type: 'string', pattern: tenantPattern },
  service: { type: 'string', pattern: servicePattern },
  counter: whole(1, 999_999_999),
  image: object({
    name: line(100),
    version: line(100),
    digest,
    sizeBytes: whole(1, 2 ** 40),
    source: object({ commit: hex40, digest, dirty: { type: 'boolean' } }),
    compiler: line(300),
    recipe: line(1000),
  }),
  created: time,
  expires: time,
});

export const hostSchema = object({
  labels: { type: 'object', maxProperties: 16, propertyNames: { pattern: wordPattern }, additionalProperties: { type: 'string', maxLength: 63 } },
});

export const policySchema = object({
  format: { const: 'shoal-policy-1' },
  signers: {
    type: 'object',
    maxProperties: 1000,
    additionalProperties: object(
      {
        roles: { type: 'array', minItems: 1, uniqueItems: true, items: { enum: ['admin', 'fleet', 'deploy'] } },
        services: { type: 'array', maxItems: 1000, items: { type: 'string', pattern: `^(\\*/\\*|${tenantPattern.slice(1, -1)}/(\\*|${servicePattern.slice(1, -1)}))$` } },
      },
      ['services'],
    ),
  },
  limits: object({ imageBytes: whole(1, 2 ** 40), expiryDays: whole(1, 3650), copies: whole(0, 10_000) }, ['imageBytes', 'expiryDays', 'copies']),
}, ['limits']);
