/** The few numbers that stand for many. Pure. */

/** Nearest-rank percentile: the smallest value that at least `percent` of all are not above. NaN of nothing. */
export function percentile(values: readonly number[], percent: number): number {
  if (values.length === 0) return NaN;
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]!;
}

export const p50 = (values: readonly number[]): number => percentile(values, 50);

export interface Summary {
  count: number;
  p50: number;
  p99: number;
  max: number;
}

export const summaryOf = (values: readonly number[]): Summary => ({
  count: values.length,
  p50: p50(values),
  p99: percentile(values, 99),
  max: percentile(values, 100),
});

/** To the precision worth keeping: three digits that matter. */
export function rounded(value: number): number {
  if (!Number.isFinite(value) || value === 0) return value;
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return Number(value.toFixed(Math.min(digits, 6)));
}

/** JSON has no NaN: a number that could not be measured is null there. */
export const jsonNumber = (value: number): number | null => (Number.isFinite(value) ? rounded(value) : null);
