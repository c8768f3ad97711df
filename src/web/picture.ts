/**
 * The fleet as one picture: every VM one cell of a canvas, its colour how it stands. Laid out anew only when VMs come, go or move, or
 * the room changes; painted anew when anything changes. Arrow keys lead from cell to cell, Enter and a click open the VM.
 */
import type { App } from './app.ts';
import { h, Rows, setText, show } from './dom.ts';
import { matches } from './filter.ts';
import { count, kib, since } from './format.ts';
import { cellAt, cornerOf, groupOf, layOut, move, type Layout, type Move, type PlacedGroup } from './layout.ts';
import { vmHash } from './route.ts';
import { meaning, standings, type Standing } from './standing.ts';
import type { Vm } from './types.ts';

export interface PictureOptions {
  vms: () => Iterable<Vm>;
  groupOf: (vm: Vm) => string;
  /** Where a heading leads; undefined: nowhere. */
  hrefOf: (group: string) => string | undefined;
  label: string;
  /** The group that comes after all others. */
  last?: string;
}

const pulseMs = 700;
const keys: Record<string, Move> = {
  ArrowLeft: 'left',
  ArrowRight: 'right',
  ArrowUp: 'up',
  ArrowDown: 'down',
  Home: 'first',
  End: 'last',
  PageUp: 'groupBefore',
  PageDown: 'groupAfter',
};
const byName = new Intl.Collator('en', { numeric: true });
/** At most one new layout in this time, while many VMs come or go. */
const layoutMs = 120;

export class Picture {
  readonly element: HTMLElement;
  readonly #app: App;
  readonly #o: PictureOptions;
  readonly #canvas: HTMLCanvasElement;
  readonly #paper: CanvasRenderingContext2D;
  readonly #tip = h('div.tip', { role: 'tooltip', hidden: true });
  readonly #spoken = h('p.unseen', { 'aria-live': 'polite' });
  readonly #headings: Rows<PlacedGroup>;
  readonly #resize: ResizeObserver;
  readonly #still = matchMedia('(prefers-reduced-motion: reduce)');
  #layout: Layout = layOut([], 1, 1);
  /** Ids of VMs, one a cell. */
  #ids: string[] = [];
  #shown: Standing[] = [];
  readonly #pulses = new Map<string, number>();
  #shape = -1;
  #laidOutMs = 0;
  #width = 0;
  #at: number | undefined;
  #hover: number | undefined;
  #frame = 0;
  #later: ReturnType<typeof setTimeout> | undefined;

  constructor(app: App, options: PictureOptions) {
    this.#app = app;
    this.#o = options;
    this.#canvas = h('canvas', {
      tabindex: 0,
      role: 'application',
      'aria-roledescription': 'picture of virtual machines',
      onkeydown: (event: KeyboardEvent) => this.#key(event),
      onfocus: () => this.#focus(this.#at ?? 0),
      onblur: () => this.#point(undefined),
      onpointermove: (event: PointerEvent) => this.#point(this.#under(event)),
      onpointerleave: () => this.#point(undefined),
      onclick: (event: MouseEvent) => this.#open(this.#under(event)),
    });
    this.#paper = this.#canvas.getContext('2d', { alpha: true })!;
    const headings = h('div.headings');
    this.element = h('div.picture', {}, this.#canvas, headings, this.#tip, this.#spoken);
    this.#headings = new Rows<PlacedGroup>(
      headings,
      ({ key }) => key,
      ({ key }) => {
        const href = options.hrefOf(key);
        const name = h('span.name', {}, key);
        const number = h('span.number');
        const element = href === undefined ? h('span.group', {}, name, number) : h('a.group', { href }, name, number);
        return {
          element,
          update: ({ x, y, width, first, cells }) => {
            element.style.transform = `translate(${x}px, ${y}px)`;
            element.style.width = `${width}px`;
            let fine = 0;
            for (let i = first; i < first + cells; i++) if (this.#shown[i] === 'ready' || this.#shown[i] === 'foreign') fine++;
            setText(number, fine === cells ? count(cells) : `${count(fine)} / ${count(cells)}`);
          },
        };
      },
    );
    this.#resize = new ResizeObserver(() => {
      if (this.element.clientWidth !== this.#width) this.update(true);
    });
    this.#resize.observe(this.element);
  }

  close(): void {
    this.#resize.disconnect();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#later);
  }

  update(anew = false): void {
    const { model } = this.#app;
    const width = this.element.clientWidth;
    if (width === 0) return;
    if (anew || width !== this.#width || model.shape !== this.#shape) {
      const restMs = anew ? 0 : this.#laidOutMs + layoutMs - performance.now();
      if (restMs <= 0) this.#layOut(width);
      else this.#later ??= setTimeout(() => ((this.#later = undefined), this.update()), restMs);
    }
    this.#paint();
    this.#headings.update(this.#layout.groups);
  }

  #layOut(width: number): void {
    const { model } = this.#app;
    const focused = this.#at === undefined ? undefined : this.#ids[this.#at];
    const known = new Map(this.#ids.map((id, i) => [id, this.#shown[i]!]));
    const groups = new Map<string, Vm[]>();
    for (const vm of this.#o.vms()) {
      const key = this.#o.groupOf(vm);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [vm]);
      else group.push(vm);
    }
    const sorted = [...groups].sort(([a], [b]) => Number(a === this.#o.last) - Number(b === this.#o.last) || byName.compare(a, b));
    for (const [, vms] of sorted) vms.sort(compareVms);
    const room = Math.max(260, innerHeight - this.element.getBoundingClientRect().top - scrollY - 28);
    this.#layout = layOut(
      sorted.map(([key, vms]) => ({ key, cells: vms.length })),
      width,
      room,
    );
    this.#ids = sorted.flatMap(([, vms]) => vms.map(({ id }) => id));
    // Those that are new light up, but for the first time.
    this.#shown = this.#ids.map((id) => known.get(id) ?? (this.#shape < 0 ? model.standing(model.vms.get(id)!) : 'foreign'));
    this.#shape = model.shape;
    this.#width = width;
    this.#laidOutMs = performance.now();
    const at = focused === undefined ? -1 : this.#ids.indexOf(focused);
    this.#at = at < 0 ? undefined : at;
    this.#hover = undefined;
    show(this.#tip, false);
    this.#canvas.dataset['cells'] = String(this.#layout.cells);
    this.#canvas.setAttribute('aria-label', `${this.#o.label}: ${count(this.#layout.cells)} VMs. Arrow keys move, Enter opens.`);
  }

  #paint(): void {
    cancelAnimationFrame(this.#frame);
    const { model, terms } = this.#app;
    const paper = this.#paper;
    const { side, pitch, height, groups } = this.#layout;
    const scale = devicePixelRatio;
    const canvas = this.#canvas;
    const [pxWidth, pxHeight] = [Math.round(this.#width * scale), Math.max(1, Math.round(height * scale))];
    if (canvas.width !== pxWidth || canvas.height !== pxHeight) {
      canvas.width = pxWidth;
      canvas.height = pxHeight;
      canvas.style.width = `${this.#width}px`;
      canvas.style.height = `${height}px`;
    }
    paper.setTransform(scale, 0, 0, scale, 0, 0);
    paper.clearRect(0, 0, this.#width, height);
    const style = getComputedStyle(canvas);
    const colours = Object.fromEntries(standings.map((each) => [each, style.getPropertyValue(`--${each}`)])) as Record<Standing, string>;
    const ink = style.getPropertyValue('--ink');
    const now = performance.now();
    const round = side >= 9;
    let colour = '';
    let matching = 0;
    const outdated: [number, number][] = [];
    const crossed: [number, number][] = [];
    for (const group of groups) {
      let odd = false;
      let service: string | undefined;
      for (let i = 0; i < group.cells; i++) {
        const index = group.first + i;
        const vm = model.vms.get(this.#ids[index]!);
        if (vm === undefined) continue;
        const standing = model.standing(vm);
        if (standing !== this.#shown[index]) {
          this.#shown[index] = standing;
          if (!this.#still.matches) this.#pulses.set(vm.id, now);
        }
        // Each service beside the next one is a shade apart.
        if (vm.service !== service && i > 0) odd = !odd;
        service = vm.service;
        const fits = terms.length === 0 || matches(terms, model.fieldsOf(vm));
        if (fits) matching++;
        const x = group.x + (i % group.perRow) * pitch;
        const y = group.cellsY + Math.floor(i / group.perRow) * pitch;
        const pulse = this.#pulses.size === 0 ? undefined : this.#pulses.get(vm.id);
        const grown = pulse === undefined ? 1 : Math.min(1, (now - pulse) / pulseMs);
        if (colours[standing] !== colour) paper.fillStyle = colour = colours[standing];
        paper.globalAlpha = (fits ? (odd ? 0.8 : 1) : 0.13) * (0.25 + 0.75 * grown);
        if (round) {
          paper.beginPath();
          paper.roundRect(x, y, side, side, 2.5);
          paper.fill();
        } else paper.fillRect(x, y, side, side);
        if (fits && (standing === 'failed' || standing === 'away')) crossed.push([x, y]);
        else if (fits && side >= 7 && model.isOutdated(vm)) outdated.push([x, y]);
      }
    }
    paper.globalAlpha = 1;
    this.#marks(crossed, outdated, side, style.getPropertyValue('--paper'));
    for (const [index, alpha] of [
      [this.#hover, 0.55],
      [document.activeElement === canvas ? this.#at : undefined, 1],
    ] as const) {
      if (index === undefined || index >= this.#ids.length) continue;
      const { x, y } = cornerOf(this.#layout, index);
      paper.globalAlpha = alpha;
      paper.strokeStyle = ink;
      paper.lineWidth = 2;
      paper.strokeRect(x - 2, y - 2, side + 4, side + 4);
    }
    paper.globalAlpha = 1;
    canvas.dataset['ready'] = String(this.#shown.filter((each) => each === 'ready').length);
    canvas.dataset['matching'] = String(matching);
    for (const [id, begun] of this.#pulses) if (now - begun > pulseMs) this.#pulses.delete(id);
    if (this.#pulses.size > 0) this.#frame = requestAnimationFrame(() => this.#paint());
  }

  /** Shapes beside colours: a stroke through what is wrong, a notch in what is to be replaced. */
  #marks(crossed: readonly [number, number][], outdated: readonly [number, number][], side: number, colour: string): void {
    const paper = this.#paper;
    paper.strokeStyle = paper.fillStyle = colour;
    paper.lineWidth = Math.max(1, side / 7);
    paper.beginPath();
    for (const [x, y] of crossed) {
      paper.moveTo(x + side * 0.25, y + side * 0.75);
      paper.lineTo(x + side * 0.75, y + side * 0.25);
    }
    paper.stroke();
    paper.beginPath();
    for (const [x, y] of outdated) {
      paper.moveTo(x + side, y);
      paper.lineTo(x + side, y + side * 0.5);
      paper.lineTo(x + side * 0.5, y);
    }
    paper.fill();
  }

  #vmAt(index: number | undefined): Vm | undefined {
    const id = index === undefined ? undefined : this.#ids[index];
    return id === undefined ? undefined : this.#app.model.vms.get(id);
  }

  #under({ offsetX, offsetY }: MouseEvent): number | undefined {
    return cellAt(this.#layout, offsetX, offsetY);
  }

  #open(index: number | undefined): void {
    const vm = this.#vmAt(index);
    if (vm !== undefined) this.#app.go(vmHash(vm.id));
  }

  #key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Enter' || event.key === ' ') this.#open(this.#at);
    else if (event.key === 'Escape') show(this.#tip, false);
    else {
      const to = keys[event.key];
      if (to === undefined) return;
      this.#focus(move(this.#layout, this.#at ?? 0, to));
    }
    event.preventDefault();
  }

  #focus(index: number): void {
    if (this.#ids.length === 0) return;
    this.#at = Math.min(index, this.#ids.length - 1);
    const vm = this.#vmAt(this.#at);
    if (vm !== undefined) setText(this.#spoken, `${vm.name}: ${meaning[this.#app.model.standing(vm)]}, on ${vm.host}`);
    this.#tipFor(this.#at);
    const { y } = cornerOf(this.#layout, this.#at);
    const top = this.#canvas.getBoundingClientRect().top + y;
    if (top < 90 || top > innerHeight - 90) scrollBy(0, top - innerHeight / 2);
    this.#paint();
  }

  #point(index: number | undefined): void {
    if (index === this.#hover) return;
    this.#hover = index;
    this.#canvas.style.cursor = index === undefined ? '' : 'pointer';
    this.#tipFor(index);
    this.#paint();
  }

  #tipFor(index: number | undefined): void {
    const vm = this.#vmAt(index);
    if (vm === undefined || index === undefined) return show(this.#tip, false);
    const standing = this.#app.model.standing(vm);
    this.#tip.replaceChildren(
      h('strong', {}, vm.name),
      h('span', {}, h(`i.dot.${standing}`), ` ${standing}`, this.#app.model.isOutdated(vm) ? ', outdated' : ''),
      h('span', {}, `${vm.host} · ${vm.addresses.join(', ') || 'no address'}`),
      h('span', {}, kib(vm.memoryKib), vm.since === undefined ? '' : ` · for ${since(vm.since, Date.now())}`),
    );
    show(this.#tip, true);
    const { x, y } = cornerOf(this.#layout, index);
    const { side } = this.#layout;
    const left = Math.max(0, Math.min(x + side + 10, this.#width - this.#tip.offsetWidth));
    const below = y + side + 10;
    const group = groupOf(this.#layout, index);
    const above = y - this.#tip.offsetHeight - 10;
    const fitsBelow = this.#canvas.getBoundingClientRect().top + below + this.#tip.offsetHeight < innerHeight;
    this.#tip.style.transform = `translate(${left}px, ${fitsBelow || above < group.y - 200 ? below : above}px)`;
  }
}

function compareVms(a: Vm, b: Vm): number {
  const [one, other] = [`${a.tenant ?? '~'}/${a.service ?? ''}`, `${b.tenant ?? '~'}/${b.service ?? ''}`];
  if (one !== other) return one < other ? -1 : 1;
  return (a.slot ?? 0) - (b.slot ?? 0) || (a.id < b.id ? -1 : 1);
}
