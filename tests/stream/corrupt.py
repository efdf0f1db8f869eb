#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Spoils a good stream in every way it can think of; decode.py must object.

Usage: corrupt.py primary|secondary < STREAM

Ends with status 1 and names the ways that went unnoticed.
"""

import io
import struct
import subprocess
import sys

import decode

NUMBERS = {row[0]: number for number, row in decode.TYPES.items()}
# Payloads in which most bytes may have any value without being malformed.
FREE = ("HELLO", "DOMAIN", "BYE", "ACK", "optional", "DISKS", "DISKS_TAKEN",
        "DISK_MARKS", "DISK_ASK", "DISK_HASHES")
# What may be any number of times is not missed.
ANY_NUMBER = ("PAGES", "STATE", "DISK", "DISK_ASK", "DISK_HASHES")
# What may stand in any order; DISK with the others of its epoch, or of none.
ANY_ORDER = (("IMAGE", "DISK_ASK", "DISK"), ("PAGES", "DISK"))


class Frame:
    def __init__(self, kind, epoch, payload, flags=0):
        self.kind, self.epoch, self.payload = kind, epoch, payload
        self.flags = flags

    @property
    def name(self):
        return decode.TYPES.get(self.kind, ("optional",))[0]

    @property
    def free(self):
        return self.name in FREE

    def poke(self, at, layout, value):
        body = bytearray(self.payload)
        struct.pack_into("<" + layout, body, at, value)
        return Frame(self.kind, self.epoch, bytes(body))


def split(data):
    frames = []
    while data:
        kind, flags, length, epoch, _ = struct.unpack_from("<HHIQQ", data)
        frames.append(Frame(kind, epoch, data[24:24 + length], flags))
        data = data[24 + length:]
    return frames


def join(frames):
    """With sequence numbers and the sums made to fit, but the image's."""
    out, sums = [], b""
    pages = 0
    for sequence, f in enumerate(frames):
        payload = f.payload
        if f.name == "EPOCH_BEGIN":
            sums, pages = b"", 0
        elif f.name in ("PAGES", "STATE", "DISK"):
            sums += payload
            if f.name == "PAGES":
                pages += int.from_bytes(payload[:4], "little")
        elif f.name == "IMAGE_END" and len(payload) == 32:
            payload = payload[:16] + struct.pack(
                "<QQ", len(sums), decode.xxh3(sums) if sums else 0)
        elif f.name == "EPOCH_END" and len(payload) == 24:
            payload = struct.pack("<QQQ", pages, len(sums), decode.xxh3(sums))
        out.append(struct.pack("<HHIQQ", f.kind, f.flags, len(payload),
                               f.epoch, sequence) + payload)
    return b"".join(out)


def accepted(data):
    try:
        decode.decode(data, io.StringIO())
        return True
    except decode.Violation:
        return False


def dispensable(frames, n):
    """HEARTBEATs, what no sum covers, and the last of what may break off."""
    later = [f.name for f in frames[n + 1:]]
    return frames[n].name in ("HEARTBEAT", "DISK_ASK", "DISK_HASHES") or (
        frames[n].name in ("EPOCH_END", "ACK") and
        "EPOCH_BEGIN" not in later and "ACK" not in later)


def interchangeable(f, g):
    return f.name == g.name or any(
        f.name in names and g.name in names for names in ANY_ORDER)


def flips(data):
    """Every byte of the headers, and a sample of the payloads."""
    at = 0
    frames = split(data)
    for n, f in enumerate(frames):
        where = list(range(24))
        if not f.free:
            length = len(f.payload)
            where += [24 + i for i in range(length)
                      if i < 16 or i >= length - 16 or i % 8191 == 0]
        for i in where:
            # The epoch of an unknown frame is anything, and so is its type
            # as long as it remains one.
            if f.name == "optional" and (8 <= i < 16 or i == 0):
                continue
            for flip in (0x01, 0x80):
                if f.name == "optional" and i == 1 and flip == 0x01:
                    continue
                # With this bit a frame is one to be skipped.
                if dispensable(frames, n) and i == 1 and flip == 0x80:
                    continue
                bad = bytearray(data)
                bad[at + i] ^= flip
                yield "byte %d of frame %d (%s) ^ %#x" % (i, n, f.name,
                                                          flip), bytes(bad)
        at += 24 + len(f.payload)


def cuts(data):
    """Truncation inside and behind each frame, and something at the end."""
    at = 0
    for n, f in enumerate(split(data)):
        for length in (0, 1, 23, 24, 23 + len(f.payload)):
            if at + length and at + length < len(data):
                yield "cut %d bytes into frame %d" % (length, n), data[
                    :at + length]
        at += 24 + len(f.payload)
    yield "a byte behind BYE", data + b"\0"


def orders(frames):
    """Each frame left out, doubled, or exchanged with the next."""
    for n, f in enumerate(frames):
        if f.name in ("HEARTBEAT", "optional"):
            continue
        # The sums are made to fit; that they are compared is for
        # flips().
        if f.name not in ANY_NUMBER:
            if not dispensable(frames, n):
                yield "frame %d (%s) missing" % (n, f.name), join(
                    frames[:n] + frames[n + 1:])
            yield "frame %d (%s) doubled" % (n, f.name), join(
                frames[:n + 1] + frames[n:])
        if n + 1 < len(frames) and frames[n + 1].name not in (
                "HEARTBEAT", "optional") and not interchangeable(
                    f, frames[n + 1]):
            yield "frames %d and %d (%s) exchanged" % (n, n + 1, f.name), join(
                frames[:n] + [frames[n + 1], f] + frames[n + 2:])


def fields(frames):
    """Fields out of their range, in otherwise well-formed streams."""
    cases = {
        "HELLO": [(8, "H", 6), (8, "H", 8), (10, "H", 0), (10, "H", 3),
                  (12, "I", 262143), (16, "I", 0), (16, "I", 17),
                  (20, "I", 0), (40, "I", 256), (44, "I", 1)],
        "IMAGE": [(0, "I", 0), (0, "I", 262135), (0, "I", 262137),
                  (4, "I", 1), (4, "I", 2)],
        # Kind 4 is one that takes no deltas.
        "DOMAIN": [(0, "H", 0), (0, "H", 4), (0, "H", 5), (2, "H", 1),
                   (4, "I", 1), (8, "Q", 0),
                   (8, "Q", (1 << 44) + 1), (16, "Q", 1 << 32),
                   (40, "I", 0), (40, "I", 256), (44, "I", 131073),
                   (48, "B", 10), (-1, "B", 0)],
        "PAGES": [(0, "I", 0), (0, "I", 1025), (4, "I", 2),
                  (8, "Q", 0xff000), (8, "Q", 1 << 32), (8, "Q", 1 << 55),
                  (8, "Q", 3 << 56), (8, "Q", 255 << 56)],
        "BYE": [(4, "I", 256), (4, "I", 0xffffffff)],
        # The sample's disks have 80 blocks and 3 and a part.
        "DISKS": [(0, "Q", 0), (16, "I", 0), (16, "I", 1), (16, "I", 3),
                  (16, "I", 17), (20, "I", 1), (24, "Q", 0), (24, "Q", 256),
                  (24, "Q", 5242881), (24, "Q", (1 << 44) + 512),
                  (40, "I", 2), (40, "I", 1 << 31), (44, "I", 0),
                  (44, "I", 3), (44, "I", 49), (48, "B", 46), (48, "B", 45),
                  (48, "B", 47), (49, "B", 47), (49, "B", 0),
                  (49, "B", 32), (49, "B", 0xe4)],
        "DISKS_TAKEN": [(0, "I", 0), (0, "I", 1), (0, "I", 3), (0, "I", 17),
                        (4, "I", 1), (4, "I", 3), (8, "I", 2), (8, "I", 1 << 31),
                        # Marks have come of this one.
                        (8, "I", 0)],
        "DISK_MARKS": [(0, "I", 1), (0, "I", 16), (4, "I", 0),
                       (4, "I", 4097), (8, "Q", 1), (8, "Q", 1 << 28),
                       (8, "Q", (1 << 64) - 64)],
        "DISK_ASK": [(0, "I", 2), (4, "I", 0), (4, "I", 4097), (8, "Q", 1),
                     (8, "Q", 64), (8, "Q", (1 << 64) - 64)],
        "DISK_HASHES": [(0, "I", 2), (4, "I", 0), (4, "I", 2), (4, "I", 4),
                        (4, "I", 4097), (8, "Q", 1), (8, "Q", 1 << 28)],
        "DISK": [(0, "I", 0), (0, "I", 262137), (4, "I", 2)],
    }
    for n, f in enumerate(frames):
        for at, layout, value in cases.get(f.name, ()):
            at = at if at >= 0 else len(f.payload) + at
            yield "%s: %#x at %d" % (f.name, value, at), join(
                frames[:n] + [f.poke(at, layout, value)] + frames[n + 1:])
        if f.name == "EPOCH_BEGIN":
            for epoch in (0, f.epoch + 1, f.epoch - 1):
                yield "epoch %d as %d" % (f.epoch, epoch), join(
                    [Frame(g.kind, epoch, g.payload)
                     if g.epoch == f.epoch else g for g in frames])


def last_epoch(frames, *inserted):
    """The stream with frames put into its last, empty epoch."""
    n = [f.name for f in frames].index("BYE") - 1
    while frames[n].name != "EPOCH_END":
        n -= 1
    number = frames[n].epoch
    return join(frames[:n] + [Frame(NUMBERS[name], number, payload)
                              for name, payload in inserted] + frames[n:])


def record(kind, body, padding=None):
    padding = bytes(-len(body) % 8) if padding is None else padding
    return struct.pack("<II", kind, len(body)) + body + padding


def pages(entries, bodies=b"", encoding=0):
    """A PAGES payload of (kind, gfn)s."""
    return ("PAGES", struct.pack("<II", len(entries), encoding) + b"".join(
        struct.pack("<Q", kind << 56 | gfn) for kind, gfn in entries) + bodies)


def delta(lines, words):
    """Of the first lines of a page, with so many words."""
    masks, left = b"", words - lines
    for _ in range(lines):
        masks += bytes([(2 << min(left, 7)) - 1])
        left -= min(left, 7)
    return struct.pack("<Q", (1 << lines) - 1) + masks + bytes(8 * words)


def zstd(data):
    return subprocess.run(["zstd", "-qc", "--stream-size=%d" % len(data)],
                          input=data, capture_output=True, check=True).stdout


def deltas(frames):
    """What only a delta can do wrong; of the sample's pages 0 came, 200 not."""
    good = delta(2, 3)
    one = [(2, 0)]
    page = bytes(decode.PAGE_BYTES)

    def spoilt(*inserted):
        return last_epoch(frames, *inserted)

    # The way of making these is sound itself.
    assert accepted(spoilt(pages(one, good)))
    assert accepted(spoilt(pages(one, zstd(good), 1)))
    assert accepted(spoilt(pages(one, delta(63, 503))))
    assert accepted(spoilt(pages([(0, 1), (2, 0)], good + page)))
    assert accepted(spoilt(pages([(0, n) for n in range(64)],
                                 zstd(page * 64), 1)))
    for kind, body in enumerate((page, b"", good)):
        assert accepted(spoilt(pages([(kind, 0), (2, 0)], good + body)))
        assert accepted(spoilt(pages([(kind, 0)], body), pages(one, good)))
    # As many as one likes behind what is no delta, of a new page too.
    for kind, body in enumerate((page, b"")):
        assert accepted(spoilt(pages(
            [(2, 0), (2, 0), (kind, 0)] + 3 * one, 5 * good + body)))
        assert accepted(spoilt(pages([(kind, 200)], body),
                               pages(3 * [(2, 200)], 3 * good)))
    yield "a delta of what never came", spoilt(pages([(2, 200)], good))
    yield "a third delta of a page", spoilt(pages(3 * one, 3 * good))
    yield "a third delta in a payload of its own", spoilt(
        pages(2 * one, 2 * good), pages(one, good))
    yield "a delta of no lines", spoilt(pages(one, bytes(8)))
    yield "a line of no words", spoilt(pages(one, good[:9] + b"\0" +
                                             good[10:-8]))
    for length in (0, 7, 8, 9, len(good) - 1):
        yield "%d bytes of a delta" % length, spoilt(pages(one, good[:length]))
    for more in (1, 8, 4096):
        yield "%d bytes behind a delta" % more, spoilt(
            pages(one, good + bytes(more)))
    yield "a delta as long as its page", spoilt(pages(one, delta(64, 503)))
    yield "a delta of a whole page", spoilt(pages(one, delta(64, 512)))
    yield "a whole page before a delta", spoilt(
        pages([(0, 1), (2, 0)], page + good))
    yield "a delta too many", spoilt(pages(one, good + good))
    yield "a delta too few", spoilt(pages([(2, 0), (2, 1)], good))
    yield "a zstd frame of too much", spoilt(
        pages([(0, n) for n in range(65)], zstd(page * 65), 1))


def contents(frames):
    zero_page = struct.pack("<IIQ", 1, 0, 1 << 56)
    good = record(decode.HVM_CONTEXT, b"cpu")
    address = bytes(6) + b"\x04\0" + b"\x0a\0\0\x01" + bytes(12)
    own = decode.COLOD_ADDRESSES

    # The way of making these is sound itself.
    assert accepted(last_epoch(frames, ("PAGES", zero_page), ("STATE", good)))
    assert accepted(last_epoch(frames, ("STATE", record(own, address * 32))))
    assert accepted(last_epoch(frames, pages([(1, 0)] * 1024)))
    yield "too many entries", last_epoch(frames, pages([(1, 0)] * 1025))
    yield "PAGES behind STATE", last_epoch(frames, ("STATE", good),
                                           ("PAGES", zero_page))
    yield "a zero page with zstd", last_epoch(
        frames, ("PAGES", struct.pack("<IIQ", 1, 1, 1 << 56)))
    yield "a byte behind the bodies", last_epoch(
        frames, ("PAGES", zero_page + b"\0"))
    # The sample guest has 256 pages, and 256 more are allowed.
    yield "too many pages", last_epoch(frames, *(
        ("PAGES", struct.pack("<II", 57, 0) + b"".join(
            struct.pack("<Q", 1 << 56 | batch * 57 + i) for i in range(57)))
        for batch in range(9)))
    for what, state in (
            ("an empty STATE", b""),
            ("half a record header", good[:4]),
            ("half a record body", good[:10]),
            ("a record without its padding", good[:11]),
            ("padding that is not zero",
             record(decode.HVM_CONTEXT, b"cpu", b"\0\0\0\0\1")),
            ("an unknown mandatory record", record(1, b"")),
            ("23 bytes of address", record(own, address[:23])),
            ("too many addresses", record(own, address * 33)),
            ("an address of no family",
             record(own, address[:6] + b"\x05" + address[7:])),
            ("a reserved byte of an address",
             record(own, address[:7] + b"\x01" + address[8:])),
            ("an IPv4 address that is too long",
             record(own, address[:23] + b"\x01"))):
        yield what, last_epoch(frames, ("STATE", state))
    yield "too much state", last_epoch(frames, *(
        [("STATE", struct.pack("<II", decode.HVM_CONTEXT, 16 * 262144) +
          bytes(262136))] + [("STATE", bytes(262144))] * 15 +
        [("STATE", bytes(8))]))


def change(disk=0, kind=1, offset=4096, data=b"data", length=None):
    return struct.pack("<HHIQ", disk, kind, len(data) if length is None
                       else length, offset) + data


def disk(raw, encoding=0):
    return ("DISK", struct.pack("<II", len(raw), encoding) + (
        zstd(raw) if encoding else raw))


def bits(word, count, disk=0, first=0):
    return struct.pack("<IIQ", disk, count, first) + word.to_bytes(
        -(-count // 64) * 8, "little")


def synchronised(frames, *inserted):
    """The stream with frames put in front of its IMAGE_END."""
    n = [f.name for f in frames].index("IMAGE_END")
    return join(frames[:n] + [Frame(NUMBERS[name], 0, payload)
                              for name, payload in inserted] + frames[n:])


def disks(frames):
    """What DISK and DISK_ASK can do wrong, anywhere."""
    good = disk(change())
    most = change(data=bytes(131072))
    end = 80 * 65536
    for where in (synchronised, last_epoch):
        # The way of making these is sound itself.
        for raw in (change(), 3 * change(), most, change(1, 2, 0, b"", 196608),
                    change(0, 3, 0, b"", end), change(0, 1, end - 4)):
            assert accepted(where(frames, disk(raw), disk(raw, 1)))
        for what, raw in (
                ("of no disk", change(2)),
                ("of kind 0", change(kind=0)),
                ("of an unknown kind", change(kind=4)),
                ("that writes nothing", change(data=b"")),
                ("that trims nothing", change(0, 3, 0, b"", 0)),
                ("past the end", change(0, 1, end - 3)),
                ("of zeroes past the end", change(0, 2, end, b"", 1)),
                ("far past the end", change(0, 2, (1 << 64) - 1, b"", 1)),
                ("with too much data", change(data=bytes(131073))),
                ("without all of its data", change()[:-1]),
                ("with a byte behind it", change() + b"\0"),
                ("without all of its header", change()[:15]),
                ("that zeroes, with data", change(kind=2)),
                ("that is cut, behind a good one", change() + change()[:19])):
            for encoding in (0, 1):
                yield "%s: a change %s" % (where.__name__, what), where(
                    frames, disk(raw, encoding))
        yield "%s: a DISK that is empty" % where.__name__, where(
            frames, disk(b""))
        yield "%s: a DISK longer than it says" % where.__name__, where(
            frames, (good[0], good[1] + b"\0"))

    assert accepted(synchronised(frames, ("DISK_ASK", bits(1 << 79, 80))))
    for what, payload in (
            ("of no block", bits(0, 70)),
            ("with a bit behind its last block", bits(1 << 70, 70)),
            ("behind the end", bits(1, 81)),
            ("behind the end of the smaller disk", bits(1, 5, 1)),
            ("with a word too few", bits(1, 64)[:-8]),
            ("with a word too many", bits(1, 64) + bytes(8))):
        yield "DISK_ASK " + what, synchronised(frames, ("DISK_ASK", payload))
    yield "DISK_ASK in an epoch", last_epoch(frames, ("DISK_ASK", bits(1, 64)))
    yield "DISK behind STATE", last_epoch(
        frames, ("STATE", record(decode.HVM_CONTEXT, b"cpu")), good)
    yield from without_disks(frames, good)


def without_disks(frames, good):
    bare = [f for f in frames if not f.name.startswith("DISK")]
    assert accepted(join(bare))
    yield "DISK without DISKS", synchronised(bare, good)
    yield "DISK of an epoch without DISKS", last_epoch(bare, good)
    yield "DISK_ASK without DISKS", synchronised(
        bare, ("DISK_ASK", bits(1, 64)))
    names = [f.name for f in frames]
    yield "DISKS behind a piece of the image", synchronised(
        bare, ("DISKS", frames[names.index("DISKS")].payload))
    end = names.index("IMAGE_END")
    yield "DISK of no epoch behind the image", join(
        frames[:end + 1] + [Frame(NUMBERS["DISK"], 0, good[1])] +
        frames[end + 1:])
    yield "DISK of an epoch before the image's end", join(
        frames[:end] + [Frame(NUMBERS["DISK"], 1, good[1])] + frames[end:])
    begin = names.index("EPOCH_BEGIN")
    for epoch in (0, 2):
        yield "DISK of epoch %d in epoch 1" % epoch, join(
            frames[:begin + 1] + [Frame(NUMBERS["DISK"], epoch, good[1])] +
            frames[begin + 1:])


def types(frames):
    hello, rest = frames[0], frames[1:]
    for kind, payload in ((18, b""), (0, b""), (0x7fff, b""),
                          (0x8001, bytes(262145))):
        yield "a frame of type %#x" % kind, join(
            [hello, Frame(kind, 0, payload)] + rest)
    yield "reserved flags of an unknown frame", join(
        [hello, Frame(0x8001, 0, b"", 1)] + rest)
    other = "ACK" if hello.payload[10] == 1 else "EPOCH_BEGIN"
    yield "a frame of the other side", join(
        [hello, Frame(NUMBERS[other], 0, bytes(8)
                      if other == "ACK" else b"")] + rest)


def main():
    data = sys.stdin.buffer.read()
    frames = split(data)
    if join(frames) != data or not accepted(data):
        sys.exit("corrupt.py: the sample itself is not good")
    ways = [flips(data), cuts(data), orders(frames), fields(frames),
            types(frames)]
    if sys.argv[1] == "primary":
        ways += [contents(frames), deltas(frames), disks(frames)]
    tried = 0
    unnoticed = []
    for way in ways:
        for what, bad in way:
            tried += 1
            if accepted(bad):
                unnoticed.append(what)
    for what in unnoticed:
        print("unnoticed: " + what)
    print("%d ways to spoil the stream, %d unnoticed" % (tried,
                                                         len(unnoticed)))
    sys.exit(1 if unnoticed else 0)


if __name__ == "__main__":
    main()
