/* Inside of the lab's network: `dns SERVER PORT NAME` asks for a name and then for its page, `page ADDRESS` for a page. Times as of 1970, in ms. */
import { Resolver } from 'node:dns/promises';
import { get } from 'node:http';

const now = () => performance.timeOrigin + performance.now();
const page = (host) =>
  new Promise((resolve, reject) => {
    const request = get({ host, path: '/', agent: false, timeout: 60_000 }, (response) => {
      response.once('data', () => resolve(now()));
      response.resume();
    });
    request.on('error', reject);
    request.on('timeout', () => request.destroy(new Error('no answer')));
  });

const [what, ...words] = process.argv.slice(2);
if (what === 'page') {
  console.log('ready');
  console.log(JSON.stringify({ firstByteMs: await page(words[0]) }));
} else {
  const [server, port, name] = words;
  const resolver = new Resolver({ timeout: 60_000, tries: 1 });
  resolver.setServers([`${server}:${port}`]);
  const askedMs = now();
  const [address] = await resolver.resolve4(name);
  const answeredMs = now();
  console.log(JSON.stringify({ askedMs, answeredMs, firstByteMs: await page(address), address }));
}
