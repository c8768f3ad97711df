// The page of one event: numbers twice a second, and the video from the edge. Plain JavaScript, for it is served as it is.
'use strict';

const [, , tenant, name] = location.pathname.split('/');
const key = location.hash.slice(1);
const $ = (id) => document.getElementById(id);
const player = { stalls: 0, edge: '', failures: 0 };
// For tests, and for whoever looks from the console.
window.shoalEvent = player;

const whole = (n) => Math.round(n).toLocaleString('en');
const bytes = (n) => {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; i++) n /= 1000;
  return `${n >= 100 || i === 0 ? whole(n) : n.toFixed(1)} ${units[i]}`;
};
const bits = (n) => `${bytes(n).replace(/B$/, 'b')}/s`;
const percent = (n) => (n === null || n === undefined ? '–' : `${(100 * n).toFixed(1)} %`);

function shownNumbers({ statistics: s, caches }) {
  const list = [
    ['viewers', whole(s.viewers ?? 0)],
    ['hit ratio', percent(s.hitRatio ?? s.totalHitRatio)],
    ['bytes saved', bytes(s.bytesSaved ?? 0)],
    ['throughput', bits(s.bpsOut ?? 0)],
    ['from the origin', bits(s.bpsIn ?? 0)],
    ['stalls', s.stalls === null ? '–' : whole(s.stalls)],
    ['stalls here', whole(player.stalls)],
    ['caches', `${caches.serving} of ${caches.total}`],
  ];
  $('numbers').replaceChildren(
    ...list.map(([term, value]) => {
      const box = document.createElement('div');
      const dt = document.createElement('dt');
      const dd = document.createElement('dd');
      dt.textContent = term;
      dd.textContent = value;
      dd.dataset.number = term;
      box.append(dt, dd);
      return box;
    }),
  );
}

function plot(id, samples, of, least) {
  const svg = $(id);
  const values = samples.map(of);
  const most = Math.max(least, ...values.filter((v) => v !== null));
  const spanMs = 300_000;
  const end = samples.at(-1)?.atMs ?? 0;
  let line = '';
  samples.forEach((sample, i) => {
    if (values[i] === null) return;
    const x = (1000 * (sample.atMs - end + spanMs)) / spanMs;
    line += `${line === '' ? 'M' : 'L'}${x.toFixed(1)} ${(98 - (96 * values[i]) / most).toFixed(1)}`;
  });
  svg.setAttribute('viewBox', '0 0 1000 100');
  const path = svg.firstElementChild ?? svg.appendChild(document.createElementNS('http://www.w3.org/2000/svg', 'path'));
  path.setAttribute('d', line);
  return most;
}

function shownEdges(edges) {
  $('edges').replaceChildren(
    ...edges.map(({ id, place, state, load }) => {
      const row = document.createElement('tr');
      for (const text of [id, place || '–', state, `${Math.round(100 * load)} %`]) {
        const cell = document.createElement('td');
        cell.textContent = text;
        row.append(cell);
      }
      row.lastElementChild.className = 'right';
      return row;
    }),
  );
}

let playing;
async function numbers() {
  const response = await fetch('numbers', { headers: { authorization: `Bearer ${key}` }, cache: 'no-store' });
  if (response.status === 404) throw new Error('The key of this page is wrong, or the event is gone. Ask for its address again: shoal event describe.');
  if (!response.ok) throw new Error(`The router answered ${response.status}.`);
  const event = await response.json();
  $('name').textContent = event.id;
  document.title = `${event.id} · event`;
  $('state').textContent = event.trouble ? `${event.state}: ${event.trouble.message}` : `${event.state}, until ${new Date(event.until).toLocaleString()}`;
  $('state').className = event.trouble ? 'bad' : '';
  shownNumbers(event);
  shownEdges(event.edges ?? []);
  plot('plot-viewers', event.samples, (s) => s.viewers, 1);
  plot('plot-bps', event.samples, (s) => s.bpsOut, 1000);
  plot('plot-hits', event.samples, (s) => (s.hits + s.misses === 0 ? null : s.hits / (s.hits + s.misses)), 1);
  if (playing === undefined && event.state === 'live') playing = play(`/e/${tenant}/${name}${new URL(event.url).pathname.split('/').slice(4).map((part) => `/${part}`).join('')}`);
}

async function round() {
  try {
    await numbers();
  } catch (error) {
    $('state').textContent = error.message;
    $('state').className = 'bad';
  }
  setTimeout(round, document.hidden ? 5000 : 500);
}

const patient = { maxNumRetry: 8, retryDelayMs: 250, maxRetryDelayMs: 1000 };
const policy = (firstByteMs, wholeMs) => ({
  default: { maxTimeToFirstByteMs: firstByteMs, maxLoadTimeMs: wholeMs, timeoutRetry: { ...patient, retryDelayMs: 0 }, errorRetry: patient },
});

function play(url) {
  const video = $('video');
  if (!window.Hls?.isSupported()) {
    video.src = url;
    return {};
  }
  // Every segment is asked for at the router anew, so a second try goes to a cache that answers.
  const hls = new Hls({
    lowLatencyMode: true,
    manifestLoadPolicy: policy(8000, 15000),
    playlistLoadPolicy: policy(15000, 20000),
    fragLoadPolicy: policy(2000, 10000),
  });
  player.hls = hls;
  hls.on(Hls.Events.MANIFEST_PARSED, (_, { levels }) => {
    levels.forEach((level, i) => $('level').add(new Option(level.height ? `${level.height}p` : bits(level.bitrate), String(i))));
    $('level').disabled = levels.length < 2;
    video.play().catch(() => {});
  });
  hls.on(Hls.Events.FRAG_LOADED, (_, { networkDetails }) => {
    const at = networkDetails?.responseURL ?? networkDetails?.url;
    if (!at) return;
    player.edge = new URL(at).host;
    $('edge').textContent = `from ${player.edge}`;
  });
  hls.on(Hls.Events.ERROR, (_, { type, details, fatal }) => {
    player.failures++;
    player.lastError = details;
    if (details === Hls.ErrorDetails.BUFFER_STALLED_ERROR) player.stalls++;
    if (!fatal) return;
    if (type === Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
    else setTimeout(() => hls.loadSource(url), 1000);
  });
  $('level').addEventListener('change', () => (hls.nextLevel = Number($('level').value)));
  hls.loadSource(url);
  hls.attachMedia(video);
  return hls;
}

round();
