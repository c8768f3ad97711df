/** `shoal token make|end`, `shoal host add|label|remove`, `shoal release put`: the operator's hand on the fleet. */
import { readFileSync, writeFileSync } from 'node:fs';
import { ShoalError } from '../../model/errors.ts';
import type { Verb } from '../arguments.ts';
import { withController } from '../control.ts';
import { digestOf, readImage } from '../images.ts';

export const tokenMake: Verb = {
  name: 'token make',
  summary: 'make a token for the controller',
  operands: 'ROLE [TENANT]',
  operandCount: [1, 2],
  options: {
    out: { value: 'FILE', help: 'write the token there, readable by its owner only, and not to the terminal' },
    note: { value: 'TEXT', help: 'what it is for' },
    days: { value: 'N', help: 'it expires after so many days' },
  },
  speaksToController: true,
  notes: 'ROLE: operator, tenant, ci (applies, deletes nothing), viewer.',
  run: (terminal, words) =>
    withController(words, async (control) => {
      const [role, tenant] = words.operands;
      const days = words.number('days', 0, 1, 3650);
      const note = words.text('note');
      const made = await control.call<{ token: string; id: string }>('POST', '/v1/tokens', {
        role,
        ...(tenant === undefined ? {} : { tenant }),
        ...(note === undefined ? {} : { note }),
        ...(days === 0 ? {} : { expiresInS: days * 86_400 }),
      });
      const out = words.text('out');
      if (out === undefined) {
        terminal.printJson(made);
        return terminal.print(made.token);
      }
      writeFileSync(out, `${made.token}\n`, { mode: 0o600, flag: 'wx' });
      const { token: _, ...shown } = made;
      terminal.printJson(shown);
      terminal.note(`token ${made.id} is in ${out}`);
    }),
};

export const tokenEnd: Verb = {
  name: 'token end',
  summary: 'end a token',
  operands: 'ID',
  operandCount: [1, 1],
  speaksToController: true,
  run: (terminal, words) =>
    withController(words, async (control) => {
      await control.call('DELETE', `/v1/tokens/${encodeURIComponent(words.operands[0]!)}`);
      terminal.printJson({ ended: words.operands[0] });
      terminal.print(`token ${words.operands[0]} ended`);
    }),
};

export const hostAdd: Verb = {
  name: 'host add',
  summary: 'take a host into the fleet',
  operands: 'NAME URL',
  operandCount: [2, 2],
  options: {
    certificate: { value: 'FILE', help: "PEM of the host's certificate, or of the authority that signed it" },
    fingerprint: { value: 'HEX', help: "SHA-256 of the host's certificate, in its place" },
    credential: { value: 'NAME', help: "file in the controller's folder of credentials; the host's name by default" },
  },
  speaksToController: true,
  run: (terminal, words) =>
    withController(words, async (control) => {
      const [name, url] = words.operands;
      const [file, fingerprint] = [words.text('certificate'), words.text('fingerprint')];
      if ((file === undefined) === (fingerprint === undefined))
        throw new ShoalError('USAGE', 'A host needs --certificate or --fingerprint.', { hint: 'Give one of them.' });
      const trust = file === undefined ? { fingerprint } : { ca: readFileSync(file, 'utf8') };
      const host = await control.call('POST', '/v1/hosts', { name, url, credential: words.text('credential') ?? name, ...trust });
      terminal.printJson(host);
      terminal.print(`${name} is in the fleet`);
    }),
};

export const hostRemove: Verb = {
  name: 'host remove',
  summary: 'take a host without copies out of the fleet',
  operands: 'NAME',
  operandCount: [1, 1],
  options: { dead: { help: 'it is gone for good: its copies are made elsewhere, its addresses used again' } },
  speaksToController: true,
  run: (terminal, words) =>
    withController(words, async (control) => {
      const path = `/v1/hosts/${encodeURIComponent(words.operands[0]!)}`;
      if (words.flag('dead')) await control.call('PATCH', path, { dead: true });
      await control.call('DELETE', path);
      terminal.printJson({ removed: words.operands[0] });
      terminal.print(`${words.operands[0]} is out of the fleet`);
    }),
};

export const hostLabel: Verb = {
  name: 'host label',
  summary: 'say what a host of the fleet is: services and events are placed by it',
  operands: 'NAME KEY=VALUE... | KEY-...',
  operandCount: [2, 33],
  speaksToController: true,
  notes: 'KEY- takes a label away. A host that the deployment repository has a file of gets its labels from there, with the next commit.',
  examples: ['shoal host label host0 place=east', 'shoal host label host0 place-'],
  run: (terminal, words) =>
    withController(words, async (control) => {
      const [name, ...changes] = words.operands;
      const path = `/v1/hosts/${encodeURIComponent(name!)}`;
      const { labels } = await control.call<{ labels: Record<string, string> }>('GET', path);
      for (const change of changes) {
        const m = /^([A-Za-z0-9][A-Za-z0-9._-]{0,62})(?:=(.{0,63})|-)$/.exec(change);
        if (m === null) throw new ShoalError('USAGE', `"${change}" is no label.`, { hint: 'Give it as KEY=VALUE, or KEY- to take it away.' });
        if (m[2] === undefined) delete labels[m[1]!];
        else labels[m[1]!] = m[2];
      }
      const host = await control.call<{ labels: Record<string, string> }>('PATCH', path, { labels });
      terminal.printJson(host);
      const now = Object.entries(host.labels).map(([key, value]) => `${key}=${value}`);
      terminal.print(`${name}  ${now.length === 0 ? 'no labels' : now.join(' ')}`);
    }),
};

export const releasePut: Verb = {
  name: 'release put',
  summary: 'give an image to the controller, and a name that services and events use',
  operands: 'NAME FILE',
  operandCount: [2, 2],
  speaksToController: true,
  examples: ['shoal release put minicache build/unikernels/minicache.elf'],
  run: (terminal, words) =>
    withController(words, async (control) => {
      const [name, file] = words.operands;
      const bytes = readImage(file!);
      const digest = digestOf(bytes);
      const { items } = await control.call<{ items: { digest: string }[] }>('GET', '/v1/images');
      const had = items.some((image) => image.digest === digest);
      if (!had) await control.call('PUT', `/v1/images/${digest}`, bytes);
      await control.call('PUT', `/v1/releases/${encodeURIComponent(name!)}`, { digest });
      terminal.printJson({ release: name, digest, bytes: bytes.length, sent: !had });
      terminal.print(`${name}  ${digest}`);
    }),
};
