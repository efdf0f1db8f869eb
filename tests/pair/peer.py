#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A peer that misbehaves, and a wire that is slow.

Usage: peer.py primary CERTS PORT [SCENARIO]
       peer.py secondary CERTS SCENARIO
       peer.py forward PORT BYTES_PER_SECOND

CERTS is PREFIX of PREFIX.crt and PREFIX.key, beside which lies ca.crt.

A primary connects, has a standby built of a guest of 16 pages, commits epoch 1
and then does what SCENARIO says; a secondary listens on a port that it prints
and does so when its moment has come.  Then each prints how the other side
ended the connection: "BYE reason text" or "closed".

`forward` prints a port too; what comes in there goes on to PORT.  It obeys words
on standard input: "slow" and "fast" set whether the rate holds for what goes to
PORT, "cut" ends all connections of the moment.

Written from colod-stream(7).  Needs libxxhash for the checksums.
"""

import ctypes
import os
import socket
import ssl
import struct
import sys
import threading
import time

VERSION = 7  # WIRE_VERSION
HELLO, DOMAIN, IMAGE, IMAGE_END, BEGIN, PAGES, STATE, END, ACK, BEAT, BYE = \
    range(1, 12)
REASONS = ("ENDED", "POWEROFF", "REBOOT", "CRASH", "VERSION", "BUSY",
           "PROTOCOL", "LIMIT", "NO_RESOURCES", "FAILED_OVER", "REFUSED",
           "IMAGE_FAILED", "RESYNC")
PRIMARY, SECONDARY = 1, 2
GUEST_PAGES = 16
PAGE_BYTES = 4096
PATIENCE_S = 120
BEAT_S = 0.05


def xxh3(data):
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits.restype = ctypes.c_uint64
    library.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return library.XXH3_64bits(data, len(data))


class Closed(Exception):
    """The other side is gone."""


class Link:
    """Frames over an established TLS connection."""

    def __init__(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self.sequence = 0
        self.beating = False
        self.next_beat = 0.0

    def raw(self, data):
        self.connection.settimeout(PATIENCE_S)
        try:
            self.connection.sendall(data)
        except OSError as error:
            raise Closed(str(error)) from error

    def send(self, kind, payload=b"", epoch=0, **header):
        self.raw(struct.pack("<HHIQQ", kind, header.get("flags", 0),
                             header.get("length", len(payload)), epoch,
                             header.get("sequence", self.sequence)) + payload)
        self.sequence += 1

    def beat(self):
        """From now on there is a heartbeat whenever it is waited."""
        self.beating = True

    def some(self, count):
        """One thread for both directions: OpenSSL wants no two."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self.beating and time.monotonic() >= self.next_beat:
                self.send(BEAT)
                self.next_beat = time.monotonic() + BEAT_S
            self.connection.settimeout(BEAT_S)
            try:
                return self.connection.recv(count)
            except socket.timeout:
                pass
        raise Closed("waited in vain")

    def exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                more = self.some(count - len(data))
            except OSError as error:
                raise Closed(str(error)) from error
            if not more:
                raise Closed("end of the stream")
            data += more
        return data

    def receive(self):
        header = self.exactly(24)
        kind, _, length, epoch, _ = struct.unpack("<HHIQQ", header)
        return kind, epoch, self.exactly(length)

    def hello(self):
        kind, _, _ = self.receive()
        if kind != HELLO:
            raise Closed(f"the first frame is of type {kind}")

    def until(self, wanted, wanted_epoch=None):
        while True:
            kind, epoch, payload = self.receive()
            if kind == BYE:
                raise Closed(bye_words(payload))
            if kind == wanted and wanted_epoch in (None, epoch):
                return payload

    def last_words(self):
        try:
            while True:
                kind, _, payload = self.receive()
                if kind == BYE:
                    return bye_words(payload)
        except Closed:
            return "closed"


def bye_words(payload):
    reason, length = struct.unpack_from("<II", payload)
    name = REASONS[reason] if reason < len(REASONS) else str(reason)
    return f"BYE {name} {payload[8:8 + length].decode()}"


def context(prefix, server):
    protocol = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
    ctx = ssl.SSLContext(protocol)
    ctx.minimum_version = ssl.TLSVersion.TLSv1_3
    ctx.check_hostname = False
    ctx.load_verify_locations(os.path.join(os.path.dirname(prefix), "ca.crt"))
    ctx.verify_mode = ssl.CERT_REQUIRED
    ctx.load_cert_chain(prefix + ".crt", prefix + ".key")
    return ctx


def hello(role, version=VERSION, inflight=2):
    host = b"python"
    return struct.pack("<8sHHIIIQQII", b"COLOD\r\n\x1a", version, role, 262144,
                       inflight, int(BEAT_S * 1e6), 0, 1, len(host), 0) + host


def domain():
    name, config = b"fake", b"{}"
    return struct.pack("<HHIQQ16sII", 2, 0, 0, GUEST_PAGES * PAGE_BYTES,
                       GUEST_PAGES - 1, b"\x5a" * 16, len(name),
                       len(config)) + name + config


def guest_page(number, version):
    """A page as the fake guest writes it."""
    mask = (1 << 64) - 1
    x = (number * 0x9e3779b97f4a7c15 & mask) ^ version
    x = ((x ^ (x >> 29)) * 0xbf58476d1ce4e5b9) & mask
    words = [version if w & 1 else (x + w) & mask for w in range(511)]
    return struct.pack("<512Q", version, *words)


def sum_page(total):
    return struct.pack("<Q", total) + bytes(PAGE_BYTES - 8)


def epoch_frames(changed, total):
    """Page `changed` gets its first version; the sum becomes `total`."""
    pages = struct.pack("<IIQQ", 2, 0, 0, changed) + sum_page(total) + \
        guest_page(changed, 1)
    state = struct.pack("<IIQ", 9, 8, total)
    return pages, state


def send_epoch(link, number, pages, state, **lies):
    both = pages + state
    link.send(BEGIN, b"", number)
    link.send(PAGES, pages, number)
    link.send(STATE, state, number)
    link.send(END, struct.pack(
        "<QQQ", lies.get("count", 2), lies.get("length", len(both)),
        lies.get("checksum", xxh3(both))), number)


# What a primary may do wrong once epoch 1 is acknowledged; epoch 2 is due.

def p_checksum(link):
    send_epoch(link, 2, *epoch_frames(2, 2), checksum=1)


def p_count(link):
    send_epoch(link, 2, *epoch_frames(2, 2), count=3)


def p_gap(link):
    send_epoch(link, 3, *epoch_frames(2, 2))


def p_again(link):
    send_epoch(link, 1, *epoch_frames(2, 2))


def p_gfn(link):
    pages, state = epoch_frames(GUEST_PAGES, 2)
    send_epoch(link, 2, pages, state)


def p_record(link):
    pages, _ = epoch_frames(2, 2)
    send_epoch(link, 2, pages, struct.pack("<IIQ", 77, 8, 2))


def delta_of(gfn):
    """The first word of page `gfn` becomes 7."""
    return struct.pack("<IIQQBQ", 1, 0, 2 << 56 | gfn, 1, 1, 7)


def p_delta(link):
    """Of a page that never came."""
    send_epoch(link, 2, delta_of(9), epoch_frames(2, 2)[1], count=1)


def p_cutdelta(link):
    send_epoch(link, 2, delta_of(0)[:-1], epoch_frames(2, 2)[1], count=1)


def p_outside(link):
    link.send(PAGES, epoch_frames(2, 2)[0], 2)


def p_hello(link):
    link.send(HELLO, hello(PRIMARY))


def p_ack(link):
    link.send(ACK, bytes(8), 2)


def p_unknown(link):
    link.send(99)


def p_image(link):
    link.send(IMAGE, b"x")


def p_garbage(link):
    link.raw(bytes(range(1, 200)))


def p_length(link):
    link.send(STATE, b"", 2, length=0xfffffff0)


def p_sequence(link):
    link.send(BEAT, sequence=link.sequence + 1)


def p_flags(link):
    link.send(BEAT, flags=1)


def p_truncated(link):
    """Closes in order, in the middle of a frame."""
    link.send(BEGIN, b"", 2)
    link.send(PAGES, b"abc", 2, length=1000)
    try:
        link.connection.unwrap()
    except OSError:
        pass
    print("closed")
    sys.exit(0)


def p_optional(link):
    """Nothing wrong: to be skipped, and the protection ends in order."""
    link.send(0x8000 + 99, b"whatever")
    send_epoch(link, 2, *epoch_frames(2, 2))
    link.until(ACK, 2)
    link.send(BYE, struct.pack("<II", 0, 0))


def primary(prefix, port, scenario):
    plain = socket.create_connection(("127.0.0.1", int(port)), PATIENCE_S)
    link = Link(context(prefix, False).wrap_socket(plain))
    if scenario == "mute":  # not a word
        return link.last_words()
    if scenario == "early":
        link.send(BEGIN, b"", 1)
        return link.last_words()
    link.send(HELLO, hello(SECONDARY if scenario == "role" else PRIMARY,
                           VERSION + (scenario == "version")))
    link.hello()
    if scenario in ("version", "role"):
        return link.last_words()
    link.beat()
    image = bytes(GUEST_PAGES * PAGE_BYTES)
    link.send(DOMAIN, domain())
    link.send(IMAGE, struct.pack("<II", len(image), 0) + image)
    link.send(IMAGE_END, struct.pack(
        "<QQQQ", len(image), 1 if scenario == "imagesum" else xxh3(image),
        0, 0))
    if scenario != "imagesum":
        link.until(ACK, 0)
        send_epoch(link, 1, *epoch_frames(1, 1))
        link.until(ACK, 1)
        globals()["p_" + scenario](link)
    return link.last_words()


# What a secondary may do wrong.

def s_version(link):
    link.send(HELLO, hello(SECONDARY, VERSION + 1))


def s_role(link):
    link.send(HELLO, hello(PRIMARY))


def s_magic(link):
    link.send(HELLO, bytes(48))


def s_mute(_):
    pass


def s_length(link):
    link.send(BEAT, b"", length=0xffffff)


def s_garbage(link):
    link.raw(bytes(range(1, 200)))


def s_early(link):
    """Ready before the image was there."""
    link.send(HELLO, hello(SECONDARY))
    link.send(ACK, bytes(8), 3)


def build(link):
    link.send(HELLO, hello(SECONDARY))
    link.beat()
    link.until(IMAGE_END)
    link.send(ACK, bytes(8), 0)


def s_ack(link):
    build(link)
    link.until(END, 1)
    link.send(ACK, bytes(8), 1)
    link.until(BEGIN, 2)
    link.send(ACK, bytes(8), 7)


def s_applied(link):
    """Applied more than it has."""
    build(link)
    link.until(END, 1)
    link.send(ACK, struct.pack("<Q", 5), 1)


def s_twice(link):
    build(link)
    link.until(END, 1)
    link.send(ACK, bytes(8), 1)
    link.send(ACK, bytes(8), 1)


def s_epoch(link):
    build(link)
    link.until(END, 1)
    link.send(END, bytes(24), 1)


def s_silent(link):
    build(link)
    link.until(END, 1)
    link.send(ACK, bytes(8), 1)
    link.beating = False


def secondary(prefix, scenario):
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    listener.settimeout(PATIENCE_S)
    plain, _ = listener.accept()
    plain.settimeout(PATIENCE_S)
    try:
        link = Link(context(prefix, True).wrap_socket(plain, server_side=True))
        if scenario != "mute":
            link.hello()
        globals()["s_" + scenario](link)
    except OSError as error:
        return str(error)
    return link.last_words()


class Wire:
    """Between two ports; one direction is slow when told to be."""

    def __init__(self, port, rate):
        self.port = int(port)
        self.rate = int(rate)
        self.slow = threading.Event()
        self.ends = []

    def pump(self, source, sink, limited):
        try:
            while True:
                slow = limited and self.slow.is_set()
                data = source.recv(8192 if slow else 65536)
                if not data:
                    break
                sink.sendall(data)
                if slow:
                    time.sleep(len(data) / self.rate)
        except OSError:
            pass
        self.cut((source, sink))

    @staticmethod
    def cut(ends):
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def run(self):
        listener = socket.socket()
        # Little may hide in the kernel's buffers.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=self.listen_to_stdin, daemon=True).start()
        while True:
            near, _ = listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                near.close()
                continue
            self.ends += near, far
            for arguments in ((near, far, True), (far, near, False)):
                threading.Thread(target=self.pump, args=arguments,
                                 daemon=True).start()

    def listen_to_stdin(self):
        for word in sys.stdin:
            if word == "slow\n":
                self.slow.set()
            elif word == "fast\n":
                self.slow.clear()
            else:
                self.cut(self.ends)


def main():
    role, arguments = sys.argv[1], sys.argv[2:]
    if role == "forward":
        Wire(*arguments).run()
    print({"primary": primary, "secondary": secondary}[role](*arguments))


try:
    main()
except Closed as why:
    print(why)
