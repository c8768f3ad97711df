/** `shoal click` against a port that answers as a guest does, or as none should: pieces, digests, mistakes, secrets. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import test from 'tape';
import { installConfiguration, pieceBytes, readHandler, writeHandler, type ClickPort } from '../../../src/cli/click-port.ts';
import { wordOf } from '../../../src/cli/verbs/click.ts';
import { ShoalError } from '../../../src/model/errors.ts';

/** A guest's port: keeps pieces as it has to, and cuts the connection instead of an answer as often as `cuts` says. */
class Guest {
  staged = Buffer.alloc(0);
  installed = '';
  refusal = '';
  cuts = 0;
  readonly asked: string[] = [];
  readonly #server: Server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const url = new URL(request.url!, 'http://g');
      this.asked.push(`${request.method} ${url.pathname}${url.search.replace(/[0-9a-f]{64}/, 'DIGEST')}`);
      const [status, text] = request.headers.authorization === 'Bearer s' ? this.#answer(url, Buffer.concat(parts)) : [401, 'no'];
      if (this.cuts > 0) {
        this.cuts--;
        request.socket.destroy();
        return;
      }
      response.writeHead(status, { 'Content-Length': Buffer.byteLength(text) }).end(text);
    });
  });

  #answer(url: URL, body: Buffer): [number, string] {
    if (url.pathname === '/configuration') {
      const at = Number(url.searchParams.get('at'));
      if (at === 0) this.staged = Buffer.alloc(0);
      if (at !== this.staged.length) return [409, 'not there'];
      this.staged = Buffer.concat([this.staged, body]);
      return [200, '{}'];
    }
    if (url.pathname === '/install') {
      if (createHash('sha256').update(this.staged).digest('hex') !== url.searchParams.get('sha256')) return [409, 'not what was meant'];
      if (this.refusal !== '') return [422, this.refusal];
      if (url.searchParams.get('dry') !== '1') this.installed = this.staged.toString();
      return [200, JSON.stringify({ sha256: url.searchParams.get('sha256'), elements: 1, installed: url.searchParams.get('dry') !== '1' })];
    }
    const handler = url.searchParams.get('handler');
    if (url.pathname === '/read' && handler === 'a/b@1.count') return [200, '7'];
    if (url.pathname === '/write' && handler === 'a.rate') return body.toString() === '5' ? [200, ''] : [422, 'a rate is a number'];
    return [404, `no element '${handler}'`];
  }

  async listen(): Promise<ClickPort> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return { address: '127.0.0.1', port: (this.#server.address() as AddressInfo).port, secret: 's' };
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof ShoalError ? error.code : String(error)),
  );

test('a configuration goes in pieces, in order, and is installed by its digest', async (t) => {
  const guest = new Guest();
  const port = await guest.listen();
  const text = `${'// é\n'.repeat(8000)}Idle -> Discard\n`;
  t.deepEqual(await installConfiguration(port, text, true).then(({ installed }) => installed), false, 'a check');
  t.equal(guest.installed, '', 'installs nothing');
  guest.asked.length = 0;
  await installConfiguration(port, text);
  t.equal(guest.installed, text, 'whole, whatever the pieces cut');
  t.deepEqual(guest.asked, ['PUT /configuration?at=0', `PUT /configuration?at=${pieceBytes}`, `PUT /configuration?at=${2 * pieceBytes}`, 'POST /install?sha256=DIGEST'], 'in this order');
  await installConfiguration(port, '');
  t.equal(guest.installed, '', 'an empty one is one too');
  guest.close();
  t.end();
});

test('answers that are lost are asked for again, as far as that is safe', async (t) => {
  const guest = new Guest();
  const port = await guest.listen();
  const text = 'x'.repeat(pieceBytes * 2);
  guest.cuts = 2;
  await installConfiguration(port, text);
  t.equal(guest.installed, text, 'the pieces are there once');
  guest.cuts = 1;
  t.equal(await codeOf(writeHandler(port, 'a.rate', '5')), 'CONNECTION_FAILED', 'a handler is written once or not at all');
  guest.cuts = 99;
  t.equal(await codeOf(readHandler(port, 'a/b@1.count')), 'CONNECTION_FAILED', 'it ends');
  guest.close();
  t.end();
});

test('what the guest refuses is told as what it is', async (t) => {
  const guest = new Guest();
  const port = await guest.listen();
  guest.refusal = "1:5: unknown element class 'X'\n3:7: no\n";
  const error = (await installConfiguration(port, 'a').catch((thrown: unknown) => thrown)) as ShoalError;
  t.equal(error.code, 'CLICK_REFUSED', 'a bad configuration');
  t.deepEqual(error.data['mistakes'], [{ line: 1, column: 5, message: "unknown element class 'X'" }, { line: 3, column: 7, message: 'no' }], 'with its places');
  t.equal(await codeOf(installConfiguration({ ...port, secret: 'other' }, 'a')), 'TOKEN_INVALID', 'a wrong secret');
  t.equal(await codeOf(installConfiguration(port, 'x'.repeat(300_000))), 'REQUEST_TOO_LARGE', 'too large a one');
  t.equal(await readHandler(port, 'a/b@1.count'), '7', 'names go through whole');
  t.equal(await codeOf(readHandler(port, 'x.count')), 'NOT_FOUND', 'no such handler');
  t.equal(await codeOf(writeHandler(port, 'a.rate', 'x')), 'REQUEST_INVALID', 'a value it does not take');
  t.equal(await codeOf(writeHandler(port, 'a.rate', '5')), 'done', 'one it takes');
  guest.close();
  t.end();
});

test("the secret and the port are words of the VM's arguments", (t) => {
  t.equal(wordOf('name=a secret=s=1  admin=99', 'secret'), 's=1');
  t.equal(wordOf('name=a secret=s admin=99', 'admin'), '99');
  t.equal(wordOf('xsecret=s', 'secret'), undefined);
  t.end();
});
