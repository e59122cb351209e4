"""A client of the link, written from the documents of `firmware_bridge` and `docs/link.md` alone.

    link_client.py URL READS.fastq[.gz] [--channels N] [--first-number N]

sends the reads to the host that listens at tcp://HOST:PORT or unix:///PATH, obeys its decisions,
and says at the end what came back. Exit 1: the host lacks something, or said nothing.
"""

import argparse
import collections
import gzip
import os
import select
import socket
import struct
import sys
import time
import zlib

HELLO, START, BASES, END, DECISION, CALL, STATISTICS, ERROR, CREDIT, ALIVE, FINISH = range(1, 12)
COMPLETE, EJECTED = 0, 1
CONFIRMS = 4  # A host's capability: it answers the finish with statistics.
CHUNK = 400


def stuff(body):
    """COBS, and the closing zero."""
    out = bytearray()
    runs = body.split(b"\0")
    for i, run in enumerate(runs):
        while len(run) >= 254:
            out += b"\xff" + run[:254]
            run = run[254:]
            # A full run says nothing of a zero behind it: at the very end none is needed.
            if not run and i == len(runs) - 1:
                return bytes(out + b"\0")
        out += bytes([len(run) + 1]) + run
    return bytes(out + b"\0")


def unstuff(stuffed):
    """The body, or None where the stuffing is broken."""
    body, at = bytearray(), 0
    while at < len(stuffed):
        code = stuffed[at]
        if code == 0 or at + code > len(stuffed):
            return None
        body += stuffed[at + 1 : at + code]
        at += code
        if code < 255 and at < len(stuffed):
            body.append(0)
    return bytes(body)


def packed(letters):
    """Flags and payload of at most 400 bases, and how many of them it holds."""
    runs, at = [], 0
    while at < len(letters) and len(runs) < 64:
        if letters[at] in "ACGT":
            at += 1
            continue
        first = at
        while at < len(letters) and letters[at] not in "ACGT":
            at += 1
        runs.append((first, at - first))
    letters = letters[:at]
    empty = -len(letters) % 4
    codes = ["ACGT".find(letter) for letter in letters] + [0] * empty
    codes = [max(code, 0) for code in codes]
    out = bytearray()
    if runs:
        out.append(len(runs))
        for run in runs:
            out += struct.pack("<HH", *run)
    for i in range(0, len(codes), 4):
        a, b, c, d = codes[i : i + 4]
        out.append(a | b << 2 | c << 4 | d << 6)
    return empty << 4 | (0x40 if runs else 0), bytes(out), len(letters)


class Read:
    """A read on its channel."""

    def __init__(self, number, name, letters):
        self.number, self.name, self.letters = number, name, letters
        self.position = 0
        self.announce = True
        self.ejected = False


class Client:
    """The device's side of the protocol."""

    def __init__(self, connection):
        self.connection = connection
        self.nonce = int.from_bytes(os.urandom(4), "little")
        self.sequence = 0
        self.host = None
        self.capabilities = 0
        self.credit = None
        self.last_sent = 0.0
        self.received = b""
        self.open = {}
        self.statistics = None
        self.closed = False
        self.counts = collections.Counter()

    def send(self, kind, payload=b"", flags=0):
        body = struct.pack("<BH", kind | flags, self.sequence) + payload
        self.connection.sendall(stuff(body + struct.pack("<I", zlib.crc32(body))))
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.last_sent = time.monotonic()

    def hello(self):
        self.send(HELLO, struct.pack("<BBBHI", 1, 0, 0, 2, self.nonce))

    def ready(self):
        """Data may be sent: a credit has come, and the next sequence number lies before it."""
        if self.host is None or self.credit is None:
            return False
        return 0 < (self.credit - self.sequence) & 0xFFFF < 0x8000

    def poll(self, patience):
        """Takes in what has come within some seconds; says that this side is alive."""
        if time.monotonic() - self.last_sent >= 0.5:
            if self.host is None:
                self.hello()
            else:
                self.send(ALIVE)
        if not select.select([self.connection], [], [], patience)[0]:
            return
        try:
            received = self.connection.recv(4096)
        except ConnectionError:
            received = b""
        self.closed |= not received
        *frames, self.received = (self.received + received).split(b"\0")
        for frame in filter(None, frames):
            body = unstuff(frame)
            if body is None or len(body) < 7:
                continue
            if zlib.crc32(body[:-4]) != struct.unpack("<I", body[-4:])[0]:
                continue
            self.take(body[0] & 15, body[3:-4])

    def take(self, kind, payload):
        self.counts[kind] += 1
        if kind == HELLO:
            major, _, role, capabilities, nonce = struct.unpack_from("<BBBHI", payload)
            if major != 1:
                sys.exit(f"the host speaks version {major}")
            if role == 1:
                if nonce != self.host:
                    # Another host: it has granted nothing yet, and knows of no read.
                    self.host, self.capabilities, self.credit = nonce, capabilities, None
                    for read in self.open.values():
                        read.announce = True
                self.hello()
        elif kind == CREDIT:
            (credit,) = struct.unpack("<H", payload)
            if self.credit is None or 0 < (credit - self.credit) & 0xFFFF < 0x8000:
                self.credit = credit
        elif kind == DECISION:
            channel, number, eject = struct.unpack("<HIB", payload)
            read = self.open.get(channel)
            if eject and read and read.number == number:
                read.ejected = True
        elif kind == STATISTICS:
            self.statistics = struct.unpack("<III", payload)
        elif kind == ERROR:
            print(f"the host reports {payload[2:]!r}", file=sys.stderr)

    def step(self, channel):
        """Sends what is next of a channel's read; true where that was its end."""
        read = self.open[channel]
        if read.announce:
            start = struct.pack("<HIBQI", channel, read.number, 1, 0, read.position)
            self.send(START, start + read.name[:64])
            read.announce = False
            return False
        if read.ejected or read.position == len(read.letters):
            reason = EJECTED if read.ejected else COMPLETE
            self.send(END, struct.pack("<HIIB", channel, read.number, read.position, reason))
            return True
        flags, bases, count = packed(read.letters[read.position : read.position + CHUNK])
        tag = channel | (read.number & 15) << 12
        self.send(BASES, struct.pack("<HH", tag, read.position & 0xFFFF) + bases, flags)
        read.position += count
        return False


def records(path):
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt") as lines:
        for header in lines:
            yield header[1:].split()[0].encode(), next(lines).strip().upper()
            next(lines), next(lines)


def connected(url):
    scheme, place = url.split("://")
    for _ in range(1200):
        try:
            if scheme == "tcp":
                host, port = place.rsplit(":", 1)
                return socket.create_connection((host, int(port)))
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(place)
            return connection
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nobody listens at {url}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("reads")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--first-number", type=int, default=1)
    options = parser.parse_args()
    client = Client(connected(options.url))
    waiting = records(options.reads)
    numbers = [options.first_number] * options.channels
    left, sent, ejected = True, 0, 0
    client.hello()
    while left or client.open:
        for channel in range(options.channels):
            if left and channel not in client.open:
                record = next(waiting, None)
                left = record is not None
                if left:
                    client.open[channel] = Read(numbers[channel], *record)
                    numbers[channel] = (numbers[channel] + 1) & 0xFFFFFFFF
            while channel in client.open and not client.ready():
                client.poll(0.02)
                if client.closed:
                    sys.exit("the host closed the connection")
            if channel in client.open and client.step(channel):
                read = client.open.pop(channel)
                sent, ejected = sent + 1, ejected + read.ejected
        client.poll(0)
    client.send(FINISH)
    # A host that is to end closes the connection once the last reply is sent.
    deadline = time.monotonic() + 600
    while not client.closed and time.monotonic() < deadline:
        client.poll(0.02)
    counts = client.counts
    print(f"{sent} reads, {ejected} ejected, {counts[CALL]} calls, {counts[DECISION]} decisions")
    if client.capabilities & CONFIRMS and (client.statistics is None or client.statistics[2]):
        sys.exit(f"the host lacks something: {client.statistics}")


if __name__ == "__main__":
    main()
