/**
 * The command's composition root: the process's words, streams and environment, given to the command line; its exit code taken
 * back.
 */
import { command } from '../cli/main.ts';

// A reader that went away (`shoal vm list | head`) is no failure, and nobody is left to tell.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
process.stderr.on('error', () => {});

process.exitCode = await command(process.argv.slice(2), { stdout: process.stdout, stderr: process.stderr, env: process.env });
