/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire format: numbers, limits and layouts, and nothing else.
 *
 * colod-stream(7) is its specification; tests/stream/ holds an independent
 * decoder, and the three are tested against each other.  All integers are
 * little-endian.  Type numbers are append-only.
 */
#ifndef STREAM_FORMAT_H
#define STREAM_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum {
	WIRE_VERSION = 7,
	WIRE_HEADER_BYTES = 24,
	/* Bulk is cut to this, so that a heartbeat never waits long. */
	WIRE_PAYLOAD_MAX = 256 * 1024,
	/* The most of an image in one IMAGE frame: raw, it still fits. */
	WIRE_PIECE_MAX = WIRE_PAYLOAD_MAX - 8,
	WIRE_PAGE_BYTES = 4096,
	/* Pages in one PAGES frame, most of which are short then. */
	WIRE_BATCH_PAGES = 1024,
	/* Of a page in an epoch that has no body of all of it. */
	WIRE_DELTAS_MAX = 2,
	WIRE_NAME_MAX = 255,
	WIRE_CONFIG_MAX = 128 * 1024,
	WIRE_TEXT_MAX = 255,
	WIRE_STATE_MAX = 4 * 1024 * 1024,
	WIRE_INFLIGHT_MAX = 16,
	WIRE_DISKS_MAX = 16,
	WIRE_DISK_NAME_MAX = 48,
	/* Blocks in one DISK_MARKS, DISK_ASK or DISK_HASHES. */
	WIRE_DISK_BLOCKS_MAX = 4096,
	WIRE_DISK_BLOCK_BYTES = 64 * 1024,
	WIRE_DISK_HASH_BYTES = 16, /* XXH3-128 */
	/* The data of one change. */
	WIRE_CHANGE_MAX = 128 * 1024,
};

/* Largest gfn a peer may speak of: 16 TiB of guest-physical space. */
#define WIRE_GFN_MAX ((UINT64_C(1) << 32) - 1)

#define WIRE_MAGIC "COLOD\r\n\032"

/* An unknown type with this bit is skipped, one without it is an error. */
#define WIRE_OPTIONAL UINT16_C(0x8000)

/* number, name, longest payload */
#define WIRE_TYPES(X)                        \
	X(1, HELLO, 1024)                    \
	X(2, DOMAIN, WIRE_CONFIG_MAX + 1024) \
	X(3, IMAGE, WIRE_PAYLOAD_MAX)        \
	X(4, IMAGE_END, 32)                  \
	X(5, EPOCH_BEGIN, 0)                 \
	X(6, PAGES, WIRE_PAYLOAD_MAX)        \
	X(7, STATE, WIRE_PAYLOAD_MAX)        \
	X(8, EPOCH_END, 24)                  \
	X(9, ACK, 8)                         \
	X(10, HEARTBEAT, 0)                  \
	X(11, BYE, 8 + WIRE_TEXT_MAX)        \
	X(12, DISKS, 4096)                   \
	X(13, DISKS_TAKEN, 128)              \
	X(14, DISK_MARKS, 1024)              \
	X(15, DISK_ASK, 1024)                \
	X(16, DISK_HASHES, WIRE_PAYLOAD_MAX) \
	X(17, DISK, WIRE_PAYLOAD_MAX)

enum wire_type {
#define X(number, name, limit) WIRE_##name = number,
	WIRE_TYPES(X)
#undef X
};

/* Why a side ends the connection on purpose: number, name, words for people. */
#define WIRE_REASONS(X)                                                      \
	X(0, ENDED, "protection ended by the operator")                      \
	X(1, POWEROFF, "the guest powered off")                              \
	X(2, REBOOT, "the guest rebooted")                                   \
	X(3, CRASH, "the guest crashed")                                     \
	X(4, VERSION, "the peer speaks another version of the protocol")     \
	X(5, BUSY, "the secondary already has a primary")                    \
	X(6, PROTOCOL, "the peer violated the protocol")                     \
	X(7, LIMIT, "a limit of the peer was exceeded")                      \
	X(8, NO_RESOURCES, "the peer ran out of memory or disk")             \
	X(9, FAILED_OVER, "the standby has taken over; it runs on the peer") \
	X(10, REFUSED, "the peer refuses this domain")                       \
	X(11, IMAGE_FAILED, "the standby could not be built")                \
	X(12, RESYNC, "the domain has to be synchronised anew")

enum wire_reason {
#define X(number, name, text) WIRE_REASON_##name = number,
	WIRE_REASONS(X)
#undef X
};

/* Who speaks in a HELLO. */
enum wire_role { WIRE_ROLE_PRIMARY = 1, WIRE_ROLE_SECONDARY = 2 };

/* What a standby is made of, in a DOMAIN frame. */
enum wire_guest_kind {
	WIRE_GUEST_XEN_PVH = 1,
	WIRE_GUEST_EMBEDDED = 2,
	WIRE_GUEST_XEN_HVM = 3,
	WIRE_GUEST_XEN_PV = 4
};

/* How the bytes at the end of an IMAGE or PAGES payload are encoded. */
enum wire_encoding { WIRE_ENCODING_RAW = 0, WIRE_ENCODING_ZSTD = 1 };

/*
 * The top byte of a page entry; the low 32 bits are its gfn.  A DELTA is of the
 * version that came last before this epoch (stream/delta.h).
 */
enum wire_page_kind {
	WIRE_PAGE_DATA = 0,
	WIRE_PAGE_ZERO = 1,
	WIRE_PAGE_DELTA = 2
};

/* What a change does to a disk.  What is trimmed may read as anything. */
enum wire_change_kind { CHANGE_WRITE = 1, CHANGE_ZERO = 2, CHANGE_TRIM = 3 };

/*
 * Records in STATE frames.  The numbers below 0x100 are those of Xen's
 * migration stream v2 (libxc migration stream specification, "Records"); our
 * own are optional records in Xen's sense (bit 31).
 */
enum wire_record {
	WIRE_RECORD_HVM_CONTEXT = 0x00000009,
	WIRE_RECORD_COLOD_ADDRESSES = (int)0x80000C01,
	WIRE_RECORD_COLOD_VCPUS = (int)0x80000C02,
	WIRE_RECORD_COLOD_DEVICE_MODEL = (int)0x80000C03,
	WIRE_RECORD_COLOD_PV = (int)0x80000C04,
};

struct wire_header {
	uint16_t type;
	uint16_t flags;	   /* reserved, 0 */
	uint32_t length;   /* of the payload, in bytes */
	uint64_t epoch;	   /* 0 outside an epoch */
	uint64_t sequence; /* counts the frames of this direction, from 0 */
};

struct wire_hello {
	uint8_t magic[8];
	uint16_t version;
	uint16_t role;	       /* enum wire_role */
	uint32_t payload_max;  /* longest payload this side takes, bytes */
	uint32_t inflight_max; /* epochs sent and not yet acknowledged */
	uint32_t heartbeat_us;
	uint64_t features;    /* none defined yet: 0 */
	uint64_t session;     /* random, new for every protection */
	uint32_t name_length; /* of the host name that follows */
	uint32_t reserved;
};

struct wire_domain {
	uint16_t kind; /* enum wire_guest_kind */
	uint16_t reserved0;
	uint32_t reserved1;
	uint64_t ram_bytes;
	uint64_t max_gfn; /* no page of an epoch lies above it */
	uint8_t uuid[16];
	uint32_t name_length; /* the name follows, then the configuration */
	uint32_t config_length;
};

struct wire_image {
	uint32_t length;   /* of the piece, 1..WIRE_PIECE_MAX bytes */
	uint32_t encoding; /* enum wire_encoding of the piece, which follows */
};

struct wire_image_end {
	uint64_t bytes;	   /* of the whole image */
	uint64_t checksum; /* XXH3-64 over it */
	/* Of all DISK payloads in front of it, in order; of none both are 0. */
	uint64_t disk_bytes;
	uint64_t disk_checksum;
};

/*
 * Behind it: uint64_t entries[count]; the bodies of all DELTA entries, then
 * those of all DATA entries, each in order.
 */
struct wire_pages {
	uint32_t count;	   /* entries, 1..WIRE_BATCH_PAGES */
	uint32_t encoding; /* enum wire_encoding of the bodies */
};

struct wire_record_header {
	uint32_t type;	 /* enum wire_record */
	uint32_t length; /* of the body without its padding to 8 */
};

struct wire_epoch_end {
	uint64_t pages;	   /* entries in all PAGES frames of this epoch */
	uint64_t bytes;	   /* of all PAGES, DISK and STATE payloads */
	uint64_t checksum; /* XXH3-64 over those payloads, in order */
};

struct wire_ack {
	uint64_t applied; /* highest epoch already written to the standby */
};

/* `count` times struct wire_disk_offer and its name follow. */
struct wire_disks {
	uint64_t new_base;
	uint64_t seed;
	uint32_t count;
	uint32_t reserved;
};

struct wire_disk_offer {
	uint64_t size;
	uint64_t base;
	uint32_t flags;	      /* WIRE_DISK_ALONE */
	uint32_t name_length; /* the name follows */
};

#define WIRE_DISK_ALONE UINT32_C(1)

struct wire_disks_taken {
	uint32_t count; /* as many uint32_t follow: WIRE_DISK_SAME_BASE or 0 */
	uint32_t marks; /* DISK_MARKS in front of it */
};

#define WIRE_DISK_SAME_BASE UINT32_C(1)

/* Bits follow, in 64-bit words, as many as `count` needs. */
struct wire_disk_blocks {
	uint32_t disk;
	uint32_t count;
	uint64_t first; /* a multiple of 64 */
};

/* `count` times WIRE_DISK_HASH_BYTES follow. */
struct wire_disk_hashes {
	uint32_t disk;
	uint32_t count;
	uint64_t first;
};

/*
 * A DISK payload is a struct wire_image, with the changes as its piece: each of
 * them this, and of a WRITE `length` bytes of data.
 */
struct wire_change {
	uint16_t disk;
	uint16_t kind; /* enum wire_change_kind */
	uint32_t length;
	uint64_t offset;
};

struct wire_bye {
	uint32_t reason;      /* enum wire_reason */
	uint32_t text_length; /* printable text that follows */
};

#define WIRE_AT(type, member, offset) \
	static_assert(offsetof(struct type, member) == (offset), #type)

static_assert(sizeof(struct wire_header) == WIRE_HEADER_BYTES, "header");
WIRE_AT(wire_header, flags, 2);
WIRE_AT(wire_header, length, 4);
WIRE_AT(wire_header, epoch, 8);
WIRE_AT(wire_header, sequence, 16);
static_assert(sizeof(struct wire_hello) == 48, "hello");
WIRE_AT(wire_hello, version, 8);
WIRE_AT(wire_hello, role, 10);
WIRE_AT(wire_hello, payload_max, 12);
WIRE_AT(wire_hello, inflight_max, 16);
WIRE_AT(wire_hello, heartbeat_us, 20);
WIRE_AT(wire_hello, features, 24);
WIRE_AT(wire_hello, session, 32);
WIRE_AT(wire_hello, name_length, 40);
WIRE_AT(wire_hello, reserved, 44);
static_assert(sizeof(struct wire_domain) == 48, "domain");
WIRE_AT(wire_domain, reserved0, 2);
WIRE_AT(wire_domain, reserved1, 4);
WIRE_AT(wire_domain, ram_bytes, 8);
WIRE_AT(wire_domain, max_gfn, 16);
WIRE_AT(wire_domain, uuid, 24);
WIRE_AT(wire_domain, name_length, 40);
WIRE_AT(wire_domain, config_length, 44);
static_assert(sizeof(struct wire_image) == 8, "image");
static_assert(sizeof(struct wire_image_end) == 32, "image end");
WIRE_AT(wire_image_end, checksum, 8);
WIRE_AT(wire_image_end, disk_bytes, 16);
WIRE_AT(wire_image_end, disk_checksum, 24);
static_assert(sizeof(struct wire_pages) == 8, "pages");
WIRE_AT(wire_pages, encoding, 4);
static_assert(sizeof(struct wire_record_header) == 8, "record header");
WIRE_AT(wire_record_header, length, 4);
static_assert(sizeof(struct wire_epoch_end) == 24, "epoch end");
WIRE_AT(wire_epoch_end, bytes, 8);
WIRE_AT(wire_epoch_end, checksum, 16);
static_assert(sizeof(struct wire_ack) == 8, "ack");
static_assert(sizeof(struct wire_bye) == 8, "bye");
WIRE_AT(wire_bye, text_length, 4);
static_assert(sizeof(struct wire_disks) == 24, "disks");
WIRE_AT(wire_disks, seed, 8);
WIRE_AT(wire_disks, count, 16);
static_assert(sizeof(struct wire_disk_offer) == 24, "disk offer");
WIRE_AT(wire_disk_offer, base, 8);
WIRE_AT(wire_disk_offer, flags, 16);
WIRE_AT(wire_disk_offer, name_length, 20);
static_assert(sizeof(struct wire_disks_taken) == 8, "disks taken");
WIRE_AT(wire_disks_taken, marks, 4);
static_assert(sizeof(struct wire_disk_blocks) == 16, "disk blocks");
WIRE_AT(wire_disk_blocks, count, 4);
WIRE_AT(wire_disk_blocks, first, 8);
static_assert(sizeof(struct wire_disk_hashes) == 16, "disk hashes");
WIRE_AT(wire_disk_hashes, count, 4);
WIRE_AT(wire_disk_hashes, first, 8);
static_assert(sizeof(struct wire_change) == 16, "change");
WIRE_AT(wire_change, kind, 2);
WIRE_AT(wire_change, length, 4);
WIRE_AT(wire_change, offset, 8);
#undef WIRE_AT
#endif
