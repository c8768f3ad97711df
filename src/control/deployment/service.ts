/** The deployment side of the controller put together: repository, git over HTTP, remote; what the API's routes speak to. */
import { Backend, Turns } from './backend.ts';
import { Deployment, type DeploymentOptions } from './deployment.ts';
import { Remote, type RemoteOptions } from './remote.ts';

export interface DeploymentSettings extends Omit<DeploymentOptions, 'store' | 'rollouts' | 'onHosts'> {
  remote?: Pick<RemoteOptions, 'url' | 'pollMs' | 'token' | 'webhookSecret'> | undefined;
}

const most = { pushes: 4, fetches: 8, waiting: 64 };

export class DeploymentService {
  readonly deployment: Deployment;
  readonly backend: Backend;
  readonly remote: Remote | undefined;
  readonly turns = { 'git-receive-pack': new Turns(most.pushes, most.waiting), 'git-upload-pack': new Turns(most.fetches, most.waiting) };

  private constructor(deployment: Deployment, remote: Remote | undefined) {
    this.deployment = deployment;
    this.backend = new Backend(deployment.repository);
    this.remote = remote;
  }

  static async open(options: DeploymentOptions & Pick<DeploymentSettings, 'remote'>): Promise<DeploymentService> {
    const deployment = await Deployment.open(options);
    const { remote, receive, log } = options;
    return new DeploymentService(deployment, remote === undefined ? undefined : new Remote({ ...remote, receive, deployment, log }));
  }

  async close(): Promise<void> {
    this.backend.close();
    await this.remote?.close();
    await this.deployment.close();
  }
}
