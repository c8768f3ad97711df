/** Writers to the repository go beside each other; packing goes alone, and only begins when nobody writes. */
export class Guard {
  #writers = 0;
  #alone: Promise<void> | undefined;

  /** Call what it resolves with once, when the writing is over. */
  async enter(): Promise<() => void> {
    while (this.#alone !== undefined) await this.#alone;
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

  /** False when somebody writes: another time. */
  async alone(work: () => Promise<void>): Promise<boolean> {
    if (this.#writers > 0 || this.#alone !== undefined) return false;
    let over!: () => void;
    this.#alone = new Promise((resolve) => (over = resolve));
    try {
      await work();
      return true;
    } finally {
      this.#alone = undefined;
      over();
    }
  }
}
