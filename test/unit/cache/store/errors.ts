/** Errors as promises give them. */
import { ShoalError } from '../../../../src/model/errors.ts';

/** Whether the promise is rejected with this code. */
export const isShoalError = (promise: Promise<unknown>, code: string): Promise<boolean> =>
  promise.then(
    () => false,
    (thrown: unknown) => thrown instanceof ShoalError && thrown.code === code,
  );
