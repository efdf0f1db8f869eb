/* SPDX-License-Identifier: Apache-2.0 */
/* What account-clients says at its end, as a sentence or as JSON. */
#ifndef ACCOUNT_REPORT_H
#define ACCOUNT_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "tests/account/client.h"
#include "tests/account/verify.h"

/* Everything that must hold does. */
bool report_good(const struct clients *all, const struct verdict *v, int err);

/* `err`: what verify() returned. */
void report_text(FILE *out, const struct clients *all, const struct verdict *v,
		 int err);
void report_json(FILE *out, const struct clients *all, const struct verdict *v,
		 int err);
void report_outages(FILE *out, const struct outages *o);

#endif
