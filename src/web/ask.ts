/** Questions before something is done, and what is said of it afterwards. */
import type { Question } from './app.ts';
import { h, setAttribute } from './dom.ts';
import { problemOf, type Reason } from './problem.ts';

/** Resolves with whether it is to be done. The way out has the focus. */
export function confirm({ title, text, yes }: Question): Promise<boolean> {
  return new Promise((resolve) => {
    const close = (value: boolean) => (): void => {
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    const no = h('button.plain', { type: 'button', onclick: close(false) }, 'Keep it as it is');
    const dialog = h(
      'dialog',
      { 'aria-labelledby': 'question', oncancel: close(false) },
      h('h2', { id: 'question' }, title),
      h('p', {}, text),
      h('div.actions', {}, no, h('button.danger.solid', { type: 'button', onclick: close(true) }, yes)),
    );
    document.body.append(dialog);
    dialog.showModal();
    no.focus();
  });
}

const goodMs = 6000;
const mostAtOnce = 4;

const textOf = ({ path, message }: Reason): string => (path === '' ? message : `${path}: ${message}`);

/** Messages at the lower edge: good news goes by itself, bad news when it was read. */
export class Messages {
  readonly element = h('div.messages', { role: 'status', 'aria-live': 'polite' });

  say(text: string): void {
    const message = this.#put(h('div.message', {}, h('p', {}, text)));
    setTimeout(() => message.remove(), goodMs);
  }

  complain(error: unknown): void {
    const { message, hint, reasons } = problemOf(error);
    const [only] = reasons;
    // One reason says all of it: what is above it would say the same.
    const single = reasons.length === 1 && only !== undefined;
    this.#put(
      h(
        'div.message.bad',
        { role: 'alert' },
        h('p', {}, single ? textOf(only) : message),
        reasons.length > 1
          ? h('ul', {}, ...reasons.map((reason) => h('li', {}, `${textOf(reason)} ${reason.hint}`)))
          : h('p.hint', {}, single ? only.hint : hint),
      ),
    );
  }

  clear(): void {
    this.element.replaceChildren();
  }

  #put(message: HTMLElement): HTMLElement {
    message.append(h('button.quiet', { type: 'button', 'aria-label': 'Close this message', onclick: () => message.remove() }, 'Close'));
    this.element.append(message);
    while (this.element.childElementCount > mostAtOnce) this.element.firstElementChild!.remove();
    return message;
  }
}

/** The button rests while the work is under way, and keeps the focus. */
export async function busy<T>(button: HTMLButtonElement, work: () => Promise<T>): Promise<T> {
  const hadFocus = document.activeElement === button;
  button.disabled = true;
  setAttribute(button, 'aria-busy', 'true');
  try {
    return await work();
  } finally {
    button.disabled = false;
    setAttribute(button, 'aria-busy', undefined);
    if (hadFocus && (document.activeElement === null || document.activeElement === document.body)) button.focus();
  }
}
