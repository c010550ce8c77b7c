"""Two machines in one, with a long way between them: network namespaces, joined by a line that can be bad.

with WanLink() as wan:
    with wan.there.entered():
        ...                               # what is started in here, process or socket, is over there
    wan.delay_s, wan.loss = 0.06, 0.02    # each way; of all packets
    wan.bytes_per_s = 250_000             # each way, with the buffer of a modem in front of it
    wan.unplug()                          # nothing passes, and nobody is told …
    wan.plug()                            # … and what TCP holds comes with its next try
    wan.forget()                          # a router was replaced: TCP connections of before stay silent

A namespace here has no name, and its TUN device ends with the descriptor: when this process and those in the
namespaces are gone, all of it is, however they ended. Each packet passes through a thread of this process,
since a kernel without sch_netem delays none by itself.

Source: https://www.kernel.org/doc/html/latest/networking/tuntap.html;
https://man7.org/linux/man-pages/man7/network_namespaces.7.html, …/netdevice.7.html
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import harness

BUFFER_S = 0.5
"""How much a line of limited speed holds before it drops, in seconds of that speed."""

_CLONE_NEWNET = 0x40000000
_THIS_NAMESPACE = "/proc/thread-self/ns/net"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SIOCSIFADDR, _SIOCSIFDSTADDR, _SIOCSIFFLAGS, _IFF_UP = 0x8916, 0x8918, 0x8914, 0x1
_PACKET_BYTES = 65536
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Host:
    """One end. Whatever is made while a thread has entered it stays there, the threads of a ZMQ context too.

    Attributes:
        address: the only one that the other end can reach.
        device: the descriptor of its end of the line, where whole IPv4 packets are read and written.
    """

    address: str
    device: int
    _namespace: int

    @classmethod
    def make(cls, address: str, *, peer: str) -> Host:
        """Make one with a loopback interface and a line to `peer`.

        Raises:
            OSError: this is not Linux as root, or there is no /dev/net/tun.
        """
        with _back_home():
            _check(_libc().unshare(_CLONE_NEWNET))
            return cls(address, _open_line(address, peer=peer), os.open(_THIS_NAMESPACE, os.O_RDONLY))

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have the calling thread, and only it, in this host."""
        with _back_home():
            _check(_libc().setns(self._namespace, _CLONE_NEWNET))
            yield

    def close(self) -> None:
        """End the line and let go of the namespace, which lives on with the processes in it."""
        os.close(self.device)
        os.close(self._namespace)


class WanLink:
    """Two hosts and the line between them, from `with` to its end. Skips the test where that cannot be.

    Attributes:
        here, there: the hosts.
        delay_s: how long each packet that comes from now on is on its way.
        loss: which part of the packets is lost.
        bytes_per_s: how fast each direction is; None: without a limit.
        lost_openings: how many first packets of TCP connections were lost while the cable was out.
    """

    here: Host
    there: Host

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.loss = 0.0
        self.bytes_per_s: float | None = None
        self.lost_openings = 0
        self._is_plugged = True
        self._known: set[frozenset[bytes]] | None = None
        self._chance = random.Random(2)
        self._end, self._told_to_end = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="wan link")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            for descriptor in (self._end, self._told_to_end):
                undo.callback(os.close, descriptor)
            try:
                self.here = Host.make("10.0.0.1", peer="10.0.0.2")
                undo.callback(self.here.close)
                self.there = Host.make("10.0.0.2", peer="10.0.0.1")
                undo.callback(self.there.close)
            except (OSError, AttributeError) as error:
                harness.missing(f"network namespaces want Linux, root and /dev/net/tun ({error})")
            self._thread.start()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._told_to_end, b"\0")
        self._thread.join()
        self._undo.close()

    # --- what can happen ---------------------------------------------------------------------------------

    def unplug(self) -> None:
        """Lose everything, what is on its way included, until `plug`."""
        self.lost_openings = 0
        self._is_plugged = False

    def plug(self) -> None:
        self._is_plugged = True

    def forget(self) -> None:
        """Lose for good what belongs to the TCP connections of now. Those to come are carried."""
        self._known = set()

    def mend(self) -> None:
        """Be without a fault again."""
        self.delay_s = self.loss = 0.0
        self.bytes_per_s = self._known = None
        self.plug()

    # --- the line ----------------------------------------------------------------------------------------

    def _carry(self) -> None:
        across = {self.here.device: self.there.device, self.there.device: self.here.device}
        free_at = dict.fromkeys(across, 0.0)
        on_its_way: list[tuple[float, int, int, bytes]] = []
        number = itertools.count()
        while True:
            now = time.monotonic()
            while on_its_way and on_its_way[0][0] <= now:
                _, _, device, packet = heapq.heappop(on_its_way)
                if self._is_plugged:
                    with contextlib.suppress(BlockingIOError):  # the host is overrun: lost
                        os.write(device, packet)
            patience_s = max(0.0, on_its_way[0][0] - now) if on_its_way else None
            ready = select.select([self._end, *across], [], [], patience_s)[0]
            if self._end in ready:
                return
            for device in ready:
                for packet in _packets(device):
                    now = time.monotonic()
                    sent_at = max(now, free_at[device])
                    if self._is_lost(packet) or sent_at - now > BUFFER_S:
                        continue
                    if self.bytes_per_s is not None:
                        sent_at = free_at[device] = sent_at + len(packet) / self.bytes_per_s
                    heapq.heappush(on_its_way, (sent_at + self.delay_s, next(number), across[device], packet))

    def _is_lost(self, packet: bytes) -> bool:
        connection, opens = _tcp_connection(packet)
        if not self._is_plugged:
            self.lost_openings += opens
            return True
        if self._known is not None and connection is not None:
            if opens:
                self._known.add(connection)
            if connection not in self._known:
                return True
        return self._chance.random() < self.loss


def _packets(device: int) -> Iterator[bytes]:
    with contextlib.suppress(BlockingIOError):
        for _ in range(_AT_ONCE):
            yield os.read(device, _PACKET_BYTES)


def _tcp_connection(packet: bytes) -> tuple[frozenset[bytes] | None, bool]:
    """The two ends of the TCP connection that an IPv4 packet belongs to, and whether it opens it.

    Source: https://www.rfc-editor.org/rfc/rfc791#section-3.1, https://www.rfc-editor.org/rfc/rfc9293#section-3.1
    """
    if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
        return None, False
    tcp = packet[(packet[0] & 0xF) * 4 :]
    source, target = packet[12:16] + tcp[0:2], packet[16:20] + tcp[2:4]
    synchronizes, acknowledges = tcp[13] & 0x02, tcp[13] & 0x10
    return frozenset({source, target}), bool(synchronizes and not acknowledges)


# --- Linux -------------------------------------------------------------------------------------------------


def _libc() -> ctypes.CDLL:
    # os.unshare and os.setns are there from Python 3.12 on.
    return ctypes.CDLL(None, use_errno=True)


def _check(outcome: int) -> None:
    if outcome:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def _back_home() -> Iterator[None]:
    """Have the calling thread in its namespace of now again afterwards."""
    home = os.open(_THIS_NAMESPACE, os.O_RDONLY)
    try:
        yield
    finally:
        _check(_libc().setns(home, _CLONE_NEWNET))
        os.close(home)


def _open_line(address: str, *, peer: str) -> int:
    """Open a TUN device in the calling thread's namespace, and have it and the loopback interface up."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"wan", _IFF_TUN | _IFF_NO_PI))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFDSTADDR, peer)):
                inet = struct.pack("=H2x4s8x", socket.AF_INET, socket.inet_aton(value))
                fcntl.ioctl(any_socket, request, struct.pack("16s16s8x", b"wan", inet))
            for name in (b"lo", b"wan"):
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", name, _IFF_UP))
    except BaseException:
        os.close(device)
        raise
    return device
