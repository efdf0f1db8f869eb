#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What output.sh measures of a guest and of a disk.

	output.py requests PORT COUNT INTERVAL_MS	of the ledger: one after the other
	output.py disk SOCKET OFFSET BYTES		of an NBD server

Prints a JSON object.  A request begins at any time of an epoch; microseconds.
"""

import json
import random
import socket
import sys
import time

BLOCK = 64 * 1024
SMALL = 4096
IN_FLIGHT = 16
SECONDS = 4  # of each load
SYNCS = 200


def rank(values, part):
    return values[min(len(values) - 1, int(len(values) * part))]


def requests(port, count, interval_s):
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answers = link.makefile("r")
    took = []
    for _ in range(count):
        time.sleep(random.random() * interval_s)
        begun = time.monotonic()
        link.sendall(b"SUM\n")
        answers.readline()
        took.append((time.monotonic() - begun) * 1e6)
    took.sort()
    return {"requests": count, "median_us": round(rank(took, .5)),
            "p99_us": round(rank(took, .99))}


class Disk:
    def __init__(self, path, offset, size):
        import nbd
        self.link = nbd.NBD()
        self.link.connect_unix(path)
        self.offset, self.size = offset, size
        self.data = random.Random(1).randbytes(8 * BLOCK)

    def load(self, length, where):
        """Bytes a second of writes as fast as can be, made stable at the end."""
        cookies, written = [], 0
        begun = time.monotonic()
        while time.monotonic() < begun + SECONDS:
            if len(cookies) >= IN_FLIGHT:
                while not self.link.aio_command_completed(cookies[0]):
                    self.link.poll(-1)
                del cookies[0]
            at = random.randrange(0, 7 * BLOCK, SMALL)
            cookies.append(self.link.aio_pwrite(
                self.data[at:at + length],
                self.offset + where(written) % self.size))
            written += length
        for cookie in cookies:
            while not self.link.aio_command_completed(cookie):
                self.link.poll(-1)
        self.link.flush()
        return round(written / (time.monotonic() - begun))

    def syncs(self):
        took = []
        for i in range(SYNCS):
            begun = time.monotonic()
            self.link.pwrite(self.data[:SMALL], self.offset + i * SMALL)
            self.link.flush()
            took.append((time.monotonic() - begun) * 1e6)
        took.sort()
        return round(rank(took, .5))


def disk(path, offset, size):
    d = Disk(path, offset, size)
    return {
        "sequential_bytes_s": d.load(BLOCK, lambda written: written),
        "random_bytes_s": d.load(
            SMALL, lambda _: random.randrange(0, size, SMALL)),
        "write_and_flush_us": d.syncs(),
    }


if __name__ == "__main__":
    if sys.argv[1] == "requests":
        result = requests(int(sys.argv[2]), int(sys.argv[3]),
                          int(sys.argv[4]) / 1000)
    else:
        result = disk(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(result))
