/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/embedded/vcpus.h"

#include <errno.h>

#include "base/cursor.h"

enum { HEAD_BYTES = 8 };

uint32_t vcpus_record_bytes(uint32_t count)
{
	return HEAD_BYTES + count * EMBEDDED_REGISTERS * 8;
}

void vcpus_encode(const struct embedded_vcpu *vcpu, uint32_t count,
		  uint8_t *body)
{
	struct cursor c = cursor_over(body, vcpus_record_bytes(count));

	cursor_put_u32(&c, count);
	cursor_put_u32(&c, EMBEDDED_REGISTERS);
	for (uint32_t i = 0; i < count; i++)
		for (int r = 0; r < EMBEDDED_REGISTERS; r++)
			cursor_put_u64(&c, vcpu[i].reg[r]);
}

int vcpus_decode(const uint8_t *body, size_t length, struct embedded_vcpu *vcpu,
		 uint32_t count)
{
	struct cursor c = cursor_over(body, length);

	if (length != vcpus_record_bytes(count) ||
	    cursor_get_u32(&c) != count ||
	    cursor_get_u32(&c) != EMBEDDED_REGISTERS)
		return -EPROTO;
	for (uint32_t i = 0; i < count; i++)
		for (int r = 0; r < EMBEDDED_REGISTERS; r++)
			vcpu[i].reg[r] = cursor_get_u64(&c);
	return 0;
}
