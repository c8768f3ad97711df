/** Who is signed in: a token in this tab's session storage, and nothing else of it anywhere. */
import { Api } from './api.ts';
import { signInPage } from './page-sign-in.ts';
import { Shell } from './shell.ts';
import { themeButton } from './theme.ts';
import type { Who } from './types.ts';

const key = 'shoal.token';
let shell: Shell | undefined;

function leave(words: string): void {
  sessionStorage.removeItem(key);
  shell?.close();
  shell = undefined;
  for (const dialog of document.querySelectorAll('dialog')) dialog.remove();
  document.title = 'Sign in · Shoal';
  document.body.replaceChildren(signInPage(words, enter));
  document.getElementById('token')?.focus();
}

const refused = (): void => {
  if (shell !== undefined) leave('Your token is not taken any more: it has expired or was ended. Sign in with another one.');
};

/** Rejects with a Problem when the token is not taken. */
async function enter(token: string): Promise<void> {
  const api = new Api(token, refused);
  const who = await api.get<Who>('/v1/whoami');
  sessionStorage.setItem(key, token);
  shell?.close();
  shell = new Shell(api, who, () => leave(''));
  document.body.replaceChildren(shell.element);
  shell.open();
}

themeButton(() => {});
const kept = sessionStorage.getItem(key);
if (kept === null) leave('');
else
  enter(kept).catch((error: { status?: number; message?: string; hint?: string }) => {
    if (error.status === 401) leave('Your token is not taken any more: it has expired or was ended. Sign in with another one.');
    else {
      // The token may be good: it is kept for the next try.
      leave(`${error.message ?? 'The controller cannot be reached.'} ${error.hint ?? ''}`);
      sessionStorage.setItem(key, kept);
    }
  });
