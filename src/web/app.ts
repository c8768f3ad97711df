/** What every page is given, and what a page is. */
import type { Api } from './api.ts';
import type { Term } from './filter.ts';
import type { FleetModel } from './model.ts';
import type { Route } from './route.ts';
import type { Who } from './types.ts';

export interface App {
  api: Api;
  model: FleetModel;
  who: Who;
  route: Route;
  /** Of the filter box. */
  terms: readonly Term[];
  filterText: string;
  setFilter(text: string): void;
  /** Changes the query of the address, without a new page. */
  setQuery(name: string, value: string): void;
  go(hash: string): void;
  /** Asks for another look at what is shown, with the next frame. */
  refresh(): void;
  say(text: string): void;
  complain(error: unknown): void;
  /** Asks first; undefined `confirm` does not ask. The button rests until the work is done. */
  act(button: HTMLButtonElement, confirm: Question | undefined, work: () => Promise<string>): Promise<void>;
}

export interface Question {
  title: string;
  text: string;
  /** On the button that does it. */
  yes: string;
}

export interface Page {
  title: string;
  element: HTMLElement;
  /** What the filter box would find here; undefined: there is nothing to filter. */
  filters?: string;
  /** Something changed: the fleet, the filter, the theme. */
  update(): void;
  close?(): void;
}
