/**
 * Reads the Test Anything Protocol as tape writes it: assertions, the test each belongs to, the details of those that failed.
 * Pure.
 */

export interface TapFailure {
  /** The test that the assertion is part of. */
  test: string;
  name: string;
  /** Lines of its YAML block. */
  detail: string[];
}

export interface TapResult {
  passed: number;
  /** Assertions put off: they assert nothing either way. */
  skipped: number;
  failed: TapFailure[];
  /** Number of the plan, "1..N"; undefined when the file ended before it wrote one. */
  planned: number | undefined;
}

export class TapReader {
  #rest = '';
  #test = '';
  #inDetail = false;
  readonly #result: TapResult = { passed: 0, skipped: 0, failed: [], planned: undefined };

  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) this.#line(line);
  }

  end(): TapResult {
    if (this.#rest !== '') this.#line(this.#rest);
    this.#rest = '';
    return this.#result;
  }

  #line(line: string): void {
    if (this.#inDetail) {
      if (line === '  ...') this.#inDetail = false;
      else this.#result.failed[this.#result.failed.length - 1]?.detail.push(line.replace(/^ {4}/, ''));
      return;
    }
    const assertion = /^(not )?ok \d+ ?(.*)$/.exec(line);
    if (assertion !== null) {
      const [, not, rest = ''] = assertion;
      if (/# (SKIP|TODO)\b/i.test(rest)) this.#result.skipped++;
      else if (not === undefined) this.#result.passed++;
      else this.#result.failed.push({ test: this.#test, name: rest, detail: [] });
      return;
    }
    if (line === '  ---') {
      this.#inDetail = true;
      return;
    }
    const plan = /^1\.\.(\d+)$/.exec(line);
    if (plan !== null) this.#result.planned = Number(plan[1]);
    else if (line.startsWith('# ') && !/^# (tests|pass|fail|ok)\b/.test(line)) this.#test = line.slice(2);
  }
}
