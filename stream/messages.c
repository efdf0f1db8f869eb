/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control frames' payloads, encode beside decode.
 *
 * A decoder reads all fixed fields through one cursor, then bounds the lengths
 * they announce, then takes the rest; it looks at nothing behind the payload
 * and leaves nothing of it unread.  Pure; any thread.
 */
#include "config.h"

#include "stream/messages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "base/memory.h"
#include "stream/messages_impl.h"
#include "stream/text.h"

/* The NUL-terminated rest of a name or text that was bounded before. */
static bool take_text(struct cursor *c, uint32_t length, char *out)
{
	const uint8_t *p = cursor_take(c, length);

	if (!p || !text_printable(p, length))
		return false;
	memcpy(out, p, length);
	out[length] = '\0';
	return true;
}

struct frame_buf *hello_encode(const struct hello *h)
{
	size_t name_length = strnlen(h->host, WIRE_NAME_MAX);
	struct cursor c;
	struct frame_buf *b = message_new(
		WIRE_HELLO, 0, sizeof(struct wire_hello) + name_length, &c);

	if (!b)
		return NULL;
	cursor_put_bytes(&c, WIRE_MAGIC, sizeof(WIRE_MAGIC) - 1);
	cursor_put_u16(&c, h->version);
	cursor_put_u16(&c, (uint16_t)h->role);
	cursor_put_u32(&c, h->payload_max);
	cursor_put_u32(&c, h->inflight_max);
	cursor_put_u32(&c, h->heartbeat_us);
	cursor_put_u64(&c, h->features);
	cursor_put_u64(&c, h->session);
	cursor_put_u32(&c, (uint32_t)name_length);
	cursor_put_u32(&c, 0);
	cursor_put_bytes(&c, h->host, name_length);
	return b;
}

static int hello_check(const struct hello *h, const char **why)
{
	if (h->role != WIRE_ROLE_PRIMARY && h->role != WIRE_ROLE_SECONDARY)
		return refuse(why, "HELLO of an unknown role");
	if (h->payload_max < WIRE_PAYLOAD_MAX)
		return refuse(why, "HELLO with too small a payload limit");
	if (!h->inflight_max || h->inflight_max > WIRE_INFLIGHT_MAX)
		return refuse(why, "HELLO with a bad number of epochs");
	if (!h->heartbeat_us)
		return refuse(why, "HELLO without a heartbeat");
	return 0;
}

int hello_decode(const struct frame *f, struct hello *h, const char **why)
{
	struct cursor c = cursor_over(f->payload, f->length);
	uint8_t magic[sizeof(WIRE_MAGIC) - 1];
	uint32_t name_length;
	uint32_t reserved;

	cursor_get_bytes(&c, magic, sizeof(magic));
	*h = (struct hello){ .version = cursor_get_u16(&c) };
	if (c.bad || memcmp(magic, WIRE_MAGIC, sizeof(magic)))
		return refuse(why, "HELLO without the magic");
	if (h->version != WIRE_VERSION) {
		*why = "HELLO of another version of the protocol";
		return -EPROTONOSUPPORT;
	}
	h->role = cursor_get_u16(&c);
	h->payload_max = cursor_get_u32(&c);
	h->inflight_max = cursor_get_u32(&c);
	h->heartbeat_us = cursor_get_u32(&c);
	h->features = cursor_get_u64(&c);
	h->session = cursor_get_u64(&c);
	name_length = cursor_get_u32(&c);
	reserved = cursor_get_u32(&c);
	if (c.bad || name_length > WIRE_NAME_MAX ||
	    name_length != cursor_left(&c))
		return refuse(why, "HELLO of a wrong length");
	if (reserved)
		return refuse(why, "HELLO with a reserved field set");
	if (!take_text(&c, name_length, h->host))
		return refuse(why, "HELLO with an unprintable name");
	return hello_check(h, why);
}

struct frame_buf *domain_encode(const struct guest_description *d)
{
	size_t name_length = strnlen(d->name, WIRE_NAME_MAX);
	struct frame_buf *b;
	struct cursor c;

	if (d->config_length > WIRE_CONFIG_MAX)
		return NULL;
	b = message_new(WIRE_DOMAIN, 0,
			sizeof(struct wire_domain) + name_length +
				d->config_length,
			&c);
	if (!b)
		return NULL;
	cursor_put_u16(&c, (uint16_t)d->kind);
	cursor_put_u16(&c, 0);
	cursor_put_u32(&c, 0);
	cursor_put_u64(&c, d->ram_bytes);
	cursor_put_u64(&c, d->max_gfn);
	cursor_put_bytes(&c, d->uuid, sizeof(d->uuid));
	cursor_put_u32(&c, (uint32_t)name_length);
	cursor_put_u32(&c, (uint32_t)d->config_length);
	cursor_put_bytes(&c, d->name, name_length);
	cursor_put_bytes(&c, d->config, d->config_length);
	return b;
}

static int domain_check(const struct guest_description *d, const char **why)
{
	if (d->max_gfn > WIRE_GFN_MAX)
		return refuse(why, "DOMAIN with too large a gfn");
	if (!d->ram_bytes ||
	    d->ram_bytes > (WIRE_GFN_MAX + 1) * WIRE_PAGE_BYTES)
		return refuse(why, "DOMAIN with a bad size of memory");
	return 0;
}

int domain_decode(const struct frame *f, struct guest_description *d,
		  const char **why)
{
	struct cursor c = cursor_over(f->payload, f->length);
	AUTO_FREE char *config = NULL;
	uint32_t config_length;
	uint32_t name_length;
	uint32_t reserved;
	int err;

	*d = (struct guest_description){ .kind = cursor_get_u16(&c) };
	reserved = cursor_get_u16(&c);
	reserved |= cursor_get_u32(&c);
	d->ram_bytes = cursor_get_u64(&c);
	d->max_gfn = cursor_get_u64(&c);
	cursor_get_bytes(&c, d->uuid, sizeof(d->uuid));
	name_length = cursor_get_u32(&c);
	config_length = cursor_get_u32(&c);
	if (c.bad || name_length > WIRE_NAME_MAX ||
	    config_length > WIRE_CONFIG_MAX ||
	    name_length + config_length != cursor_left(&c))
		return refuse(why, "DOMAIN of a wrong length");
	if (reserved)
		return refuse(why, "DOMAIN with a reserved field set");
	if (!name_length || !take_text(&c, name_length, d->name))
		return refuse(why, "DOMAIN with an unprintable name");
	if (memchr(c.at, '\0', config_length))
		return refuse(why, "DOMAIN with a NUL in its configuration");
	err = domain_check(d, why);
	if (err)
		return err;
	config = memory_new((size_t)config_length + 1);
	if (!config) {
		*why = "no memory for the guest's configuration";
		return -ENOMEM;
	}
	cursor_get_bytes(&c, config, config_length);
	config[config_length] = '\0';
	d->config_length = config_length;
	d->config = TAKE_PTR(config);
	return 0;
}

void guest_description_fini(struct guest_description *d)
{
	free(d->config);
	d->config = NULL;
	d->config_length = 0;
}

struct frame_buf *image_end_encode(const struct wire_image_end *e)
{
	struct cursor c;
	struct frame_buf *b = message_new(WIRE_IMAGE_END, 0, sizeof(*e), &c);

	if (!b)
		return NULL;
	cursor_put_u64(&c, e->bytes);
	cursor_put_u64(&c, e->checksum);
	cursor_put_u64(&c, e->disk_bytes);
	cursor_put_u64(&c, e->disk_checksum);
	return b;
}

int image_end_decode(const struct frame *f, struct wire_image_end *e,
		     const char **why)
{
	struct cursor c = cursor_over(f->payload, f->length);

	e->bytes = cursor_get_u64(&c);
	e->checksum = cursor_get_u64(&c);
	e->disk_bytes = cursor_get_u64(&c);
	e->disk_checksum = cursor_get_u64(&c);
	if (c.bad || cursor_left(&c))
		return refuse(why, "IMAGE_END of a wrong length");
	return 0;
}

struct frame_buf *epoch_end_encode(uint64_t epoch,
				   const struct wire_epoch_end *e)
{
	struct cursor c;
	struct frame_buf *b =
		message_new(WIRE_EPOCH_END, epoch, sizeof(*e), &c);

	if (!b)
		return NULL;
	cursor_put_u64(&c, e->pages);
	cursor_put_u64(&c, e->bytes);
	cursor_put_u64(&c, e->checksum);
	return b;
}

int epoch_end_decode(const struct frame *f, struct wire_epoch_end *e,
		     const char **why)
{
	struct cursor c = cursor_over(f->payload, f->length);

	e->pages = cursor_get_u64(&c);
	e->bytes = cursor_get_u64(&c);
	e->checksum = cursor_get_u64(&c);
	if (c.bad || cursor_left(&c))
		return refuse(why, "EPOCH_END of a wrong length");
	return 0;
}

struct frame_buf *ack_encode(uint64_t epoch, uint64_t applied)
{
	struct cursor c;
	struct frame_buf *b =
		message_new(WIRE_ACK, epoch, sizeof(struct wire_ack), &c);

	if (!b)
		return NULL;
	cursor_put_u64(&c, applied);
	return b;
}

int ack_decode(const struct frame *f, struct wire_ack *a, const char **why)
{
	struct cursor c = cursor_over(f->payload, f->length);

	a->applied = cursor_get_u64(&c);
	if (c.bad || cursor_left(&c))
		return refuse(why, "ACK of a wrong length");
	if (a->applied > f->epoch)
		return refuse(why, "ACK of less than is applied");
	return 0;
}

struct frame_buf *bye_encode(enum wire_reason reason, const char *text)
{
	uint8_t clean[WIRE_TEXT_MAX];
	size_t length = text ? text_clean(text, clean, sizeof(clean)) : 0;
	struct cursor c;
	struct frame_buf *b =
		message_new(WIRE_BYE, 0, sizeof(struct wire_bye) + length, &c);

	if (!b)
		return NULL;
	cursor_put_u32(&c, (uint32_t)reason);
	cursor_put_u32(&c, (uint32_t)length);
	cursor_put_bytes(&c, clean, length);
	return b;
}

int bye_decode(const struct frame *f, struct bye *b, const char **why)
{
	struct cursor c = cursor_over(f->payload, f->length);
	uint32_t text_length;

	*b = (struct bye){ .reason = cursor_get_u32(&c) };
	text_length = cursor_get_u32(&c);
	if (c.bad || text_length > WIRE_TEXT_MAX ||
	    text_length != cursor_left(&c))
		return refuse(why, "BYE of a wrong length");
	if (!take_text(&c, text_length, b->text))
		return refuse(why, "BYE with an unprintable text");
	return 0;
}

static const struct {
	const char *name;
	const char *text;
} reasons[] = {
#define X(number, name, text) [number] = { #name, text },
	WIRE_REASONS(X)
#undef X
};

const char *wire_reason_text(enum wire_reason reason)
{
	if ((size_t)reason < sizeof(reasons) / sizeof(reasons[0]))
		return reasons[reason].text;
	return "unknown reason";
}

const char *wire_reason_name(enum wire_reason reason)
{
	if ((size_t)reason < sizeof(reasons) / sizeof(reasons[0]))
		return reasons[reason].name;
	return "?";
}
