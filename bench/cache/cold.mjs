/**
 * From a request to the first byte, as a viewer outside of the Xen hosts sees it; run in the router's namespace. `node cold.mjs event SPEC URL CA TOKEN` makes an event
 * and asks for its playlist at once. `node cold.mjs wait URL` asks an address again and again until it answers, and says when that was (milliseconds since 1970).
 */
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

const deadlineMs = 120_000;

/** Resolves with status and the time of the first byte of the body. */
const get = (url, timeoutMs) =>
  new Promise((resolve, reject) => {
    const request = http.get(url, { agent: false }, (response) => {
      response.once('data', () => resolve({ status: response.statusCode, atMs: performance.timeOrigin + performance.now() }));
      response.once('end', () => reject(new Error('empty')));
      response.once('error', reject);
    });
    request.setTimeout(timeoutMs, () => request.destroy(new Error('late')));
    request.once('error', reject);
  });

const post = (url, ca, token, body) =>
  new Promise((resolve, reject) => {
    const request = https.request(url, { method: 'POST', ca, headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => (text += part));
      response.once('end', () => (response.statusCode < 300 ? resolve(JSON.parse(text)) : reject(new Error(text))));
    });
    request.once('error', reject);
    request.end(JSON.stringify(body));
  });

const [, , mode, ...words] = process.argv;
const end = Date.now() + deadlineMs;
let answer;
let began = performance.timeOrigin + performance.now();
if (mode === 'event') {
  const [spec, api, ca, token] = words;
  const pem = readFileSync(ca, 'utf8');
  const secret = readFileSync(token, 'utf8').trim();
  began = performance.timeOrigin + performance.now();
  const { url } = await post(api, pem, secret, JSON.parse(spec));
  while (answer?.status !== 200 && Date.now() < end) answer = await get(url, 20_000).catch(() => undefined);
} else {
  // A request whose SYN was lost waits a second for the next: a new one is sent every 20 ms, whatever became of those before.
  const asking = setInterval(() => void get(words[0], 3_000).then((found) => found.status === 200 && (answer ??= found), () => undefined), 20);
  while (answer === undefined && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 1));
  clearInterval(asking);
}
if (answer === undefined) process.exit(1);
console.log(JSON.stringify({ beganMs: began, firstByteMs: answer.atMs }));
process.exit(0);
