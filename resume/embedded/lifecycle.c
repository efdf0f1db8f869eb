/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of an embedded guest that colod no longer has, or that shut
 * down: the rescue after a colod's death, and the ends.
 *
 * Everything that a dead colod may have left is in the control page: a suspend
 * that it waited for, a resume that it had begun (control.h), a request.
 */
#include "config.h"

#include "resume/embedded/source.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

void embedded_let_go(struct embedded *e)
{
	struct embedded_control *c = e->control;
	struct guest_error err = { { 0 } };

	if (embedded_resume_after_death(c))
		log_info("%s was suspended and runs again", c->spec.name);
	embedded_withdraw(e);
	if (embedded_call(e, "disarm", &err) < 0)
		log_warn("%s: switching its tracking off: %s", c->spec.name,
			 err.text);
	c->holder[0] = '\0';
}

int embedded_rescue(const char *words, const char *run_dir,
		    uint64_t patience_us)
{
	struct embedded e;
	int rc = embedded_attach(run_dir, words, false, &e);

	(void)patience_us; /* a late suspend is resumed by the guest's process
			    */
	if (rc < 0)
		return rc;
	if (embedded_held_by_other(&e))
		rc = -EBUSY;
	else
		embedded_let_go(&e);
	embedded_detach(&e);
	return rc;
}

int embedded_after_shutdown(struct embedded *e, bool *again)
{
	const char *name = e->control->spec.name;
	struct guest_error err = { { 0 } };
	enum guest_status status = embedded_status(e);
	int rc;

	*again = false;
	switch (status) {
	case GUEST_GONE:
		return 0;
	case GUEST_RUNNING:
	case GUEST_SUSPENDED:
		return -EBUSY;
	case GUEST_REBOOT:
		rc = embedded_call(e, "restart", &err);
		if (rc < 0)
			log_error("%s: booting it anew: %s", name, err.text);
		*again = rc == 0;
		return rc;
	default:
		log_info("%s %s: its process ends", name,
			 guest_status_text(status));
		return embedded_destroy(e);
	}
}
