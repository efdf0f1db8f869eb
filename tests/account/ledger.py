#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An account server as the ledger is one, that can be told to break its word.

	ledger.py [PORT] [COUNT=DEED...]

Prints its port, then serves until standard input ends.  When the chain has
COUNT transactions (0: at once), once, the DEED is done:

	forget:K	the last K are as if they had never been; everyone is cut off
	replay:K	the last K are not answered, but executed; all are cut off
	duplicate	the last transaction is in the chain twice
	change		the last transaction has another amount, hashes and all
	invent		a transaction that client 7 has never sent
	spoil		the last hash in the chain is wrong
	sum		SUM tells another total from now on
	disk:N		DISK tells that the disk differs at N from now on
	older		DISK tells a shorter chain from now on
	silent:MS	nothing is answered for so long
	mute		who is connected now is never answered again, nor cut off
	nonsense	the next answer is none

Single-threaded; the hash is XXH3-64 written down once more, for 40 bytes.
"""

import selectors
import socket
import struct
import sys
import time

MASK = (1 << 64) - 1
# xxhash.h, XXH3_kSecret: its first 64 bytes
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c")


def mix16(data, at, secret_at):
    low, high = struct.unpack_from("<QQ", data, at)
    s0, s1 = struct.unpack_from("<QQ", SECRET, secret_at)
    product = (low ^ s0) * (high ^ s1)
    return (product & MASK) ^ (product >> 64)


def xxh3_40(data):
    """XXH3_len_17to128_64b for a length from 33 to 64, seed 0."""
    n = len(data)
    acc = n * 0x9E3779B185EBCA87
    acc += mix16(data, 16, 32) + mix16(data, n - 32, 48)
    acc += mix16(data, 0, 0) + mix16(data, n - 16, 16)
    acc &= MASK
    acc ^= acc >> 37
    acc = acc * 0x165667919E3779F9 & MASK
    return acc ^ acc >> 32


class Ledger:
    def __init__(self):
        self.chain = []  # client, seq, from, to, amount, hash
        self.last = {}  # client: its last seq and its place
        self.wrong = 0
        self.differs = 0
        self.older = 0

    def head(self):
        return self.chain[-1][5] if self.chain else 0

    def add(self, client, seq, payer, payee, amount):
        h = xxh3_40(struct.pack("<QQQIIq", self.head(), client, seq, payer,
                                payee, amount))
        self.chain.append((client, seq, payer, payee, amount, h))
        self.last[client] = (seq, len(self.chain))

    def pay(self, words):
        client, seq, payer, payee, amount = map(int, words)
        last, place = self.last.get(client, (0, 0))
        if seq == last + 1:
            self.add(client, seq, payer, payee, amount)
            place = len(self.chain)
        elif not seq or seq != last:
            return f"NO {client} {seq} the last was {last}\n"
        return f"OK {client} {seq} {place} {self.chain[place - 1][5]:016x}\n"

    def answer(self, line):
        word, *words = line.split()
        if word == "PAY":
            return self.pay(words)
        if word == "CHAIN":
            first, count = map(int, words)
            part = self.chain[first - 1:first - 1 + min(count, 1000)]
            lines = [f"T {first + i} {' '.join(map(str, t[:5]))} {t[5]:016x}\n"
                     for i, t in enumerate(part)]
            return "".join(lines) + f"END {self.head():016x}\n"
        if word == "SUM":
            return f"SUM {len(self.chain)} {self.head():016x} {self.wrong}\n"
        if word == "DISK" and self.differs:
            return f"NO 0 0 disk differs at {self.differs}\n"
        if word == "DISK":
            return f"DISK {len(self.chain) - self.older} {self.head():016x}\n"
        raise ValueError(line)

    def forget(self, count):
        """As a standby that was never sent them."""
        del self.chain[len(self.chain) - count:]
        self.last = {}
        for place, (client, seq, *_) in enumerate(self.chain, 1):
            self.last[client] = (seq, place)


class Server:
    def __init__(self, port, deeds):
        self.ledger = Ledger()
        self.deeds = deeds
        self.nonsense = False
        self.muted = []
        self.gate = None  # answers that wait, where some are to be lost
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=100)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        self.clients = {}

    def cut_off(self):
        for client in list(self.clients):
            self.close(client)

    def close(self, client):
        self.selector.unregister(client)
        del self.clients[client]
        client.close()

    def deed(self, word, number):
        ledger = self.ledger
        if word == "forget":
            ledger.forget(number)
            self.cut_off()
        elif word == "duplicate":
            last = ledger.last.copy()
            ledger.add(*ledger.chain[-1][:5])
            ledger.last = last
        elif word == "invent":
            last = ledger.last.copy()
            ledger.add(7, 1 << 40, 1, 2, 3)
            ledger.last = last
        elif word == "change":
            client, seq, payer, payee, amount, _ = ledger.chain.pop()
            ledger.add(client, seq, payer, payee, amount + 1)
        elif word == "spoil":
            ledger.chain[-1] = ledger.chain[-1][:5] + (ledger.head() ^ 1,)
        elif word == "sum":
            ledger.wrong = 1
        elif word == "disk":
            ledger.differs = number
        elif word == "older":
            ledger.older = 1
        elif word == "silent":
            time.sleep(number / 1000)
        elif word == "mute":
            for client in self.clients:
                self.selector.unregister(client)
            self.muted += self.clients
            self.clients.clear()
        elif word == "nonsense":
            self.nonsense = True
        else:
            sys.exit(f"no deed {word}")

    def due(self):
        """The deed of this moment, or None; `replay` begins K before it."""
        place = len(self.ledger.chain)
        for deed in self.deeds:
            at, word, number = deed
            if word == "replay" and place > at - number:
                self.gate = True
            if place >= at:
                self.deeds.remove(deed)
                return word, number
        return None

    def line(self, client, line):
        reply = self.ledger.answer(line)
        deed = self.due() if line.startswith("PAY") else None
        if deed and deed[0] == "replay":
            self.gate = None
            self.cut_off()
            return
        if self.gate:
            return
        if self.nonsense:
            self.nonsense = False
            reply = "OK 1 2 three\n"
        client.setblocking(True)
        client.sendall(reply.encode())
        client.setblocking(False)
        if deed:
            self.deed(*deed)

    def readable(self, client):
        try:
            data = client.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.close(client)
            return
        *lines, rest = (self.clients[client] + data).split(b"\n")
        self.clients[client] = rest
        for line in lines:
            if client not in self.clients:
                return
            try:
                self.line(client, line.decode())
            except ConnectionError:
                if client in self.clients:
                    self.close(client)

    def serve(self):
        at_once = self.due()
        if at_once:
            self.deed(*at_once)
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is self.listener:
                    client = self.listener.accept()[0]
                    client.setsockopt(socket.IPPROTO_TCP,
                                      socket.TCP_NODELAY, 1)
                    self.clients[client] = b""
                    self.selector.register(client, selectors.EVENT_READ)
                elif key.fileobj in self.clients:
                    self.readable(key.fileobj)


def main():
    words = sys.argv[1:]
    port = int(words.pop(0)) if words and "=" not in words[0] else 0
    deeds = []
    for word in words:
        at, deed = word.split("=")
        deed, _, number = deed.partition(":")
        deeds.append((int(at), deed, int(number or 0)))
    server = Server(port, deeds)
    print(server.listener.getsockname()[1], flush=True)
    server.serve()


main()
