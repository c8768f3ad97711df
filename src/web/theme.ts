/** Light or dark: as the system says, until someone says otherwise on this machine. */
import { h, setText } from './dom.ts';

const key = 'shoal.theme';
const choices = ['system', 'light', 'dark'] as const;
type Choice = (typeof choices)[number];

function kept(): Choice {
  try {
    const value = localStorage.getItem(key);
    return choices.find((each) => each === value) ?? 'system';
  } catch {
    return 'system';
  }
}

function apply(choice: Choice): void {
  if (choice === 'system') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = choice;
}

/** A button that goes from one to the next. `changed` is called when the colours did. */
export function themeButton(changed: () => void): HTMLButtonElement {
  let choice = kept();
  const element = h('button.quiet', {
    type: 'button',
    onclick: () => {
      choice = choices[(choices.indexOf(choice) + 1) % choices.length]!;
      try {
        localStorage.setItem(key, choice);
      } catch {
        // It holds for this page.
      }
      show();
      changed();
    },
  });
  const show = (): void => {
    apply(choice);
    setText(element, choice === 'system' ? 'Auto' : choice === 'light' ? 'Light' : 'Dark');
    element.setAttribute('aria-label', `Colours: ${choice}. Change.`);
    element.title = `Colours: ${choice}`;
  };
  show();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
  return element;
}
