#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decodes one direction of a colod connection, as colod-stream(7) has it.

Usage: decode.py < STREAM

Written from the manual page and sharing nothing with stream/: where the two
disagree, one of them or the page is wrong.  Prints a line for each frame,
behind each EPOCH_END the pages, records and changes of disks of the epoch, and
behind IMAGE_END the changes before.  Ends with status 1 at the first violation,
which it names.

Needs the zstd command, and libxxhash for the checksums: the standard library
has neither.
"""

import ctypes
import functools
import re
import struct
import subprocess
import sys

PAYLOAD_MAX = 262144
PIECE_MAX = 262136
PAGE_BYTES = 4096
BATCH_PAGES = 1024
DELTAS_MAX = 2
NAME_MAX = 255
CONFIG_MAX = 131072
TEXT_MAX = 255
STATE_MAX = 4194304
INFLIGHT_MAX = 16
GFN_MAX = 4294967295
SLACK_PAGES = 256
DISKS_MAX = 16
DISK_NAME_MAX = 48
DISK_BLOCKS_MAX = 4096
DISK_BLOCK_BYTES = 65536
DISK_HASH_BYTES = 16
DISK_SIZE_MAX = 1 << 44
CHANGE_MAX = 131072
OPTIONAL = 0x8000

# number: (name, longest payload, who sends it, does it belong to an epoch)
TYPES = {
    1: ("HELLO", 1024, "both", False),
    2: ("DOMAIN", 132096, "primary", False),
    3: ("IMAGE", 262144, "primary", False),
    4: ("IMAGE_END", 32, "primary", False),
    5: ("EPOCH_BEGIN", 0, "primary", True),
    6: ("PAGES", 262144, "primary", True),
    7: ("STATE", 262144, "primary", True),
    8: ("EPOCH_END", 24, "primary", True),
    9: ("ACK", 8, "secondary", True),
    10: ("HEARTBEAT", 0, "both", False),
    11: ("BYE", 263, "both", False),
    12: ("DISKS", 4096, "primary", False),
    13: ("DISKS_TAKEN", 128, "secondary", False),
    14: ("DISK_MARKS", 1024, "secondary", False),
    15: ("DISK_ASK", 1024, "primary", False),
    16: ("DISK_HASHES", 262144, "secondary", False),
    17: ("DISK", 262144, "primary", True),
}
ROLES = {1: "primary", 2: "secondary"}
REASONS = {
    0: "ENDED", 1: "POWEROFF", 2: "REBOOT", 3: "CRASH", 4: "VERSION",
    5: "BUSY", 6: "PROTOCOL", 7: "LIMIT", 8: "NO_RESOURCES",
    9: "FAILED_OVER", 10: "REFUSED", 11: "IMAGE_FAILED", 12: "RESYNC",
}
HVM_CONTEXT = 0x00000009
COLOD_ADDRESSES = 0x80000C01
COLOD_VCPUS = 0x80000C02


class Violation(Exception):
    """The stream is not what the manual page says."""


def require(condition, what):
    if not condition:
        raise Violation(what)


@functools.lru_cache(maxsize=None)
def xxhash_library():
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits.restype = ctypes.c_uint64
    library.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return library


def xxh3(data):
    data = bytes(data)
    return xxhash_library().XXH3_64bits(data, len(data))


class Reader:
    """Reads fields one after the other; running out is a violation."""

    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def take(self, length):
        require(len(self.data) - self.at >= length, self.what + ": too short")
        self.at += length
        return self.data[self.at - length:self.at]

    def integers(self, layout):
        return struct.unpack("<" + layout, self.take(struct.calcsize(
            "<" + layout)))

    def left(self):
        return len(self.data) - self.at

    def end(self):
        require(self.left() == 0, self.what + ": too long")


def printable(data, what):
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Violation(what + ": not UTF-8") from None
    for c in map(ord, text):
        require(not (c <= 0x1f or 0x7f <= c <= 0x9f or
                     0x200e <= c <= 0x200f or 0x2028 <= c <= 0x202e or
                     0x2066 <= c <= 0x2069), what + ": unprintable")
    return text


def check_zstd_frame(body):
    """One frame of RFC 8878 (3.1.1); the bytes that it says it holds."""
    r = Reader(body, "zstd frame")
    magic, descriptor = r.integers("IB")
    require(magic == 0xFD2FB528, "zstd frame: magic")
    single = descriptor >> 5 & 1
    require(not descriptor & 0x08, "zstd frame: reserved bit")
    if not single:
        r.take(1)
    dictionary = r.take((0, 1, 2, 4)[descriptor & 3])
    require(not any(dictionary), "zstd frame: needs a dictionary")
    length = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    require(length, "zstd frame: no content size")
    content = int.from_bytes(r.take(length), "little")
    content += 256 if length == 2 else 0
    last = False
    while not last:
        block = int.from_bytes(r.take(3), "little")
        last, kind, length = block & 1, block >> 1 & 3, block >> 3
        require(kind != 3, "zstd frame: block type")
        r.take(1 if kind == 1 else length)
    if descriptor & 4:
        r.take(4)
    r.end()
    return content


@functools.lru_cache(maxsize=None)
def unzstd(body, most):
    size = check_zstd_frame(body)
    require(1 <= size <= most, "zstd frame: content size")
    done = subprocess.run(["zstd", "-dcq"], input=body, capture_output=True,
                          check=False)
    require(done.returncode == 0, "zstd frame: does not decode")
    require(len(done.stdout) == size, "zstd frame: length")
    return done.stdout


class Decoder:
    """What is known of a connection after some of its frames."""

    def __init__(self, out):
        self.out = out
        self.sequence = 0
        self.role = None
        self.phase = "HELLO"
        self.epoch = 0
        self.max_gfn = self.ram_pages = 0
        self.memory = {}  # the pages of all epochs that have ended
        self.image = bytearray()
        self.acknowledged = None
        self.sizes = None  # of the disks, behind DISKS
        self.payloads = bytearray()  # of the epoch, or in front of the image's end
        self.changes = []  # not printed yet
        self.marked = []  # the disk of each DISK_MARKS
        self.taken = None  # their flags, behind DISKS_TAKEN

    # -- frames

    def header(self, data):
        kind, flags, length, epoch, sequence = Reader(
            data, "header").integers("HHIQQ")
        require(kind in TYPES or kind & OPTIONAL,
                "unknown mandatory type %d" % kind)
        name, limit, _, in_epoch = TYPES.get(
            kind, ("optional", PAYLOAD_MAX, "both", True))
        require(flags == 0, name + ": flags are reserved")
        require(length <= limit, name + ": longer than its type allows")
        require(sequence == self.sequence, name + ": out of sequence")
        require(in_epoch or epoch == 0, name + ": epoch is reserved")
        return kind, name, length, epoch

    def frame(self, kind, name, epoch, payload):
        sender = TYPES[kind][2] if kind in TYPES else "both"
        require(self.phase != "BYE", name + ": after BYE")
        require((name == "HELLO") == (self.phase == "HELLO"),
                name + ": HELLO is the first frame, once")
        require(sender in ("both", self.role), name + ": of the wrong side")
        words = ""
        if kind in TYPES:
            words = getattr(self, "on_" + name.lower())(payload, epoch) or ""
        print(("%d %s epoch=%d %s" % (self.sequence, name, epoch,
                                      words)).rstrip(), file=self.out)
        if name == "EPOCH_END":
            self.print_epoch()
        if name in ("IMAGE_END", "EPOCH_END"):
            self.print_changes()
        self.sequence += 1

    def move(self, name, allowed, to):
        require(self.phase in allowed,
                "%s: may not follow %s" % (name, self.phase))
        self.phase = to

    # -- one method for each type

    def on_hello(self, payload, _):
        r = Reader(payload, "HELLO")
        require(r.take(8) == b"COLOD\r\n\x1a", "HELLO: magic")
        version, = r.integers("H")
        require(version == 7, "HELLO: version %d" % version)
        role, payload_max, inflight, heartbeat = r.integers("HIII")
        features, session, name_length, reserved = r.integers("QQII")
        require(role in ROLES, "HELLO: role")
        require(payload_max >= PAYLOAD_MAX, "HELLO: payload_max")
        require(1 <= inflight <= INFLIGHT_MAX, "HELLO: inflight_max")
        require(heartbeat > 0, "HELLO: heartbeat_us")
        require(name_length <= NAME_MAX, "HELLO: name_length")
        require(reserved == 0, "HELLO: reserved")
        name = printable(r.take(name_length), "HELLO: name")
        r.end()
        self.role = ROLES[role]
        self.phase = "greeted"
        return ("role=%s payload_max=%d inflight_max=%d heartbeat_us=%d "
                "features=%#x session=%#x name=%s" % (
                    self.role, payload_max, inflight, heartbeat, features,
                    session, name))

    def on_domain(self, payload, _):
        self.move("DOMAIN", ("greeted",), "DOMAIN")
        r = Reader(payload, "DOMAIN")
        kind, reserved0, reserved1, ram, max_gfn = r.integers("HHIQQ")
        uuid = r.take(16)
        name_length, config_length = r.integers("II")
        require(kind in (1, 2, 3, 4), "DOMAIN: kind")
        require(reserved0 == 0 and reserved1 == 0, "DOMAIN: reserved")
        require(1 <= ram <= 1 << 44, "DOMAIN: ram_bytes")
        require(max_gfn <= GFN_MAX, "DOMAIN: max_gfn")
        require(1 <= name_length <= NAME_MAX, "DOMAIN: name_length")
        require(config_length <= CONFIG_MAX, "DOMAIN: config_length")
        name = printable(r.take(name_length), "DOMAIN: name")
        config = r.take(config_length)
        require(0 not in config, "DOMAIN: NUL in the configuration")
        r.end()
        self.embedded, self.deltas = kind == 2, kind != 4
        self.max_gfn, self.ram_pages = max_gfn, ram // PAGE_BYTES
        return ("kind=%d ram_bytes=%d max_gfn=%#x uuid=%s name=%s "
                "config=%016x" % (kind, ram, max_gfn, uuid.hex(), name,
                                  xxh3(config)))

    def on_image(self, payload, _):
        self.move("IMAGE", ("DOMAIN", "IMAGE"), "IMAGE")
        piece, words = self.read_piece(payload, "IMAGE")
        self.image += piece
        return words

    @staticmethod
    def read_piece(payload, name):
        r = Reader(payload, name)
        length, encoding = r.integers("II")
        require(1 <= length <= PIECE_MAX, name + ": length")
        require(encoding in (0, 1), name + ": encoding")
        piece = r.take(r.left())
        if encoding == 1:
            piece = unzstd(bytes(piece), length)
        require(len(piece) == length, name + ": length of the piece")
        return piece, "length=%d encoding=%s" % (length,
                                                 ("raw", "zstd")[encoding])

    def on_image_end(self, payload, _):
        self.move("IMAGE_END", ("DOMAIN", "IMAGE"), "between epochs")
        r = Reader(payload, "IMAGE_END")
        length, checksum, disk_bytes, disk_checksum = r.integers("QQQQ")
        r.end()
        require(length == len(self.image), "IMAGE_END: bytes")
        require(checksum == xxh3(self.image), "IMAGE_END: checksum")
        require(disk_bytes == len(self.payloads), "IMAGE_END: disk_bytes")
        require(disk_checksum == (disk_bytes and xxh3(self.payloads)),
                "IMAGE_END: disk_checksum")
        return "bytes=%d" % length

    def on_epoch_begin(self, payload, epoch):
        self.move("EPOCH_BEGIN", ("between epochs",), "PAGES")
        require(epoch == self.epoch + 1, "EPOCH_BEGIN: number")
        self.epoch = epoch
        self.entries, self.pages = 0, {}
        self.whole, self.deltas_of = set(), {}
        self.state, self.payloads = bytearray(), bytearray()

    def on_pages(self, payload, epoch):
        self.move("PAGES", ("PAGES",), "PAGES")
        require(epoch == self.epoch, "PAGES: epoch")
        r = Reader(payload, "PAGES")
        count, encoding = r.integers("II")
        require(1 <= count <= BATCH_PAGES, "PAGES: count")
        entries = r.integers("%dQ" % count)
        for entry in entries:
            require(entry >> 56 in (0, 1, 2), "PAGES: kind of page")
            require(entry >> 32 & 0xffffff == 0, "PAGES: reserved bits")
            require(entry & 0xffffffff <= self.max_gfn, "PAGES: gfn")
        body = r.take(r.left())
        require(encoding in (0, 1), "PAGES: encoding")
        if encoding == 1:
            body = unzstd(bytes(body), PAYLOAD_MAX)
        bodies = Reader(body, "PAGES: bodies")
        deltas = [self.read_delta(bodies) for entry in entries
                  if entry >> 56 == 2]
        for entry in entries:
            gfn, kind = entry & 0xffffffff, entry >> 56
            if kind == 2:
                self.pages[gfn] = self.changed(gfn, deltas.pop(0))
                continue
            self.whole.add(gfn)
            self.pages[gfn] = (bodies.take(PAGE_BYTES) if kind == 0 else
                               bytes(PAGE_BYTES))
        bodies.end()
        require(len(self.pages) <= self.ram_pages + SLACK_PAGES,
                "PAGES: more than the guest has")
        self.entries += count
        self.payloads += payload
        kinds = [sum(entry >> 56 == kind for entry in entries)
                 for kind in (0, 2)]
        return "count=%d data=%d delta=%d encoding=%s" % (
            count, *kinds, ("raw", "zstd")[encoding])

    @staticmethod
    def read_delta(r):
        """The new words, by their place in the page."""
        at = r.at
        lines, = r.integers("Q")
        places = []
        for line in (i for i in range(64) if lines >> i & 1):
            mask, = r.integers("B")
            require(mask, "PAGES: a line of a delta without words")
            places += [8 * line + j for j in range(8) if mask >> j & 1]
        require(places, "PAGES: an empty delta")
        words = {place: r.take(8) for place in places}
        require(r.at - at < PAGE_BYTES, "PAGES: a delta as long as its page")
        return words

    def changed(self, gfn, words):
        require(self.deltas, "PAGES: a delta, of this kind of guest")
        before = self.pages.get(gfn, self.memory.get(gfn))
        require(before, "PAGES: a delta of what never came")
        if gfn not in self.whole:
            self.deltas_of[gfn] = self.deltas_of.get(gfn, 0) + 1
            require(self.deltas_of[gfn] <= DELTAS_MAX,
                    "PAGES: too many deltas of a page")
        page = bytearray(before)
        for place, word in words.items():
            page[8 * place:8 * place + 8] = word
        return bytes(page)

    def on_state(self, payload, epoch):
        self.move("STATE", ("PAGES", "STATE"), "STATE")
        require(epoch == self.epoch, "STATE: epoch")
        require(payload, "STATE: empty")
        self.state += payload
        require(len(self.state) <= STATE_MAX, "STATE: too much")
        self.payloads += payload
        return "length=%d" % len(payload)

    def on_epoch_end(self, payload, epoch):
        self.move("EPOCH_END", ("PAGES", "STATE"), "between epochs")
        require(epoch == self.epoch, "EPOCH_END: epoch")
        r = Reader(payload, "EPOCH_END")
        pages, length, checksum = r.integers("QQQ")
        r.end()
        require(pages == self.entries, "EPOCH_END: pages")
        require(length == len(self.payloads), "EPOCH_END: bytes")
        require(checksum == xxh3(self.payloads), "EPOCH_END: checksum")
        self.records = list(self.read_records())
        self.memory.update(self.pages)
        return "pages=%d" % pages

    def on_ack(self, payload, epoch):
        require(not self.marked or self.taken is not None,
                "ACK: DISK_MARKS without DISKS_TAKEN")
        r = Reader(payload, "ACK")
        applied, = r.integers("Q")
        r.end()
        expected = 0 if self.acknowledged is None else self.acknowledged + 1
        require(epoch == expected, "ACK: out of order")
        require(applied <= epoch, "ACK: applied")
        self.acknowledged = epoch
        return "applied=%d" % applied

    def on_heartbeat(self, payload, _):
        pass

    def on_bye(self, payload, _):
        r = Reader(payload, "BYE")
        reason, length = r.integers("II")
        require(length <= TEXT_MAX, "BYE: text_length")
        text = printable(r.take(length), "BYE: text")
        r.end()
        self.phase = "BYE"
        return "reason=%s text=%s" % (REASONS.get(reason, reason), text)

    # -- disks

    def on_disks(self, payload, _):
        self.move("DISKS", ("DOMAIN",), "IMAGE")
        r = Reader(payload, "DISKS")
        new_base, _, count, reserved = r.integers("QQII")
        require(new_base, "DISKS: new_base")
        require(1 <= count <= DISKS_MAX, "DISKS: count")
        require(reserved == 0, "DISKS: reserved")
        self.sizes, names = [], []
        for _ in range(count):
            size, base, flags, name_length = r.integers("QQII")
            require(512 <= size <= DISK_SIZE_MAX and size % 512 == 0,
                    "DISKS: size")
            require(flags in (0, 1), "DISKS: flags")
            require(1 <= name_length <= DISK_NAME_MAX, "DISKS: name_length")
            name = bytes(r.take(name_length)).decode("latin-1")
            require(re.fullmatch("[A-Za-z0-9_][A-Za-z0-9._-]*", name),
                    "DISKS: name")
            require(name not in names, "DISKS: a name twice")
            self.sizes.append(size)
            names.append(name)
        r.end()
        return "new_base=%#x names=%s" % (new_base, ",".join(names))

    def on_disks_taken(self, payload, _):
        require(self.phase == "greeted" and self.acknowledged is None and
                self.taken is None, "DISKS_TAKEN: where none may come")
        r = Reader(payload, "DISKS_TAKEN")
        count, marks = r.integers("II")
        require(1 <= count <= DISKS_MAX, "DISKS_TAKEN: count")
        require(marks == len(self.marked), "DISKS_TAKEN: marks")
        self.taken = r.integers("%dI" % count)
        r.end()
        require(all(flags in (0, 1) for flags in self.taken),
                "DISKS_TAKEN: flags")
        require(all(disk < count and self.taken[disk]
                    for disk in self.marked),
                "DISKS_TAKEN: marks of a disk of another base")
        return "same_base=" + ",".join(map(str, self.taken))

    def read_run(self, r):
        disk, count, first = r.integers("IIQ")
        # The secondary's direction does not say of what size they are.
        sizes = self.sizes or [DISK_SIZE_MAX] * len(
            self.taken or range(DISKS_MAX))
        require(disk < len(sizes), r.what + ": disk")
        require(1 <= count <= DISK_BLOCKS_MAX, r.what + ": count")
        require(first % 64 == 0, r.what + ": first")
        require(first + count <= -(-sizes[disk] // DISK_BLOCK_BYTES),
                r.what + ": behind the end of the disk")
        return disk, count, first

    def read_bits(self, payload, name):
        r = Reader(payload, name)
        disk, count, first = self.read_run(r)
        words = r.integers("%dQ" % (-(-count // 64)))
        r.end()
        bits = sum(word << 64 * i for i, word in enumerate(words))
        require(bits, name + ": no bit is set")
        require(bits >> count == 0, name + ": bits behind the last block")
        return disk, "disk=%d first=%d count=%d blocks=%d" % (
            disk, first, count, bin(bits).count("1"))

    def on_disk_marks(self, payload, _):
        require(self.taken is None and self.acknowledged is None,
                "DISK_MARKS: where none may come")
        disk, words = self.read_bits(payload, "DISK_MARKS")
        self.marked.append(disk)
        return words

    def on_disk_ask(self, payload, _):
        require(self.sizes is not None, "DISK_ASK: without DISKS")
        self.move("DISK_ASK", ("IMAGE",), "IMAGE")
        return self.read_bits(payload, "DISK_ASK")[1]

    def on_disk_hashes(self, payload, _):
        require(self.taken is not None and self.acknowledged is None,
                "DISK_HASHES: where none may come")
        r = Reader(payload, "DISK_HASHES")
        disk, count, first = self.read_run(r)
        r.take(count * DISK_HASH_BYTES)
        r.end()
        return "disk=%d first=%d count=%d" % (disk, first, count)

    def on_disk(self, payload, epoch):
        require(self.sizes is not None, "DISK: without DISKS")
        require(self.phase in ("IMAGE", "PAGES"),
                "DISK: may not follow " + self.phase)
        require(epoch == (self.epoch if self.phase == "PAGES" else 0),
                "DISK: epoch")
        piece, words = self.read_piece(payload, "DISK")
        r = Reader(piece, "DISK: changes")
        while r.left():
            self.changes.append(self.read_change(r))
        self.payloads += payload
        return words

    def read_change(self, r):
        disk, kind, length, offset = r.integers("HHIQ")
        require(disk < len(self.sizes), "DISK: disk")
        require(kind in (1, 2, 3), "DISK: kind")
        require(length and offset + length <= self.sizes[disk],
                "DISK: length")
        require(kind != 1 or length <= CHANGE_MAX, "DISK: data")
        return disk, kind, offset, length, bytes(
            r.take(length if kind == 1 else 0))

    def print_changes(self):
        for disk, kind, offset, length, data in self.changes:
            print("  change disk=%d kind=%d offset=%d length=%d %016x" % (
                disk, kind, offset, length, xxh3(data)), file=self.out)
        self.changes = []

    # -- state

    def read_records(self):
        r = Reader(self.state, "record")
        while r.left():
            kind, length = r.integers("II")
            body = bytes(r.take(length))
            require(not any(r.take(-length % 8)), "record: padding")
            require(kind == HVM_CONTEXT or kind >> 31,
                    "unknown mandatory record %#x" % kind)
            if kind == COLOD_ADDRESSES:
                self.check_addresses(body)
            if kind == COLOD_VCPUS and self.embedded:
                self.check_vcpus(body)
            yield kind, body

    @staticmethod
    def check_vcpus(body):
        r = Reader(body, "COLOD_VCPUS")
        count, registers = r.integers("II")
        require(1 <= count <= 16, "COLOD_VCPUS: count")
        require(registers == 8, "COLOD_VCPUS: registers")
        r.take(count * registers * 8)
        r.end()

    @staticmethod
    def check_addresses(body):
        require(len(body) % 24 == 0 and len(body) <= 32 * 24,
                "COLOD_ADDRESSES: length")
        for at in range(0, len(body), 24):
            family, reserved, ip = body[at + 6], body[at + 7], body[at + 8:
                                                                    at + 24]
            require(family in (4, 6), "COLOD_ADDRESSES: family")
            require(reserved == 0, "COLOD_ADDRESSES: reserved")
            require(family == 6 or not any(ip[4:]),
                    "COLOD_ADDRESSES: reserved bytes of ip")

    def print_epoch(self):
        for gfn in sorted(self.pages):
            print("  page gfn=%#x %016x" % (gfn, xxh3(self.pages[gfn])),
                  file=self.out)
        for kind, body in self.records:
            print("  record type=%#x length=%d %016x" % (
                kind, len(body), xxh3(body)), file=self.out)


def decode(data, out):
    """Raises Violation, or prints what `data` says to `out`."""
    r = Reader(data, "end of the stream in a frame")
    d = Decoder(out)
    while r.left():
        at = r.at
        try:
            kind, name, length, epoch = d.header(r.take(24))
            d.frame(kind, name, epoch, r.take(length))
        except Violation as v:
            raise Violation("frame %d at byte %d: %s" % (d.sequence, at,
                                                         v)) from None
    require(d.phase == "BYE", "the stream ends without BYE")


def main():
    try:
        decode(sys.stdin.buffer.read(), sys.stdout)
    except Violation as v:
        sys.exit("decode.py: %s" % v)


if __name__ == "__main__":
    main()
