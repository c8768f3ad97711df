/**
 * How the command speaks: results on standard output, everything else (progress, hints, errors) on standard error, so that a pipe
 * gets results only. Colour where a person looks and NO_COLOR is not set; without a terminal, progress is plain lines, few of
 * them.
 */
import type { ShoalError } from '../model/errors.ts';

export interface Sink {
  /** Bytes are only given to standard output, and only where a verb's result is no text. */
  write(text: string | Uint8Array): unknown;
  isTTY?: boolean;
  columns?: number;
}

export interface TerminalOptions {
  stdout: Sink;
  stderr: Sink;
  env: Record<string, string | undefined>;
  json: boolean;
}

/** Wraps text in an SGR sequence, or leaves it as it is. */
export type Paint = (text: string) => string;

export interface Style {
  bold: Paint;
  dim: Paint;
  red: Paint;
  green: Paint;
  yellow: Paint;
  cyan: Paint;
}

const plain: Paint = (text) => text;
const sgr =
  (on: number, off: number): Paint =>
  (text) =>
    text === '' ? '' : `\x1b[${on}m${text}\x1b[${off}m`;

export const plainStyle: Style = { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain };
const colourStyle: Style = {
  bold: sgr(1, 22),
  dim: sgr(2, 22),
  red: sgr(31, 39),
  green: sgr(32, 39),
  yellow: sgr(33, 39),
  cyan: sgr(36, 39),
};

/** https://no-color.org: set and not empty means none. */
const coloured = (sink: Sink, env: TerminalOptions['env']): boolean =>
  sink.isTTY === true && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';

export class Terminal {
  readonly json: boolean;
  /** For standard output. */
  readonly style: Style;
  /** For standard error. */
  readonly noteStyle: Style;
  /** Standard error is a terminal that understands carriage return and "erase line". */
  readonly live: boolean;
  readonly #stdout: Sink;
  readonly #stderr: Sink;
  #status = '';

  constructor({ stdout, stderr, env, json }: TerminalOptions) {
    this.json = json;
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.style = coloured(stdout, env) ? colourStyle : plainStyle;
    this.noteStyle = coloured(stderr, env) ? colourStyle : plainStyle;
    this.live = stderr.isTTY === true && env['TERM'] !== 'dumb';
  }

  /** Columns of standard error; 100 where there is no terminal. */
  get columns(): number {
    return this.#stderr.columns ?? 100;
  }

  /** Standard output is a terminal. */
  get interactive(): boolean {
    return this.#stdout.isTTY === true;
  }

  /** A result, for people; with --json nothing. */
  print(text: string): void {
    if (this.json) return;
    this.#withoutStatus(() => this.#stdout.write(`${text}\n`));
  }

  /** A result, for programs: one line; without --json nothing. */
  printJson(value: unknown): void {
    if (this.json) this.#withoutStatus(() => this.#stdout.write(`${JSON.stringify(value)}\n`));
  }

  /** Bytes as they are: a console's text. */
  raw(text: string): void {
    this.#stdout.write(text);
  }

  /** A result that is no text. */
  bytes(data: Uint8Array): void {
    this.#stdout.write(data);
  }

  /** Says what goes on: a line on standard error that stays. */
  note(text: string): void {
    this.#withoutStatus(() => this.#stderr.write(`${text}\n`));
  }

  /** The line that changes in place, at the bottom; '' takes it away. Nothing without a terminal. */
  status(text: string): void {
    if (!this.live || text === this.#status) return;
    this.#status = text;
    this.#stderr.write(`\r\x1b[2K${text}`);
  }

  failure(error: ShoalError): void {
    const { red, dim, bold } = this.noteStyle;
    this.status('');
    this.#stderr.write(`${red(bold('error:'))} ${oneLine(error.message)}\n`);
    if (error.hint !== '') this.#stderr.write(`${dim('hint:')} ${oneLine(error.hint)}\n`);
    if (this.json) {
      const { code, message, hint, data } = error;
      this.#stdout.write(`${JSON.stringify({ error: { code, message, hint, data } })}\n`);
    }
  }

  #withoutStatus(write: () => void): void {
    const status = this.#status;
    this.status('');
    write();
    this.status(status);
  }
}

const oneLine = (text: string): string => text.trim().replace(/\s*\n\s*/g, '; ');
