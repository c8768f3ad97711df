/** A controller with a deployment repository, in this process, and a working copy that pushes to it over HTTPS. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Desired } from '../../../src/model/desired.ts';
import type { RolloutControl, RolloutStatus } from '../../../src/control/deployment/port.ts';
import type { DeploymentSettings } from '../../../src/control/deployment/service.ts';
import { DesiredReader } from '../../../src/desired/desired.ts';
import { ImageStore } from '../../../src/image/store.ts';
import { parseKernel } from '../../../src/image/elf.ts';
import type { Digest } from '../../../src/model/ids.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeApi, type ApiRig } from '../control/api-rig.ts';
import { Repo } from '../desired/rig.ts';

/** Remembers what it was given, and says what the test wants said. */
export class FakeRollouts implements RolloutControl {
  begun: Desired[] = [];
  fail: Error | undefined;
  answers = new Map<string, RolloutStatus>();

  async begin(desired: Desired): Promise<void> {
    if (this.fail !== undefined) throw this.fail;
    this.begun.push(desired);
  }

  status(tenant: string, service: string): RolloutStatus | undefined {
    return this.answers.get(`${tenant}/${service}`);
  }
}

export interface DeployRig {
  repo: Repo;
  api: ApiRig;
  rollouts: FakeRollouts;
  images: ImageStore;
  url(): string;
  /** Git speaks with this token from now on. */
  as(token: string): void;
  /** Until what was pushed was looked at. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

export async function makeDeployment(more: Partial<DeploymentSettings> = {}, direct = false): Promise<DeployRig> {
  const repo = await Repo.open();
  const images = await ImageStore.open(join(repo.folder, 'images'), { parse: parseKernel });
  const rollouts = new FakeRollouts();
  const log: string[] = [];
  const kept = {
    list: () => images.list(),
    put: async (digest: string, chunks: AsyncIterable<Uint8Array>) => void (await images.put(digest as Digest, chunks)),
    bytes: async (digest: string) => (images.has(digest as Digest) ? images.bytes(digest as Digest) : undefined),
  };
  const base = { ...(await repo.options()), images: kept, log: (line: string) => log.push(line) };
  const options = { images: kept, ...(direct ? {} : { rollouts: () => rollouts }) };
  // A reader a controller: closing one closes the other.
  const api = await makeApi(['host0'], {
    ...options,
    get deployment() {
      return { ...base, reader: new DesiredReader(repo.bare), ...more };
    },
  } as object);
  const ca = join(repo.folder, 'ca.pem');
  await writeFile(ca, cert);
  const rig: DeployRig = {
    repo,
    api,
    rollouts,
    images,
    url: () => `https://localhost:${api.controller.server.port}/git/deploy.git`,
    as: (token) =>
      repo.with({
        GIT_SSL_CAINFO: ca,
        GIT_CONFIG_COUNT: '1',
        GIT_CONFIG_KEY_0: 'http.extraHeader',
        GIT_CONFIG_VALUE_0: `Authorization: Basic ${Buffer.from(`x:${token}`).toString('base64')}`,
      }),
    settled: () => api.controller.deployment!.deployment.settled(),
    close: async () => {
      await api.close();
      await repo.close();
    },
  };
  rig.as(api.token);
  return rig;
}
