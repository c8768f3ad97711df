/**
 * The plugin's `list`: the VMs of a host as a table, for whoever wants a line of each and not XenAPI's records, which have two
 * kilobytes each. It says what the agent knows, which follows Xen by events, and asks nobody.
 */
import type { Vm } from '../host/vm.ts';
import type { Api } from './api.ts';
import type { ListColumn } from './plugin-types.ts';

/** Each text once: a fleet has thousands of VMs and a handful of images. */
class Texts {
  readonly all: string[] = [];
  readonly #places = new Map<string, number>();

  place(text: string): number {
    let place = this.#places.get(text);
    if (place === undefined) {
      place = this.all.push(text) - 1;
      this.#places.set(text, place);
    }
    return place;
  }
}

type Cell = (vm: Vm, texts: Texts) => string | number;

const cells: { [C in ListColumn]: Cell } = {
  uuid: (vm) => vm.uuid,
  name: (vm) => vm.name,
  state: (vm, texts) => texts.place(vm.power.toLowerCase()),
  domid: (vm) => (vm.power === 'Halted' || vm.power === 'Suspended' ? 0 : (vm.domid ?? 0)),
  memoryKib: (vm) => vm.memoryKib,
  addresses: (vm) =>
    vm.vifs.length === 1 ? (vm.vifs[0]!.ipv4[0] ?? '') : vm.vifs.flatMap(({ ipv4 }) => ipv4).join(' '),
  lockingModes: (vm) => vm.vifs.map(({ lockingMode }) => lockingMode ?? 'network_default').join(' '),
  image: (vm, texts) => texts.place(vm.image),
  args: (vm, texts) => texts.place(vm.args),
};

/** Rows made in one go: some tens of microseconds of work. */
const rowsAPiece = 64;

/** The JSON of a Listing (plugin-types.ts), in pieces. `names`: only the VMs with these names or uuids, those there are, each once. */
export function* listingPieces(
  api: Api,
  columns: readonly ListColumn[],
  names: readonly string[] | undefined,
): Generator<string> {
  const texts = new Texts();
  const chosen = columns.map((column) => cells[column]);
  yield `{"token":${JSON.stringify(api.events.token())},"columns":${JSON.stringify(columns)},"rows":[`;
  let rows: (string | number)[][] = [];
  let before = '';
  const piece = (): string => {
    const text = before + JSON.stringify(rows).slice(1, -1);
    rows = [];
    before = ',';
    return text;
  };
  for (const vm of names === undefined ? api.agent.fleet.all() : vmsCalled(api, names)) {
    rows.push(chosen.map((cell) => cell(vm, texts)));
    if (rows.length === rowsAPiece) yield piece();
  }
  if (rows.length > 0) yield piece();
  yield `],"texts":${JSON.stringify(texts.all)}}`;
}

function vmsCalled(api: Api, names: readonly string[]): Set<Vm> {
  const { fleet } = api.agent;
  const vms = names.map((name) => fleet.named(name) ?? fleet.get(name));
  return new Set(vms.filter((vm) => vm !== undefined));
}
