/**
 * The test runner: every test file is a program of its own that speaks TAP. Files that need no lab run three at a time, one more
 * than the smallest machine has cores, for many of them wait most of their time; lab files run one after the other, for each wants the machine to itself.
 *
 *   node --import tsx test/run.ts [--unit | --lab] [WORD...]     WORD: only files whose path contains one of them
 *
 * A file that writes no TAP, ends with a failure nobody asserted, or takes longer than its bound counts as one failure. The last
 * line is "N passed, N failed", in assertions; the exit code is 0 when none failed.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TapReader, type TapResult } from './tap.ts';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const withoutLab = ['test/arch', 'test/unit', 'test/contract'];
const onLab = ['test/e2e'];
const atOnce = 3;
const minutes = 60_000;
/** The first lab test of a fresh checkout builds the dom0 image, too. */
const bounds = { withoutLab: 3 * minutes, onLab: 30 * minutes };

interface FileResult extends TapResult {
  file: string;
  seconds: number;
  /** What went wrong beside failed assertions. */
  trouble: string | undefined;
  output: string;
}

function testFiles(folders: readonly string[], words: readonly string[]): string[] {
  return folders
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) => `${folder}/${name}`),
    )
    .filter((file) => file.endsWith('.test.ts') && (words.length === 0 || words.some((word) => file.includes(word))))
    .sort();
}

/** Process groups under way, by the pid of their leader: ended with this program. */
const running = new Set<number>();

function endGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // ended by itself
  }
}

function runFile(file: string, boundMs: number): Promise<FileResult> {
  const began = performance.now();
  const reader = new TapReader();
  let output = '';
  return new Promise((done) => {
    // A group of its own, so that what a test started ends with it.
    const child = spawn(process.execPath, ['--import', 'tsx', file], {
      cwd: root,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const { pid } = child;
    if (pid !== undefined) running.add(pid);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      if (pid !== undefined) endGroup(pid);
    }, boundMs);
    const keep = (text: string) => (output = (output + text).slice(-200_000));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      reader.push(text);
      keep(text);
    });
    child.stderr.setEncoding('utf8').on('data', keep);
    const end = (code: number | null, why?: string) => {
      clearTimeout(timer);
      if (pid !== undefined) {
        running.delete(pid);
        endGroup(pid);
      }
      const tap = reader.end();
      const made = tap.passed + tap.failed.length + tap.skipped;
      const trouble = late
        ? `took longer than ${boundMs / minutes} minutes`
        : (why ??
          (tap.failed.length === 0 && code !== 0
            ? `ended with exit code ${code} and no failed assertion`
            : tap.passed + tap.failed.length === 0
              ? 'asserted nothing'
              : tap.planned !== undefined && tap.planned !== made
                ? `planned ${tap.planned} assertions, made ${made}`
                : undefined));
      done({ ...tap, file, seconds: (performance.now() - began) / 1000, trouble, output });
    };
    child.once('error', (error) => end(null, error.message));
    child.once('close', (code) => end(code));
  });
}

const tty = process.stdout.isTTY === true && (process.env['NO_COLOR'] ?? '') === '';
const paint = (code: number, text: string) => (tty ? `\x1b[${code}m${text}\x1b[39m` : text);

function show({ file, passed, failed, skipped, trouble, seconds, output }: FileResult): void {
  const bad = failed.length > 0 || trouble !== undefined;
  const some = (n: number, what: string) => (n > 0 ? `, ${n} ${what}` : '');
  const counts = `${passed} passed${some(failed.length, 'failed')}${some(skipped, 'skipped')}`;
  console.log(`${bad ? paint(31, 'FAIL') : paint(32, ' ok ')}  ${file}  ${counts}  ${seconds.toFixed(1)} s`);
  for (const failure of failed) {
    console.log(`      ${paint(31, '✗')} ${failure.test === '' ? '' : `${failure.test}: `}${failure.name}`);
    for (const line of failure.detail.slice(0, 40)) console.log(`        ${line}`);
  }
  if (trouble === undefined) return;
  console.log(`      ${trouble}; the end of its output:`);
  for (const line of output.trimEnd().split('\n').slice(-30)) console.log(`        ${line}`);
}

/** Runs files `width` at a time, and shows each as it ends. */
async function runAll(files: readonly string[], width: number, boundMs: number): Promise<FileResult[]> {
  const results: FileResult[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < files.length) {
      const result = await runFile(files[next++]!, boundMs);
      results.push(result);
      show(result);
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, files.length) }, worker));
  return results;
}

async function main(argv: readonly string[]): Promise<number> {
  const unknown = argv.find((word) => word.startsWith('--') && word !== '--unit' && word !== '--lab');
  if (unknown !== undefined) {
    console.error(
      `error: the test runner has no option ${unknown}.\nhint: There are --unit and --lab; other words choose files.`,
    );
    return 2;
  }
  const words = argv.filter((word) => !word.startsWith('--'));
  const fast = argv.includes('--lab') ? [] : testFiles(withoutLab, words);
  const slow = argv.includes('--unit') ? [] : testFiles(onLab, words);
  if (fast.length + slow.length === 0) {
    console.error(`error: no test file matches ${words.join(' ')}.\nhint: Words are parts of paths below test/.`);
    return 2;
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      for (const pid of running) endGroup(pid);
      process.exit(signal === 'SIGINT' ? 130 : 143);
    });
  }
  const began = performance.now();
  const results = [...(await runAll(fast, atOnce, bounds.withoutLab)), ...(await runAll(slow, 1, bounds.onLab))];
  const passed = results.reduce((sum, result) => sum + result.passed, 0);
  const failed = results.reduce((sum, result) => sum + result.failed.length + (result.trouble === undefined ? 0 : 1), 0);
  const bad = results.filter((result) => result.failed.length > 0 || result.trouble !== undefined).map((result) => result.file);
  const seconds = ((performance.now() - began) / 1000).toFixed(0);
  console.log(`\n${results.length} files in ${seconds} s${bad.length === 0 ? '' : `; not right: ${bad.join(', ')}`}`);
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
