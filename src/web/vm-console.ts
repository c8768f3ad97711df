/** A VM's console, read out of its ring when it is asked for; can be followed. */
import type { App } from './app.ts';
import { h, setAttribute, setText } from './dom.ts';
import { plainText } from './format.ts';
import { button } from './parts.ts';
import { problemOf } from './problem.ts';

const followMs = 1000;
/** What is kept of it here. */
const maxChars = 200_000;

export class VmConsole {
  readonly element: HTMLElement;
  readonly #app: App;
  readonly #id: string;
  readonly #text = h('pre.console', { tabindex: 0, 'aria-label': 'Console output', hidden: true });
  readonly #state = h('p.none', {}, 'Not read yet.');
  readonly #follow: HTMLButtonElement;
  #cursor = 0;
  #following = false;
  #busy = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(app: App, id: string) {
    this.#app = app;
    this.#id = id;
    this.#follow = button('Follow', () => this.#toggle());
    this.#follow.setAttribute('aria-pressed', 'false');
    this.element = h(
      'section',
      {},
      h('div.heading', {}, h('h2', {}, 'Console'), h('div.actions', {}, button('Read', () => void this.#read()), this.#follow)),
      this.#state,
      this.#text,
    );
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #toggle(): void {
    this.#following = !this.#following;
    setAttribute(this.#follow, 'aria-pressed', String(this.#following));
    clearTimeout(this.#timer);
    if (this.#following) void this.#read();
  }

  async #read(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      const { text, cursor } = await this.#app.api.get<{ text: string; cursor: number }>(
        `/v1/vms/${encodeURIComponent(this.#id)}/console?cursor=${this.#cursor}`,
      );
      this.#cursor = cursor;
      this.#append(plainText(text));
      const when = `Read at ${new Date().toLocaleTimeString('en-GB')}`;
      setText(this.#state, this.#text.textContent === '' ? `${when}: it has written nothing.` : `${when}.`);
    } catch (error) {
      const { message, hint } = problemOf(error);
      setText(this.#state, `${message} ${hint}`);
    }
    this.#busy = false;
    if (this.#following && !this.#closed) this.#timer = setTimeout(() => void this.#read(), followMs);
  }

  #append(more: string): void {
    if (more === '') return;
    const { scrollTop, scrollHeight, clientHeight } = this.#text;
    const atEnd = scrollTop + clientHeight >= scrollHeight - 4;
    this.#text.textContent = ((this.#text.textContent ?? '') + more).slice(-maxChars);
    this.#text.hidden = false;
    if (atEnd) this.#text.scrollTop = this.#text.scrollHeight;
  }
}
