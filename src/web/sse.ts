/** Server-sent events out of a stream of text, for EventSource cannot send a token. Pure; holds at most one event that is not whole. */

export interface ServerEvent {
  id: string;
  event: string;
  data: string;
}

/** Far above the largest thing the controller tells of. */
const maxWaitingChars = 4 * 1024 * 1024;

export class EventParser {
  #rest = '';

  /** The events that are whole now. Comments, which keep the stream alive, are none. Throws when one event is beyond all bounds. */
  push(text: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    const all = this.#rest + text;
    let from = 0;
    for (let end = all.indexOf('\n\n'); end >= 0; end = all.indexOf('\n\n', from)) {
      const event = parse(all.slice(from, end));
      if (event !== undefined) events.push(event);
      from = end + 2;
    }
    this.#rest = all.slice(from);
    if (this.#rest.length > maxWaitingChars) throw new Error('The stream of events holds no events.');
    return events;
  }
}

function parse(block: string): ServerEvent | undefined {
  const found: ServerEvent = { id: '', event: '', data: '' };
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':');
    if (colon <= 0) continue;
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).replace(/^ /, '');
    if (name === 'data') found.data += (found.data === '' ? '' : '\n') + value;
    else if (name === 'id' || name === 'event') found[name] = value;
  }
  return found.event === '' ? undefined : found;
}
