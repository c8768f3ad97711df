/** A host of a move as its agent's XenAPI offers it. */
import type { Readable } from 'node:stream';
import type { WaypointHost, WaypointVm } from '../migrate/waypoints.ts';
import { refOf, type Listing, type WireError } from '../xenapi/plugin-types.ts';
import type { Client } from './client.ts';
import { errorOf } from './failure.ts';

const transferMs = 600_000;

export class AgentHost implements WaypointHost {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  async vm(named: string): Promise<WaypointVm | undefined> {
    const { rows, texts } = await this.#client.plugin<Listing>('list', { columns: ['uuid', 'name', 'state', 'addresses', 'image'], names: [named] });
    const [row] = rows;
    if (row === undefined) return undefined;
    const [uuid, name, state, addresses, image] = row;
    return { uuid: String(uuid), name: String(name), state: texts[Number(state)]!, addresses: String(addresses).split(' ').filter((one) => one !== ''), image: texts[Number(image)]! };
  }

  async hasImage(digest: string): Promise<boolean> {
    return (await this.#client.plugin<{ digest: string }[]>('images')).some((image) => image.digest === digest);
  }

  async suspend(uuid: string): Promise<void> {
    await this.#client.call('VM.suspend', [refOf(uuid)], { timeoutMs: transferMs });
  }

  async resume(uuid: string): Promise<void> {
    await this.#client.call('VM.resume', [refOf(uuid), false, false], { timeoutMs: transferMs });
  }

  async unpause(uuid: string): Promise<void> {
    await this.#client.call('VM.unpause', [refOf(uuid)]);
  }

  async destroy(uuid: string): Promise<void> {
    const { failed } = await this.#client.plugin<{ failed: WireError[] }>('destroy', { vms: [uuid] }, { timeoutMs: transferMs });
    if (failed[0] !== undefined && failed[0].code !== 'UUID_INVALID' && failed[0].code !== 'HANDLE_INVALID') throw errorOf(failed[0]);
  }

  save(uuid: string, take: (content: Readable, bytes: number) => Promise<void>): Promise<void> {
    return this.#client.download('/saved-vm', { uuid }, (content) => take(content, Number(content.headers['content-length'])), { timeoutMs: transferMs });
  }

  async restore(content: Readable, bytes: number, { name, ip }: { name: string; ip: string }): Promise<void> {
    await this.#client.upload('/saved-vm', { name, ip, copy: 'true' }, content, bytes, { timeoutMs: transferMs });
  }

  async bury(uuid: string): Promise<void> {
    await this.#client.plugin('bury', { vm: uuid }, { timeoutMs: transferMs });
  }

  async unbury(of: { vm: string } | { ip: string }): Promise<void> {
    await this.#client.plugin('unbury', { ...of }, { timeoutMs: transferMs });
  }

  async hold(ip: string, ms: number): Promise<void> {
    await this.#client.plugin('hold-address', { ip, ms: String(ms) });
  }
}
