/**
 * Elements out of code. Text goes in as text and nowhere else: no string ever becomes markup, and the page's policy would refuse it.
 */

export type Child = Node | string | undefined | false;
type Props = Record<string, string | number | boolean | undefined | ((event: never) => void)>;

const put = (element: Element, props: Props): void => {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value as EventListener);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
};

/** `what`: "tag.class.class". A prop that begins with "on" is a listener; undefined and false are left out. */
export function h<K extends keyof HTMLElementTagNameMap>(
  what: K | `${K}.${string}`,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const [tag, ...classes] = what.split('.');
  const element = document.createElement(tag as K);
  if (classes.length > 0) element.classList.add(...classes);
  put(element, props);
  element.append(...children.filter((child): child is Node | string => child !== undefined && child !== false));
  return element;
}

export function svg(tag: string, props: Props = {}, ...children: Node[]): SVGElement {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  put(element, props);
  element.append(...children);
  return element;
}

/** Only what differs is written, so that selections, focus and screen readers are left in peace. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element: Element, name: string, value: string | undefined): void {
  if (value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function show(element: HTMLElement, shown: boolean): void {
  if (element.hidden === shown) element.hidden = !shown;
}

export interface Row<T> {
  element: HTMLElement;
  update(item: T): void;
}

/** Rows that live as long as their item: a row that has the focus keeps it while the others come and go. */
export class Rows<T> {
  readonly #parent: HTMLElement;
  readonly #key: (item: T) => string;
  readonly #make: (item: T) => Row<T>;
  readonly #rows = new Map<string, Row<T>>();

  constructor(parent: HTMLElement, key: (item: T) => string, make: (item: T) => Row<T>) {
    this.#parent = parent;
    this.#key = key;
    this.#make = make;
  }

  update(items: readonly T[]): void {
    const kept = new Set(items.map(this.#key));
    for (const [key, row] of this.#rows)
      if (!kept.has(key)) {
        row.element.remove();
        this.#rows.delete(key);
      }
    let before: ChildNode | null = this.#parent.firstChild;
    for (const item of items) {
      const key = this.#key(item);
      let row = this.#rows.get(key);
      if (row === undefined) this.#rows.set(key, (row = this.#make(item)));
      row.update(item);
      if (row.element === before) before = before.nextSibling;
      else this.#parent.insertBefore(row.element, before);
    }
  }
}
