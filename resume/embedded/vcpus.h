/* SPDX-License-Identifier: Apache-2.0 */
/* The COLOD_VCPUS record, colod-stream(7): the state of an embedded guest. */
#ifndef RESUME_EMBEDDED_VCPUS_H
#define RESUME_EMBEDDED_VCPUS_H

#include <stddef.h>
#include <stdint.h>

#include "resume/embedded/control.h"

uint32_t vcpus_record_bytes(uint32_t count);
/* `body` has room for vcpus_record_bytes(count). */
void vcpus_encode(const struct embedded_vcpu *vcpu, uint32_t count,
		  uint8_t *body);
/* For a guest of just `count`; -EPROTO where it is not a record of such. */
int vcpus_decode(const uint8_t *body, size_t length, struct embedded_vcpu *vcpu,
		 uint32_t count);

#endif
