/** Writers to the repository go beside each other; packing goes alone, only begins when nobody writes, and gives way to who comes to write. */
export class Guard {
  #writers = 0;
  #alone: { over: Promise<void>; stop: AbortController | undefined } | undefined;

  /** Call what it resolves with once, when the writing is over. */
  async enter(): Promise<() => void> {
    while (this.#alone !== undefined) {
      this.#alone.stop?.abort();
      await this.#alone.over;
    }
    this.#writers++;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#writers--;
    };
  }

  readonly beside = async <T>(work: () => Promise<T>): Promise<T> => {
    const leave = await this.enter();
    try {
      return await work();
    } finally {
      leave();
    }
  };

  /**
   * False when somebody writes, or came to write while it worked and it was stopped: another time. With `insist` who comes waits. Throws
   * what `work` throws when nobody stopped it.
   */
  async alone(work: (signal: AbortSignal) => Promise<void>, insist = false): Promise<boolean> {
    if (this.#writers > 0 || this.#alone !== undefined) return false;
    const stop = new AbortController();
    let over!: () => void;
    this.#alone = { over: new Promise((resolve) => (over = resolve)), stop: insist ? undefined : stop };
    try {
      await work(stop.signal);
      return true;
    } catch (error) {
      if (stop.signal.aborted) return false;
      throw error;
    } finally {
      this.#alone = undefined;
      over();
    }
  }
}
