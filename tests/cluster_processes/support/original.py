"""The Python program's protocol, played by a process of its own: five messages, rows to peers twice a second.

    python3 original.py HOST:PORT [WIDTH DEPTH]

Written for these tests from a description of what is on the wire. Prints the address where it is heard.
"""

import socket
import struct
import sys
import time

ADD, COUNT, SYNC, PEER, ACK = range(5)
ROUND_S = 0.5


class Counts:
    def __init__(self, width, depth):
        self.width, self.depth = width, depth
        self.rows = [[0] * width for _ in range(depth)]

    def places(self, key):
        for row in range(self.depth):
            value = row
            for byte in key:
                value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
            yield row, value % self.width

    def add(self, key):
        for row, column in self.places(key):
            self.rows[row][column] += 1

    def count(self, key):
        return min(self.rows[row][column] for row, column in self.places(key))


class Instance:
    def __init__(self, address, width, depth):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.own = Counts(width, depth)
        self.learnt = {}
        self.peers, self.sent_at, self.acked_at = [], {}, {}
        self.row_format = "H%dL" % width

    def take(self, message, sender):
        kind, body = message[0], message[1:]
        if kind == ADD and len(body) == 140:
            self.own.add(struct.unpack("140p", body)[0])
        elif kind == COUNT and len(body) == 140:
            (key,) = struct.unpack("140p", body)
            count = self.own.count(key) + sum(peer.count(key) for peer in self.learnt.values())
            self.socket.sendto(struct.pack("140pL", key, count), sender)
        elif kind == SYNC and len(body) == struct.calcsize(self.row_format):
            index, *counters = struct.unpack(self.row_format, body)
            if index < self.own.depth:
                peer = self.learnt.setdefault(sender, Counts(self.own.width, self.own.depth))
                peer.rows[index] = list(map(max, peer.rows[index], counters))
                self.socket.sendto(bytes([ACK]), sender)
        elif kind == PEER and len(body) in (142, 152):
            host, port = struct.unpack("140pH" if len(body) == 142 else "140pL", body)
            address = (socket.gethostbyname(host.decode()), port)
            if address != self.socket.getsockname() and address not in self.peers:
                self.peers.append(address)
        elif kind == ACK:
            self.acked_at[sender] = time.monotonic()

    def push(self):
        def is_silent(peer):
            return peer in self.sent_at and self.acked_at.get(peer, 0) < self.sent_at[peer]

        self.peers = [peer for peer in self.peers if not is_silent(peer)]
        for peer in self.peers:
            self.sent_at[peer] = time.monotonic()
            for index, row in enumerate(self.own.rows):
                message = bytes([SYNC]) + struct.pack(self.row_format, index, *row)
                self.socket.sendto(message, peer)

    def run(self):
        due = time.monotonic() + ROUND_S
        while True:
            left = due - time.monotonic()
            if left <= 0:
                self.push()
                due += ROUND_S
                continue
            self.socket.settimeout(left)
            try:
                message, sender = self.socket.recvfrom(65535)
            except (TimeoutError, socket.timeout, ConnectionError):
                continue
            if message:
                self.take(message, sender)


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    width, depth = map(int, sys.argv[2:4]) if len(sys.argv) > 2 else (100, 10)
    instance = Instance((host, int(port)), width, depth)
    print("%s:%d" % instance.socket.getsockname(), flush=True)
    instance.run()


main()
