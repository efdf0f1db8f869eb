/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The result of a bench as a picture: every epoch's pause and acknowledgement
 * over its dirty pages, and the limits as lines.  Both axes are logarithmic.
 * Plain SVG on a white ground, so that it reads in dark viewers too.
 */
#include "config.h"

#include "bench/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	WIDTH = 960,
	HEIGHT = 600,
	LEFT = 84,
	RIGHT = 250, /* the legend's */
	TOP = 64,
	BOTTOM = 64,
	DOTS_MAX = 400, /* of one kind, of one workload */
};

#define VALUE_MAX 1e13

struct axis {
	int from, to; /* powers of ten */
	double at, length;
};

struct plot {
	FILE *out;
	const struct bench *b;
	struct axis x, y;
};

static const struct series {
	enum bench_figure figure;
	size_t limit; /* in struct bench_limits */
	const char *colour;
	const char *words, *limit_words;
} series[] = {
	{ BENCH_paused_us, offsetof(struct bench_limits, copy_us), "#0b62a8",
	  "pause of the guest", "the pages only copied" },
	{ BENCH_ack_us, offsetof(struct bench_limits, wire_us), "#c4480c",
	  "resumed to acknowledged", "the pages raw over TLS" },
};

enum { SERIES = sizeof(series) / sizeof(series[0]) };

static double limit(const struct bench_result *r, const struct series *s)
{
	return *(const double *)(const void *)((const char *)&r->limits +
					       s->limit);
}

/* From what is measured, a page or a microsecond, to what has a name. */
static double drawable(double value)
{
	return value < 1 ? 1 : value > VALUE_MAX ? VALUE_MAX : value;
}

static double place(const struct axis *a, double value)
{
	value = drawable(value);
	return a->at + a->length * (log10(value) - a->from) / (a->to - a->from);
}

/* --- axes ----------------------------------------------------------------- */

static void widen(struct axis *a, double value)
{
	int below = (int)floor(log10(drawable(value))), above = below + 1;

	if (a->to == a->from) {
		a->from = below;
		a->to = above;
	}
	if (below < a->from)
		a->from = below;
	if (above > a->to)
		a->to = above;
}

static void find_ranges(struct plot *p)
{
	size_t i, k, s;

	for (i = 0; i < p->b->done; i++) {
		const struct bench_result *r = &p->b->results[i];

		for (k = 0; k < r->samples.count; k++) {
			const uint64_t *f = r->samples.at[k].figure;

			widen(&p->x, (double)f[BENCH_dirty_pages]);
			for (s = 0; s < SERIES; s++)
				widen(&p->y, (double)f[series[s].figure]);
		}
		for (s = 0; s < SERIES; s++)
			widen(&p->y, limit(r, &series[s]));
	}
	p->x.at = LEFT;
	p->x.length = WIDTH - LEFT - RIGHT;
	p->y.at = HEIGHT - BOTTOM;
	p->y.length = -(HEIGHT - TOP - BOTTOM);
}

static void text(const struct plot *p, double x, double y, const char *more,
		 const char *words)
{
	fprintf(p->out, "<text x=\"%.1f\" y=\"%.1f\"%s>", x, y, more);
	for (; *words; words++)
		switch (*words) {
		case '<':
			fputs("&lt;", p->out);
			break;
		case '&':
			fputs("&amp;", p->out);
			break;
		default:
			/* The words of a workload come from its user. */
			if (*words >= ' ' && *words < 127)
				fputc(*words, p->out);
		}
	fputs("</text>\n", p->out);
}

static void line(const struct plot *p, double x1, double y1, double x2,
		 double y2, const char *colour)
{
	fprintf(p->out,
		"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
		"stroke=\"%s\"/>\n",
		x1, y1, x2, y2, colour);
}

static void x_axis(const struct plot *p)
{
	static const char *const unit[] = { "", "k", "M", "G", "T" };
	char label[16];
	int d, k;

	for (d = p->x.from; d <= p->x.to; d++) {
		double x = place(&p->x, pow(10, d));

		line(p, x, TOP, x, HEIGHT - BOTTOM, "#c8c8c8");
		snprintf(label, sizeof(label), "%d%s", (int)pow(10, d % 3),
			 unit[d / 3]);
		text(p, x, HEIGHT - BOTTOM + 18, " text-anchor=\"middle\"",
		     label);
		for (k = 2; k < 10 && d < p->x.to; k++) {
			x = place(&p->x, k * pow(10, d));
			line(p, x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM - 5,
			     "#555555");
		}
	}
	text(p, p->x.at + p->x.length / 2, HEIGHT - 20,
	     " text-anchor=\"middle\"", "dirty pages in the epoch (4 KiB)");
}

static void y_axis(const struct plot *p)
{
	static const char *const unit[] = { "us", "ms", "s", "ks", "Ms" };
	char label[16];
	int d, k;

	for (d = p->y.from; d <= p->y.to; d++) {
		double y = place(&p->y, pow(10, d));

		line(p, LEFT, y, WIDTH - RIGHT, y, "#c8c8c8");
		snprintf(label, sizeof(label), "%d %s", (int)pow(10, d % 3),
			 unit[d / 3]);
		text(p, LEFT - 8, y + 4, " text-anchor=\"end\"", label);
		for (k = 2; k < 10 && d < p->y.to; k++) {
			y = place(&p->y, k * pow(10, d));
			line(p, LEFT, y, LEFT + 5, y, "#555555");
		}
	}
	fprintf(p->out,
		"<text transform=\"translate(22 %d) rotate(-90)\" "
		"text-anchor=\"middle\">time</text>\n",
		(TOP + HEIGHT - BOTTOM) / 2);
	fprintf(p->out,
		"<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" "
		"fill=\"none\" stroke=\"#333333\"/>\n",
		LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
}

/* --- what was measured ---------------------------------------------------- */

/* A pattern of writing has a shape. */
static void dot(const struct plot *p, const char *pattern, double x, double y)
{
	if (pattern[0] == 's')
		fprintf(p->out,
			"<rect x=\"%.1f\" y=\"%.1f\" width=\"5\" "
			"height=\"5\"/>\n",
			x - 2.5, y - 2.5);
	else if (pattern[0] == 'h')
		fprintf(p->out, "<path d=\"M%.1f %.1fl3.4 6h-6.8z\"/>\n", x,
			y - 4);
	else
		fprintf(p->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.7\"/>\n",
			x, y);
}

static void dots(const struct plot *p, const struct series *s)
{
	size_t i, k, step;

	fprintf(p->out, "<g fill=\"%s\" fill-opacity=\"0.4\">\n", s->colour);
	for (i = 0; i < p->b->done; i++) {
		const struct bench_result *r = &p->b->results[i];

		step = r->samples.count / DOTS_MAX + 1;
		for (k = 0; k < r->samples.count; k += step) {
			const uint64_t *f = r->samples.at[k].figure;

			dot(p, r->workload.pattern,
			    place(&p->x, (double)f[BENCH_dirty_pages]),
			    place(&p->y, (double)f[s->figure]));
		}
	}
	fputs("</g>\n", p->out);
}

static int by_pages(const void *a, const void *b)
{
	const struct bench_result *const *x = a, *const *y = b;

	return ((*x)->limits.pages > (*y)->limits.pages) -
	       ((*x)->limits.pages < (*y)->limits.pages);
}

/* From one workload's number of pages to the next, a cross at each. */
static void limits(const struct plot *p, const struct series *s)
{
	const struct bench_result *sorted[BENCH_WORKLOADS_MAX];
	size_t i;

	for (i = 0; i < p->b->done; i++)
		sorted[i] = &p->b->results[i];
	qsort(sorted, p->b->done, sizeof(sorted[0]), by_pages);
	fprintf(p->out,
		"<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" d=\"",
		s->colour);
	for (i = 0; i < p->b->done; i++)
		fprintf(p->out, "%c%.1f %.1f", i ? 'L' : 'M',
			place(&p->x, (double)sorted[i]->limits.pages),
			place(&p->y, limit(sorted[i], s)));
	for (i = 0; i < p->b->done; i++)
		fprintf(p->out, "M%.1f %.1fm-5 -5l10 10m0 -10l-10 10",
			place(&p->x, (double)sorted[i]->limits.pages),
			place(&p->y, limit(sorted[i], s)));
	fputs("\"/>\n", p->out);
}

static void legend(const struct plot *p)
{
	static const char *const patterns[] = { "random", "sequential", "hot" };
	double x = WIDTH - RIGHT + 24, y = TOP + 12;
	size_t i;

	for (i = 0; i < SERIES; i++, y += 58) {
		fprintf(p->out, "<g fill=\"%s\">\n", series[i].colour);
		dot(p, "random", x + 12, y - 4);
		fputs("</g>\n", p->out);
		text(p, x + 34, y, "", series[i].words);
		fprintf(p->out,
			"<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" "
			"d=\"M%.1f %.1fh24m-17 -5l10 10m0 -10l-10 10\"/>\n",
			series[i].colour, x, y + 18);
		text(p, x + 34, y + 22, "", series[i].limit_words);
	}
	y += 10;
	for (i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++, y += 20) {
		fputs("<g fill=\"#555555\">\n", p->out);
		dot(p, patterns[i], x + 12, y - 4);
		fputs("</g>\n", p->out);
		text(p, x + 34, y, "", patterns[i]);
	}
}

void bench_plot(const struct bench *b, FILE *out)
{
	struct plot p = { .out = out, .b = b };
	char words[128];

	find_ranges(&p);
	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
		"height=\"%d\" viewBox=\"0 0 %d %d\" "
		"font-family=\"sans-serif\" font-size=\"13\" "
		"fill=\"#222222\">\n"
		"<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n",
		WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
	text(&p, LEFT, 28, " font-size=\"17\"",
	     "A checkpoint by the pages that it carries");
	snprintf(words, sizeof(words),
		 "both hosts on one machine, congestion control %s; a dot is "
		 "an epoch",
		 b->congestion);
	text(&p, LEFT, 48, " fill=\"#555555\"", words);
	x_axis(&p);
	y_axis(&p);
	dots(&p, &series[1]);
	dots(&p, &series[0]);
	limits(&p, &series[0]);
	limits(&p, &series[1]);
	legend(&p);
	fputs("</svg>\n", out);
}
