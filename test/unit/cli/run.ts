/** The command in this process, as from a shell that keeps what it writes. */
import { command } from '../../../src/cli/main.ts';

export interface Outcome {
  code: number;
  out: string;
  err: string;
  /** The last line, when --json was asked for. */
  json: any;
}

export async function runCommand(argv: string[], env: Record<string, string> = {}): Promise<Outcome> {
  const [stdout, stderr] = [0, 1].map(() => ({
    text: '',
    write(piece: string) {
      this.text += piece;
    },
  })) as [{ text: string; write(p: string): void }, { text: string; write(p: string): void }];
  const code = await command(argv, { stdout, stderr, env });
  const json: unknown = argv.includes('--json') ? JSON.parse(stdout.text.trimEnd().split('\n').pop() ?? '') : undefined;
  return { code, out: stdout.text, err: stderr.text, json };
}
