/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/embedded/kind.h"

#include "resume/embedded/spec.h"

const struct guest_kind guest_embedded = {
	.prefix = "embedded:",
	.name = embedded_name,
	.source = &guest_embedded_source,
	.standby = &guest_embedded_standby,
	.probe = embedded_probe,
};
