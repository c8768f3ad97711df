/**
 * One line a stage with the time it took, on standard error: live on a terminal, plain lines elsewhere.
 */
export interface Progress {
  /** Ends the stage before and begins another. */
  stage(text: string): void;
  end(): void;
}

export function openProgress(out: NodeJS.WriteStream = process.stderr): Progress {
  const begun = Date.now();
  let current: string | undefined;
  let since = begun;
  let timer: NodeJS.Timeout | undefined;
  const seconds = (from: number) => `${((Date.now() - from) / 1000).toFixed(1)} s`;
  const draw = (mark: string, end: string) => out.write(`\r\x1b[K${mark} ${current}  \x1b[2m${seconds(since)}\x1b[0m${end}`);
  const close = () => {
    if (timer !== undefined) clearInterval(timer);
    timer = undefined;
    if (current !== undefined && out.isTTY) draw('\x1b[32m✓\x1b[0m', '\n');
    current = undefined;
  };
  return {
    stage(text) {
      close();
      current = text;
      since = Date.now();
      if (!out.isTTY) {
        out.write(`[${seconds(begun).padStart(7)}] ${text}\n`);
        return;
      }
      draw('…', '');
      timer = setInterval(() => draw('…', ''), 100);
      timer.unref();
    },
    end: close,
  };
}
