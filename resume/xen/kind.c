/* SPDX-License-Identifier: Apache-2.0 */
/* The Xen domain among the kinds of guests. */
#include "config.h"

#include "resume/xen/kind.h"

const struct guest_kind guest_xen = {
	.prefix = "xen:",
	.name = guest_plain_name,
	.source = &guest_xen_source,
	.standby = &guest_xen_standby,
	.probe = xen_probe,
	.examine = xen_examine,
};
