/** The controller killed at each step of a rollout: whatever was kept last, the next one brings it to the same end. */
import test from 'tape';
import { actedStories, playAtEach, stories, type Harm } from './rollout-stories.ts';

/** The n-th write is the last that is kept, or the first that is not. */
function killed(at: number, keepsLast: boolean): Harm {
  let death: Promise<void> | undefined;
  return {
    what: `killed at ${at}, ${keepsLast ? 'kept' : 'lost'}`,
    arm: (rig, store, again) => {
      store.dieAt = at;
      store.keepsLast = keepsLast;
      store.onDeath = () => {
        death = new Promise((resolve, reject) =>
          setImmediate(() => {
            void (async () => {
              store.dead = false;
              store.dieAt = Infinity;
              await rig.crash();
              // Whoever reads the repository asks again at every start.
              await again();
            })().then(resolve, reject);
          }),
        );
      };
    },
    over: () => death,
  };
}

for (const story of [...stories, ...actedStories])
  test(`killed at each step: ${story.what}`, async (t) => {
    const { writes, broken } = await playAtEach(story, (at) => [killed(at, true), killed(at, false)]);
    t.ok(writes >= 5, `${writes} steps`);
    t.deepEqual(broken, [], 'the same end, and nothing double on the way');
  });
