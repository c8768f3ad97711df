/**
 * HTTP load on the copies of a service from outside of the Xen hosts, nothing tried twice: `node load.mjs ADDRESSES RATE WATCHED`, ADDRESSES a file with a JSON
 * list that is gone through in turn, RATE requests a second in all, begun at their time whether or not earlier ones have ended; WATCHED an address that is asked beside that without a pause. Ends by SIGTERM. Prints a line of JSON when a version answers for the first time, when it
 * answers at every address, and at the end what there was.
 */
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';

const [file, rate, watched] = process.argv.slice(2);
const addresses = JSON.parse(readFileSync(file, 'utf8'));
const agent = new Agent({ keepAlive: false });
/** Longer than TCP tries its first packets. */
const timeoutMs = 15_000;
const restMs = 3;
/** Requests under way at most: a fleet that answers no more is not asked without end. */
const atOnce = 500;
const mostTold = 100;

const now = () => performance.timeOrigin + performance.now();
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
/** By address, what it answered last; by version, how many addresses. */
const last = new Map();
const counts = new Map();
const done = { requests: 0, failures: 0, failed: [], slowestMs: 0, late: 0 };

function noted(address, version) {
  const before = last.get(address);
  if (before === version) return;
  last.set(address, version);
  if (before !== undefined) counts.set(before, counts.get(before) - 1);
  if (!counts.has(version)) say({ first: version, address, atMs: now() });
  const count = (counts.get(version) ?? 0) + 1;
  counts.set(version, count);
  if (count === addresses.length) say({ all: version, atMs: now() });
}

const page = (host) =>
  new Promise((resolve, reject) => {
    const asked = request({ host, path: '/', agent }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => (text += part));
      response.on('end', () => {
        clearTimeout(timer);
        try {
          if (response.statusCode !== 200) throw new Error(`answered ${response.statusCode}`);
          resolve(JSON.parse(text).version);
        } catch (error) {
          reject(error);
        }
      });
      response.on('error', reject);
    });
    const timer = setTimeout(() => asked.destroy(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
    asked.on('error', (error) => (clearTimeout(timer), reject(error)));
    asked.end();
  });

let ending = false;
process.on('SIGTERM', () => (ending = true));
// Whoever started it is gone.
process.stdin.resume().on('end', () => (ending = true));

async function ask(address) {
  const began = now();
  try {
    noted(address, await page(address));
  } catch (error) {
    done.failures++;
    if (done.failed.length < mostTold) done.failed.push({ address, atMs: began, tookMs: Math.round(now() - began), error: String(error.message ?? error) });
  }
  done.requests++;
  done.slowestMs = Math.max(done.slowestMs, now() - began);
}

async function watch() {
  while (!ending) {
    await ask(watched);
    await new Promise((resolve) => setTimeout(resolve, restMs));
  }
}

async function load() {
  const began = now();
  const under = new Set();
  for (let count = 0; !ending; ) {
    const due = Math.floor(((now() - began) * Number(rate)) / 1000);
    for (; count < due && under.size < atOnce; count++) {
      const one = ask(addresses[count % addresses.length]).finally(() => under.delete(one));
      under.add(one);
    }
    done.late = Math.max(done.late, due - count);
    await new Promise((resolve) => setTimeout(resolve, restMs));
  }
  await Promise.all(under);
}

const all = [load()];
if (watched !== undefined) all.push(watch());
say({ ready: true });
await Promise.all(all);
say({ end: { ...done, slowestMs: Math.round(done.slowestMs), versions: Object.fromEntries([...counts].filter(([, count]) => count > 0)) } });
process.exit(0);
