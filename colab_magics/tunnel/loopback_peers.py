"""Who is at the other end of a loopback connection: this user, or somebody else on the machine.

A port on loopback is open to every user of its machine, and a debugger that connects to one shows no token.
But Linux knows whose a connection is. This is sent to other machines as well, so it imports nothing of ours
and runs on Python 3.9.

Source: https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def is_ours(connection: socket.socket) -> bool:
    """Whether this user, or root, is at the other end of an accepted connection.

    A peer that has closed its end already belongs to nobody, and so is not ours. Where the system has no such
    table, as on macOS, nobody can be told apart: then everybody is.
    """
    here, there = connection.getsockname()[:2], connection.getpeername()[:2]
    rows = {(local, remote): (uid, inode) for local, remote, uid, inode in _rows()}
    if not any((mine, peer) in rows for mine in _spelled(here) for peer in _spelled(there)):
        return True  # not even our own end is in it: it tells of other sockets
    found = [rows.get((peer, mine)) for peer in _spelled(there) for mine in _spelled(here)]
    return any(row is not None and row[1] and row[0] in (0, os.geteuid()) for row in found)


def guard() -> None:
    """Have every socket of this process take connections of this user only."""
    accept = socket.socket.accept

    def accept_ours(self: socket.socket) -> tuple[socket.socket, Any]:
        while True:
            connection, address = accept(self)
            if connection.family not in (socket.AF_INET, socket.AF_INET6) or is_ours(connection):
                return connection, address
            connection.close()

    socket.socket.accept = accept_ours  # type: ignore[method-assign]


def main(argv: list[str]) -> None:
    """Run a Python program whose sockets are guarded: `loopback_peers.py PROGRAM [ARG …]`."""
    import runpy

    guard()
    sys.argv = argv
    runpy.run_path(argv[0], run_name="__main__")


def _rows() -> Iterator[tuple[str, str, int, int]]:
    """Each socket's two ends as Linux spells them, whose it is, and its inode: 0 once it is closed."""
    for name in TABLES:
        try:
            with open(name) as table:
                lines = table.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            yield fields[1], fields[2], int(fields[7]), int(fields[9])


def _spelled(address: tuple[str, int]) -> list[str]:
    """The ways in which the kernel may spell an address: also as IPv6 that holds an IPv4 one."""
    host, port = address
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        return [f"{_words(packed)}:{port:04X}"]
    packed = socket.inet_aton(host)
    mapped = bytes(10) + b"\xff\xff" + packed
    return [f"{_words(packed)}:{port:04X}", f"{_words(mapped)}:{port:04X}"]


def _words(packed: bytes) -> str:
    """An address as numbers of this machine's byte order."""
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


if __name__ == "__main__":
    main(sys.argv[1:])
