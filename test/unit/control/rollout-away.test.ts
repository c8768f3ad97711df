/** An agent killed at each step of a rollout: what it was asked and did not answer is found out, and the rollout comes to the same end. */
import test from 'tape';
import { actedStories, playAtEach, stories, type Harm } from './rollout-stories.ts';

/** Its answers are lost from the n-th write on; it is back after so long, with the VMs it had. */
function away(at: number, host: string, ms: number): Harm {
  let back: Promise<void> | undefined;
  return {
    what: `${host} is away at ${at} for ${ms} ms`,
    extra: ms > 200 ? 2 : 0,
    arm: (rig, store) => {
      store.at = at;
      store.reached = () => {
        const killed = rig.hosts.get(host)!;
        // What was asked is done meanwhile, and nobody hears of it.
        setImmediate(() => killed.disconnect());
        back = new Promise((resolve) => setTimeout(() => (killed.connect(), resolve()), ms));
      };
    },
    over: () => back,
  };
}

// The canary's host and, in turn, the other one; shorter and longer than the controller is patient (200 ms).
for (const story of stories)
  test(`an agent killed at each step: ${story.what}`, async (t) => {
    const { writes, broken } = await playAtEach(story, (at) => [away(at, 'a', 30), away(at, 'b', story.spec === undefined ? 300 : 30)]);
    t.ok(writes >= 5, `${writes} steps`);
    t.deepEqual(broken, [], 'the same end, and nothing double on the way');
  });

for (const story of actedStories)
  test(`an agent killed at each step: ${story.what}`, async (t) => {
    const { broken } = await playAtEach(story, (at) => [away(at, at % 2 === 0 ? 'a' : 'b', 30)]);
    t.deepEqual(broken, [], 'the same end, and nothing double on the way');
  });
