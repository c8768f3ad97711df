/** What the API answers, as far as the console reads it. A test holds these shapes against the controller's own. */

export type VmState = 'asked' | 'busy' | 'running' | 'paused' | 'halted' | 'failed';

export interface Vm {
  id: string;
  name: string;
  uuid?: string;
  host: string;
  state: string;
  ready: boolean;
  memoryKib: number;
  addresses: string[];
  /** It is no service's. */
  foreign: boolean;
  tenant?: string;
  service?: string;
  slot?: number;
  revision?: string;
  since?: string;
  drift?: string;
  hostAway?: boolean;
}

export interface Service {
  id: string;
  spec: {
    tenant: string;
    name: string;
    image: string;
    count: number;
    memoryKib: number;
    args: string;
    networks: { name: string; addresses: { from: string } }[];
    health: { kind: string };
    placement: { strategy: string; required: boolean; labels: Record<string, string> };
    update: { maxAtOnce: number; order: string };
  };
  /** Digest; '' when no release has the name. */
  image: string;
  revision: string;
  deleting: boolean;
  created: string;
  changed: string;
  copies: { wanted: number; ready: number; serving: number; starting: number; waiting: number; total: number };
  notes: { slot: number; text: string }[];
}

export interface Host {
  id: string;
  url: string;
  state: string;
  awaySince?: string;
  error?: { code: string; message: string; hint: string };
  drained: boolean;
  labels: Record<string, string>;
  version: string;
  cpuCount: number;
  totalKib: number;
  freeKib: number;
  vms: number;
  vifs: number;
  maxVifs: number;
  queued: number;
  networks: string[];
  shortfalls: string[];
}

export interface Task {
  id: string;
  kind: string;
  subject: string;
  tenant?: string;
  status: string;
  progress: number;
  detail: string;
  created: string;
  ended?: string;
}

export interface Rollout {
  id: string;
  phase: string;
  release: { counter: number; image: string; source: string; revision: string };
  good?: { counter: number; image: string; source: string; revision: string };
  mode: string;
  /** 0: the canary. */
  wave: number;
  waves: { copies: number; ready: number; begun: boolean }[];
  failures: number;
  failuresAllowed: number;
  reason: string;
  entries: { number: number; at: string; event: string; phase: string; wave: number; release: number; text: string }[];
}

export interface Note {
  service: string;
  slot: number;
  text: string;
  at: string;
}

export interface Who {
  id: string;
  role: string;
  tenant?: string;
  version: string;
  fleet: string;
}

export interface Counters {
  rxFrames: number;
  rxBytes: number;
  txFrames: number;
  txBytes: number;
  rxDropped: number;
  txDropped: number;
}

export interface Metrics {
  at: string;
  memoryKib: number;
  vifs: { network: string; address: string; counters?: Counters }[];
}

export interface Change {
  kind: string;
  op: 'put' | 'del';
  key: string;
  data?: unknown;
}

export interface Lists {
  vms: Vm[];
  services: Service[];
  hosts: Host[];
  tasks: Task[];
  rollouts: Rollout[];
}
