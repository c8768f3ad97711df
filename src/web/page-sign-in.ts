/** Where a token is given. It stays with this tab, and ends with it. */
import { h, setText, show } from './dom.ts';
import { problemOf } from './problem.ts';

/** `enter` rejects with a Problem when the token is not taken. */
export function signInPage(words: string, enter: (token: string) => Promise<void>): HTMLElement {
  const input = h('input', {
    type: 'password',
    id: 'token',
    name: 'token',
    autocomplete: 'off',
    autocapitalize: 'off',
    spellcheck: 'false',
    required: true,
    maxlength: 200,
    placeholder: 'shoal_…',
    'aria-describedby': 'token-help',
  });
  const send = h('button.primary', { type: 'submit' }, 'Sign in');
  const trouble = h('p.trouble', { role: 'alert', hidden: words === '' }, words);
  const form = h(
    'form',
    {
      onsubmit: (event: SubmitEvent) => {
        event.preventDefault();
        send.disabled = true;
        enter(input.value.trim())
          .catch((error: unknown) => {
            const problem = problemOf(error);
            setText(trouble, problem.status === 401 ? 'This token is wrong, or it has expired.' : `${problem.message} ${problem.hint}`);
            show(trouble, true);
            input.select();
          })
          .finally(() => (send.disabled = false));
      },
    },
    h('label', { for: 'token' }, 'Token'),
    input,
    trouble,
    send,
    h('p', { id: 'token-help' }, "The first operator's token is in the file operator.token of the controller's state folder; others are made with ", h('code', {}, 'shoal token make'), '.'),
  );
  return h('main.sign-in', { id: 'main' }, h('div.card', {}, h('h1', {}, h('img', { src: 'icon.svg', alt: '' }), 'Shoal'), form));
}
