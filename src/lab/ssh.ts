/**
 * Commands in a host's dom0, over ssh. One master connection a host stays open, for a handshake costs an emulated machine about a
 * second; every command is a session on it. Keys are those of this lab cache, so no host key is ever taken on trust.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShoalError } from '../model/errors.ts';
import { lastLines, must, run, type RunOptions, type RunResult } from './processes.ts';

export interface SshTarget {
  /** Of the host, in the lab's run-time folder: holds the master's socket. */
  folder: string;
  port: number;
  /** Private key of the client, and known_hosts with the key of every dom0. */
  keyFile: string;
  knownHostsFile: string;
}

const controlPath = (target: SshTarget) => join(target.folder, 'ssh');

function options(target: SshTarget): string[] {
  return [
    '-F',
    'none',
    '-i',
    target.keyFile,
    '-p',
    String(target.port),
    '-S',
    controlPath(target),
    ...[
      'IdentitiesOnly=yes',
      `UserKnownHostsFile=${target.knownHostsFile}`,
      'HostKeyAlias=dom0',
      'StrictHostKeyChecking=yes',
      'BatchMode=yes',
      'LogLevel=ERROR',
      'ConnectTimeout=10',
      'ServerAliveInterval=30',
      'ServerAliveCountMax=20',
      'KexAlgorithms=curve25519-sha256',
      'Ciphers=aes128-gcm@openssh.com',
    ].flatMap((option) => ['-o', option]),
  ];
}

/** Opens the master connection, trying until `timeoutMs` is over; does nothing when it is open. */
export async function connect(target: SshTarget, timeoutMs: number): Promise<void> {
  if (existsSync(controlPath(target))) {
    const check = await run(['ssh', ...options(target), '-O', 'check', 'root@127.0.0.1'], { timeoutMs: 10_000 });
    if (check.code === 0) return;
    rmSync(controlPath(target), { force: true });
  }
  let said = '';
  for (const start = Date.now(); Date.now() - start < timeoutMs; await sleep(50)) {
    const errors = join(target.folder, 'ssh.log');
    // -f: in the background once it is authenticated; -E keeps it from holding on to our own standard error
    const master = spawn('ssh', [...options(target), '-E', errors, '-M', '-N', '-f', 'root@127.0.0.1'], {
      stdio: 'ignore',
      detached: true,
    });
    const code = await new Promise<number>((resolve) => {
      const timer = setTimeout(() => master.kill('SIGKILL'), Math.max(1_000, timeoutMs - (Date.now() - start)));
      master.on('error', () => resolve(127));
      master.on('close', (status) => (clearTimeout(timer), resolve(status ?? 128)));
    });
    if (code === 0) return;
    said = existsSync(errors) ? lastLines(readFileSync(errors, 'utf8'), 3) : `ssh: exit code ${code}`;
  }
  throw new ShoalError('LAB_FAILED', `dom0 does not answer over ssh: ${said}`);
}

/** Closes the master connection, if there is one. */
export async function disconnect(target: SshTarget): Promise<void> {
  if (existsSync(controlPath(target)))
    await run(['ssh', ...options(target), '-O', 'exit', 'root@127.0.0.1'], { timeoutMs: 10_000 });
  rmSync(controlPath(target), { force: true });
}

/** Runs a shell command in dom0. Exit code 255 is ssh's own: the connection failed. */
export async function exec(target: SshTarget, command: string, how: RunOptions = {}): Promise<RunResult> {
  const argv = ['ssh', ...options(target), '-o', 'ControlMaster=no', 'root@127.0.0.1', command];
  return run(argv, how);
}

/** Runs a shell command in dom0 that has to succeed. */
export async function mustExec(target: SshTarget, command: string, how: RunOptions = {}): Promise<string> {
  const result = await exec(target, command, how);
  if (result.code !== 0) {
    throw new ShoalError(
      'LAB_FAILED',
      `in dom0: ${command.slice(0, 80)}: exit code ${result.code}: ${lastLines(result.stderr || result.stdout, 6)}`,
    );
  }
  return result.stdout;
}

/** Copies a file into dom0; it appears under its name only when it is whole. */
export async function put(target: SshTarget, localPath: string, remotePath: string): Promise<void> {
  const quoted = `'${remotePath.replaceAll("'", "'\\''")}'`;
  await mustExec(target, `cat > ${quoted}.part && mv ${quoted}.part ${quoted}`, {
    input: readFileSync(localPath),
    timeoutMs: 600_000,
  });
}

/** An interactive shell, or a command with the caller's own standard input and output; its exit code. */
export function attach(target: SshTarget, command: string | undefined): Promise<number> {
  const tty = command === undefined ? ['-tt'] : process.stdin.isTTY ? ['-t'] : ['-T'];
  const argv = [
    ...options(target),
    '-o',
    'ControlMaster=no',
    ...tty,
    'root@127.0.0.1',
    ...(command === undefined ? [] : [command]),
  ];
  const child = spawn('ssh', argv, { stdio: 'inherit' });
  return new Promise((resolve) => {
    child.on('error', () => resolve(127));
    child.on('close', (code) => resolve(code ?? 128));
  });
}

/** A key pair without a passphrase, when the file is missing. */
export async function makeKey(file: string): Promise<void> {
  if (!existsSync(file)) await must(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', file]);
}
