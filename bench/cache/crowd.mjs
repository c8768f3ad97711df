/**
 * A crowd of viewers of one event, run in the router's namespace: `node crowd.mjs URL VIEWERS RAMP_S HOLD_S`. Each is a player as far as the network can tell: the playlists, then a
 * segment every SEGMENT_S seconds, again and again, each asked for at the router, which says where it is; connections are kept, each viewer has his own. A viewer
 * whose request fails tries nothing else: it counts. Prints one line a second, and a last one with all.
 */
import http from 'node:http';

const [, , url, viewers, rampS, holdS] = process.argv;
const segmentS = 2;
const lateMs = 4_000;
const began = performance.now();
const since = () => (performance.now() - began) / 1000;
const totals = { requests: 0, bytes: 0, errors: 0, late: 0 };
const problems = new Map();
let watching = 0;
let slowestMs = 0;

const get = (address, agents) =>
  new Promise((resolve, reject) => {
    const at = new URL(address);
    const agent = (agents[at.host] ??= new http.Agent({ keepAlive: true, maxSockets: 1 }));
    const request = http.get(at, { agent }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.once('error', reject);
      response.once('end', () => resolve({ status: response.statusCode, location: response.headers.location, body: Buffer.concat(parts) }));
    });
    request.setTimeout(15_000, () => request.destroy(new Error('no answer in 15 s')));
    request.once('error', reject);
  });

async function follow(address, agents) {
  const asked = performance.now();
  let answer = await get(address, agents);
  // what a browser does by itself with a connection that was closed as it was used anew
  if (answer.status === 302) answer = await get(answer.location, agents).catch((error) => (error.code === 'ECONNRESET' ? get(answer.location, agents) : Promise.reject(error)));
  totals.requests++;
  totals.bytes += answer.body.length;
  const tookMs = performance.now() - asked;
  slowestMs = Math.max(slowestMs, tookMs);
  if (tookMs > lateMs) totals.late++;
  if (answer.status !== 200) throw new Error(`status ${answer.status}`);
  return answer.body;
}

const wait = (s) => new Promise((resolve) => setTimeout(resolve, s * 1000));
const links = (text, base) => text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).map((line) => new URL(line, base).href);

async function watch(startS) {
  await wait(startS);
  watching++;
  const agents = {};
  const trouble = (error) => {
    totals.errors++;
    problems.set(error.message, (problems.get(error.message) ?? 0) + 1);
  };
  try {
    const renditions = links((await follow(url, agents)).toString(), url);
    const segments = links((await follow(renditions[0], agents)).toString(), renditions[0]);
    for (let i = 0; since() < Number(rampS) + Number(holdS); i++) {
      const began = performance.now();
      await follow(segments[i % segments.length], agents).catch(trouble);
      await wait(Math.max(0, segmentS - (performance.now() - began) / 1000));
    }
  } catch (error) {
    trouble(error);
  }
  for (const agent of Object.values(agents)) agent.destroy();
}

const tick = setInterval(() => {
  console.log(JSON.stringify({ atMs: Math.round(performance.timeOrigin + performance.now()), watching, slowestMs: Math.round(slowestMs), ...totals }));
  slowestMs = 0;
}, 1000);
await Promise.all(Array.from({ length: Number(viewers) }, (_, i) => watch((i * Number(rampS)) / Number(viewers))));
clearInterval(tick);
console.log(JSON.stringify({ end: true, ...totals, problems: Object.fromEntries(problems) }));
