/**
 * Where each cell of the picture goes: groups side by side in columns of one width, each a heading and a block of square cells. The
 * cells are as large as the room allows. Pure, so that 10,000 cells are laid out the same way every time.
 */

export interface GroupSize {
  key: string;
  cells: number;
}

export interface PlacedGroup {
  key: string;
  /** Index of its first cell, over all groups. */
  first: number;
  cells: number;
  x: number;
  /** Of the heading. */
  y: number;
  width: number;
  /** Of the first row of cells. */
  cellsY: number;
  perRow: number;
}

export interface Layout {
  groups: PlacedGroup[];
  /** From one cell to the next, pixels. */
  pitch: number;
  /** Side of a cell. */
  side: number;
  height: number;
  cells: number;
}

export const headingHeight = 24;
const columnGap = 20;
const rowGap = 14;
const minColumn = 132;
const maxColumns = 24;
const maxPitch = 28;
export const minPitch = 6;

/** Cells one below the other keep their place while the width does; `room` is the height that need not be scrolled. */
export function layOut(sizes: readonly GroupSize[], width: number, room: number): Layout {
  const columnsMost = Math.max(1, Math.min(maxColumns, sizes.length, Math.floor((width + columnGap) / (minColumn + columnGap))));
  let best: { columns: number; pitch: number; height: number } | undefined;
  for (let pitch = maxPitch; pitch >= minPitch && (best === undefined || best.height > room); pitch--) {
    best = undefined;
    for (let columns = 1; columns <= columnsMost; columns++) {
      const height = heightOf(sizes, width, columns, pitch);
      if (best === undefined || height < best.height) best = { columns, pitch, height };
    }
  }
  return place(sizes, width, best?.columns ?? 1, best?.pitch ?? maxPitch);
}

const columnWidth = (width: number, columns: number): number =>
  Math.max(1, Math.floor((width - (columns - 1) * columnGap) / columns));
const perRowOf = (columnPx: number, pitch: number): number => Math.max(1, Math.floor(columnPx / pitch));

function heightOf(sizes: readonly GroupSize[], width: number, columns: number, pitch: number): number {
  const perRow = perRowOf(columnWidth(width, columns), pitch);
  let height = 0;
  for (let i = 0; i < sizes.length; i += columns) {
    let rows = 0;
    for (let j = i; j < Math.min(i + columns, sizes.length); j++) rows = Math.max(rows, Math.ceil(sizes[j]!.cells / perRow));
    height += headingHeight + rows * pitch + rowGap;
  }
  return height;
}

function place(sizes: readonly GroupSize[], width: number, columns: number, pitch: number): Layout {
  const column = columnWidth(width, columns);
  const perRow = perRowOf(column, pitch);
  const groups: PlacedGroup[] = [];
  let y = 0;
  let first = 0;
  for (let i = 0; i < sizes.length; i += columns) {
    let rows = 0;
    for (let j = i; j < Math.min(i + columns, sizes.length); j++) {
      const { key, cells } = sizes[j]!;
      const x = (j - i) * (column + columnGap);
      groups.push({ key, first, cells, x, y, width: column, cellsY: y + headingHeight, perRow });
      first += cells;
      rows = Math.max(rows, Math.ceil(cells / perRow));
    }
    y += headingHeight + rows * pitch + rowGap;
  }
  return { groups, pitch, side: pitch - (pitch > 8 ? 2 : 1), height: y, cells: first };
}

/** Index of the cell at a point; undefined where there is none. The gap after a cell is its own. */
export function cellAt(layout: Layout, x: number, y: number): number | undefined {
  for (const group of layout.groups) {
    if (y < group.cellsY || x < group.x || x >= group.x + group.width) continue;
    const column = Math.floor((x - group.x) / layout.pitch);
    const row = Math.floor((y - group.cellsY) / layout.pitch);
    if (column >= group.perRow) continue;
    const at = row * group.perRow + column;
    if (at < group.cells) return group.first + at;
  }
  return undefined;
}

/** The upper left corner of a cell. */
export function cornerOf(layout: Layout, index: number): { x: number; y: number } {
  const group = groupOf(layout, index);
  const at = index - group.first;
  return { x: group.x + (at % group.perRow) * layout.pitch, y: group.cellsY + Math.floor(at / group.perRow) * layout.pitch };
}

export function groupOf(layout: Layout, index: number): PlacedGroup {
  let low = 0;
  let high = layout.groups.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (layout.groups[middle]!.first <= index) low = middle;
    else high = middle - 1;
  }
  // Groups without cells begin where the next one does.
  return layout.groups[low]!;
}

export type Move = 'left' | 'right' | 'up' | 'down' | 'first' | 'last' | 'groupBefore' | 'groupAfter';

/** Where a key leads from a cell. */
export function move(layout: Layout, index: number, to: Move): number {
  const last = layout.cells - 1;
  if (last < 0) return 0;
  const group = groupOf(layout, Math.min(index, last));
  const at = layout.groups.indexOf(group);
  switch (to) {
    case 'left':
      return Math.max(0, index - 1);
    case 'right':
      return Math.min(last, index + 1);
    case 'up':
      return index - group.perRow >= group.first ? index - group.perRow : index;
    case 'down':
      return index + group.perRow < group.first + group.cells ? index + group.perRow : index;
    case 'first':
      return 0;
    case 'last':
      return last;
    case 'groupBefore':
      return layout.groups.slice(0, at).reverse().find((each) => each.cells > 0)?.first ?? group.first;
    case 'groupAfter':
      return layout.groups.slice(at + 1).find((each) => each.cells > 0)?.first ?? index;
  }
}
