/**
 * Values whose kind JSON or JavaScript does not show but XML-RPC must: a time is not a string there, 1.0 is not an integer. In
 * JSON a time is XenAPI's text form and a double a number.
 */

export class WireTime {
  /** Milliseconds since 1970. */
  readonly ms: number;

  constructor(ms: number) {
    this.ms = ms;
  }

  /** YYYYMMDDTHH:MM:SSZ */
  toString(): string {
    const iso = new Date(this.ms).toISOString();
    return `${iso.slice(0, 4)}${iso.slice(5, 7)}${iso.slice(8, 19)}Z`;
  }

  toJSON(): string {
    return this.toString();
  }
}

export class WireDouble {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }

  toJSON(): number {
    return this.value;
  }
}

/** An integer of 32 bits, which XML-RPC does have: XenAPI uses it in the answer of event.from only. */
export class WireInt32 {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }

  toJSON(): number {
    return this.value;
  }
}
