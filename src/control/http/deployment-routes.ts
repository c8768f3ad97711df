/** Git's smart HTTP below /git/deploy.git, and what the deployment repository says, as JSON. */
import { servicePattern, tenantPattern } from '../../model/service.ts';
import { ShoalError } from '../../model/errors.ts';
import type { DeploymentService } from '../deployment/service.ts';
import { changers, mustSee, readers, type Call, type Context, type Route } from './route.ts';

const need = ({ deployment }: Context): DeploymentService => {
  if (deployment === undefined) throw new ShoalError('NOT_FOUND', 'This controller has no deployment repository.', { hint: 'Give its configuration a "deployment".' });
  return deployment;
};

const root = '/git/deploy.git';

async function serve(context: Context, { actor, request, reply, query }: Call, service: 'git-upload-pack' | 'git-receive-pack', path: string): Promise<unknown> {
  const of = need(context);
  if (service === 'git-receive-pack' && of.remote !== undefined)
    throw new ShoalError('CONFLICT', 'The deployment repository is fetched from another git host.', { hint: 'Push there; a webhook or the next poll brings it here.' });
  const done = await of.turns[service].take();
  // A push from its first byte: packing waits.
  const leave = service === 'git-receive-pack' && request.method === 'POST' ? await of.deployment.guard.enter() : () => {};
  try {
    const answer = await of.backend.run(
      {
        raw: request.raw,
        path,
        query: typeof query['service'] === 'string' ? `service=${query['service']}` : '',
        pusher: { id: actor.id, role: actor.role, tenant: actor.tenant },
        from: request.ip,
      },
      () => {
        leave();
        done();
        if (service === 'git-receive-pack') of.deployment.poke();
      },
    );
    return reply.code(answer.status).headers(answer.headers).send(answer.body);
  } catch (error) {
    leave();
    done();
    throw error;
  }
}

const post = (service: 'git-upload-pack' | 'git-receive-pack', summary: string): Route => ({
  method: 'POST',
  path: `${root}/${service}`,
  summary,
  who: changers,
  raw: true,
  answers: { status: 200, what: "Git's own." },
  run: (context, call) => serve(context, call, service, `/${service}`),
});

const which = { tenant: { type: 'string', pattern: tenantPattern }, service: { type: 'string', pattern: servicePattern } };

export const deploymentRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: `${root}/info/refs`,
    summary: "Git's smart HTTP: clone, fetch and push, with a token as the password of Basic auth. Whoever may push may read all of the repository.",
    who: changers,
    query: { service: { enum: ['git-upload-pack', 'git-receive-pack'] } },
    raw: true,
    answers: { status: 200, what: "Git's own." },
    run: (context, call) => serve(context, call, call.query['service'] === 'git-receive-pack' ? 'git-receive-pack' : 'git-upload-pack', '/info/refs'),
  },
  post('git-upload-pack', "Git's fetch."),
  post('git-receive-pack', "Git's push; refused commits are told on standard error with every reason."),
  {
    method: 'POST',
    path: '/git/webhook',
    summary: 'A git host says that there is something to fetch. Signed with the secret both know (X-Hub-Signature-256, X-Gitea-Signature, X-Forgejo-Signature, or X-Gitlab-Token).',
    who: 'anyone',
    keepsBytes: true,
    answers: { status: 202, what: 'It is fetched soon.' },
    run: (context, { bytes, request }) => {
      const { remote } = need(context);
      if (remote === undefined || bytes === undefined || !remote.isGenuine(bytes, request.headers)) throw new ShoalError('TOKEN_INVALID', 'The webhook is not signed with the secret.', { hint: 'Give the git host the secret of the file "webhookSecretFile".' });
      remote.poke();
      return { fetching: true };
    },
  },
  {
    method: 'GET',
    path: '/v1/deployment',
    summary: 'The deployment repository: the commit that was accepted, and what is wrong with what came after.',
    who: readers,
    answers: { status: 200, what: 'Its state.' },
    run: (context) => {
      const { deployment, remote } = need(context);
      const status = deployment.status();
      const trouble = remote?.trouble;
      return {
        path: root,
        ...status,
        ...(trouble === undefined ? {} : { trouble: { code: trouble.code, message: trouble.message, hint: trouble.hint, ...trouble.data } }),
      };
    },
  },
  {
    method: 'GET',
    path: '/v1/deployment/services/:tenant/:service',
    summary: 'What the repository says of one service, and how its rollout stands.',
    who: readers,
    params: which,
    answers: { status: 200, what: 'Commit, release, rollout.' },
    run: (context, { actor, params }) => {
      const [tenant, service] = [params['tenant']!, params['service']!];
      mustSee(actor, tenant, `service ${tenant}/${service}`);
      const found = need(context).deployment.service(tenant, service);
      if (found === undefined) throw new ShoalError('NOT_FOUND', `The deployment repository has no service ${tenant}/${service}.`);
      return found;
    },
  },
  {
    method: 'GET',
    path: '/v1/deployment/releases/:tenant/:service',
    summary: 'Every release the history has of a service, or those built from a source commit that begins so; newest first.',
    who: readers,
    params: which,
    query: { commit: { type: 'string', pattern: '^[0-9a-f]{4,64}$' } },
    answers: { status: 200, what: 'A list.' },
    run: async (context, { actor, params, query }) => {
      const [tenant, service] = [params['tenant']!, params['service']!];
      mustSee(actor, tenant, `service ${tenant}/${service}`);
      const { deployment } = need(context);
      return { items: await deployment.releasesByCommit((query['commit'] as string | undefined) ?? '', tenant, service) };
    },
  },
  {
    method: 'POST',
    path: '/v1/deployment/releases/:tenant/:service/:counter/image',
    summary: 'Makes the image of a release bootable: out of the history, when no service runs it.',
    who: changers,
    params: { ...which, counter: { type: 'integer', minimum: 1 } },
    answers: { status: 200, what: 'Its digest.' },
    run: async (context, { actor, params }) => {
      const [tenant, service, counter] = [params['tenant']!, params['service']!, Number(params['counter'])];
      const what = `release ${counter} of ${tenant}/${service}`;
      mustSee(actor, tenant, what);
      const { deployment } = need(context);
      const release = (await deployment.releasesByCommit('', tenant, service)).find((each) => each.counter === counter);
      if (release === undefined) throw new ShoalError('NOT_FOUND', `There is no ${what}.`);
      return { digest: await deployment.ensureImage(release) };
    },
  },
];
