/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/account/report.h"

#include <errno.h>
#include <inttypes.h>

bool report_good(const struct clients *all, const struct verdict *v, int err)
{
	/* A run in which nothing was promised has shown nothing. */
	return !err && verdict_good(v) && !all->refused && !all->nonsense &&
	       all->record->acknowledged;
}

static void more(FILE *out, uint64_t count, const char *what)
{
	if (count)
		fprintf(out, ", %" PRIu64 " %s", count, what);
}

void report_text(FILE *out, const struct clients *all, const struct verdict *v,
		 int err)
{
	fprintf(out, "%" PRIu64 " transactions acknowledged",
		all->record->acknowledged);
	if (err)
		fprintf(out,
			", the chain cannot be read behind %" PRIu64 ": %s",
			v->chain,
			err == -ETIMEDOUT ? "the ledger does not answer"
					  : "the ledger answers nonsense");
	else
		fprintf(out, ", %" PRIu64 " lost", v->lost);
	fprintf(out, ", %" PRIu64 " duplicated", v->duplicated);
	more(out, v->changed, "changed");
	more(out, v->invented, "never sent");
	more(out, v->gaps, "gaps");
	more(out, all->refused, "clients refused");
	more(out, all->nonsense, "answers without sense");
	if (!err && v->broken)
		fprintf(out, ", chain of %" PRIu64 " BROKEN %" PRIu64 " times",
			v->chain, v->broken);
	else if (!err)
		fprintf(out, ", chain of %" PRIu64 " verified", v->chain);
	if (!err && !v->sum_agrees)
		fprintf(out, ", the sum is WRONG");
	if (!err && !v->disk_agrees)
		fprintf(out, ", the disk DIFFERS");
	fprintf(out, ", service back after %" PRIu64 " ms\n",
		all->outages.longest_us / 1000);
}

void report_json(FILE *out, const struct clients *all, const struct verdict *v,
		 int err)
{
	const struct outages *o = &all->outages;
	size_t i;

	fprintf(out, "{\"good\":%s,\"acknowledged\":%" PRIu64,
		report_good(all, v, err) ? "true" : "false",
		all->record->acknowledged);
#define NUMBER(key, value) fprintf(out, ",\"" key "\":%" PRIu64, (value))
	NUMBER("lost", v->lost);
	NUMBER("duplicated", v->duplicated);
	NUMBER("changed", v->changed);
	NUMBER("never_sent", v->invented);
	NUMBER("gaps", v->gaps);
	NUMBER("broken", v->broken);
	NUMBER("chain", v->chain);
	NUMBER("refused", all->refused);
	NUMBER("nonsense", all->nonsense);
	NUMBER("connections", all->connections);
	NUMBER("longest_us", o->longest_us);
#undef NUMBER
	fprintf(out,
		",\"read\":%s,\"sum_agrees\":%s,\"disk_agrees\":%s,"
		"\"outages\":[",
		err ? "false" : "true", v->sum_agrees ? "true" : "false",
		v->disk_agrees ? "true" : "false");
	for (i = 0; i < o->count; i++)
		fprintf(out,
			"%s{\"at_us\":%" PRIu64 ",\"length_us\":%" PRIu64 "}",
			i ? "," : "", o->list[i].at_us, o->list[i].length_us);
	fprintf(out, "]}\n");
}

void report_outages(FILE *out, const struct outages *o)
{
	size_t i;

	for (i = 0; i < o->count; i++)
		fprintf(out, "at %.3f s: silent for %" PRIu64 " ms\n",
			(double)o->list[i].at_us / 1e6,
			o->list[i].length_us / 1000);
}
