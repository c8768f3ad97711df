// A tiny pull-through cache in the place of the unikernel, with its arguments and its admin port: node stand-in.mjs HOST PORT ADMIN ORIGIN [BYTES-A-SECOND]
import { createServer, get } from 'node:http';

const [, , host, port, admin, origin, rate = '0'] = process.argv;
const kept = new Map();
const filling = new Map();
const n = { requests: 0, hits: 0, misses: 0, bytes_out: 0, bytes_in: 0, downloads_broken: 0 };
let connections = 0;

function fetchUp(path) {
  return new Promise((done, fail) => {
    get(origin + path, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('error', fail);
      response.on('end', () => {
        const body = Buffer.concat(parts);
        n.bytes_in += body.length;
        const maxAge = Number(/max-age=(\d+)/.exec(response.headers['cache-control'] ?? '')?.[1] ?? 0);
        const { 'content-type': type, 'cache-control': control, etag } = response.headers;
        const headers = Object.fromEntries(Object.entries({ 'content-type': type, 'cache-control': control, etag }).filter(([, v]) => v !== undefined));
        const entry = { status: response.statusCode, headers, body, until: Date.now() + 1000 * maxAge };
        if (maxAge > 0 && kept.size < 5000) kept.set(path, entry);
        done(entry);
      });
    }).on('error', fail);
  });
}

const server = createServer((request, response) => {
  n.requests++;
  const path = request.url;
  const found = kept.get(path);
  const fresh = found !== undefined && found.until > Date.now();
  if (fresh) n.hits++;
  else n.misses++;
  let fetching = fresh ? Promise.resolve(found) : filling.get(path);
  if (fetching === undefined) {
    fetching = fetchUp(path).finally(() => filling.delete(path));
    filling.set(path, fetching);
  }
  response.on('close', () => response.writableFinished || n.downloads_broken++);
  fetching.then(
    ({ status, headers, body }) => {
      response.writeHead(status, { ...headers, 'content-length': body.length, 'access-control-allow-origin': '*', 'access-control-expose-headers': '*' });
      const step = Math.max(1, Math.floor(Number(rate) / 20));
      const send = (at) => {
        if (response.destroyed) return;
        const end = Number(rate) > 0 ? Math.min(body.length, at + step) : body.length;
        n.bytes_out += end - at;
        response.write(body.subarray(at, end));
        if (end === body.length) response.end();
        else setTimeout(send, 50, end);
      };
      send(0);
    },
    () => response.writeHead(502).end(),
  );
});
server.on('connection', (socket) => {
  connections++;
  socket.on('close', () => connections--);
});
server.listen(Number(port), host);
const admins = createServer((request, response) => {
  if (request.url === '/health') return response.end('ok\n');
  if (process.env.SECRET && request.headers.authorization !== `Bearer ${process.env.SECRET}`) return response.writeHead(403).end();
  const lines = Object.entries(n).map(([name, value]) => `minicache_${name}_total ${value}`);
  response.end(`${lines.join('\n')}\nminicache_connections ${connections}\n# EOF\n`);
});
// As minicache counts: whoever asks is among them.
admins.on('connection', (socket) => {
  connections++;
  socket.on('close', () => connections--);
});
admins.listen(Number(admin), host);
