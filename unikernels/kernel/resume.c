/* See resume.h. */
#include "resume.h"

static struct resume_hook *hooks;

void resume_listen(struct resume_hook *hook) {
  if (hook->listed) return;
  hook->listed = true;
  hook->next = hooks;
  hooks = hook;
}

void resume_run(bool as_clone) {
  for (struct resume_hook *hook = hooks; hook != NULL; hook = hook->next) hook->resumed(as_clone);
  if (shoal_app.resumed != NULL) shoal_app.resumed(as_clone);
}
