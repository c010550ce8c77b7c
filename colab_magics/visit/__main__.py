"""`python -m colab_magics.visit -f CONNECTION_FILE --door FILE`: the kernel that a visitor starts."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import zmq

from colab_kernel import zmq_wire
from colab_kernel.connection_file import ConnectionFile
from colab_kernel.errors import MalformedError
from colab_kernel.frontend import Frontend
from colab_kernel.messages import Channel, Message
from colab_magics.daemon.doors import Door, read_door, visitor_lock
from colab_magics.visit.places import Place
from colab_magics.visit.visitor import Visitor

ALONE_S = 60.0
"""How long nobody may listen until the visitor counts as gone, and the job goes on."""

LOOK_MS = 1000
AT_ONCE = 50


def main(argv: Sequence[str] | None = None) -> int:
    """Run until the frontend shuts it down, or the job is over."""
    parser = argparse.ArgumentParser(prog="python -m colab_magics.visit", description=__doc__)
    parser.add_argument("-f", dest="connection_file", type=Path, required=True)
    parser.add_argument("--door", type=Path, required=True, help="the job's door")
    parser.add_argument("--pause", action="store_true", help="stop it wherever it is")
    parser.add_argument("--map", action="append", default=[], metavar="HERE=THERE", help="a folder")
    arguments = parser.parse_args(argv)
    door = read_door(arguments.door)
    folders = [
        Place(here=here, there=there) for here, there in (each.split("=", 1) for each in arguments.map)
    ]
    with visitor_lock(arguments.door).open("w") as lock:
        visitor = Visitor(
            session=uuid.uuid4().hex,
            capabilities=door.capabilities or {},
            places=folders,
            leads=_is_first(lock),
            name=door.name,
        )
        visitor.begin(pause=arguments.pause, now=time.time())
        _Loop(visitor, door, arguments.door, ConnectionFile.read(arguments.connection_file)).run()
    return 0


def _is_first(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class _Loop:
    """One thread, all sockets."""

    def __init__(self, visitor: Visitor, door: Door, path: Path, connection: ConnectionFile) -> None:
        self._visitor, self._door, self._path = visitor, door, path
        self._frontend = Frontend.bind(connection)
        job = ConnectionFile.read(door.connection)
        self._signer = job.signer
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._control = self._connect(zmq.DEALER, job.address(Channel.CONTROL))
        self._iopub = self._connect(zmq.SUB, job.address(Channel.IOPUB))
        self._heard_at = time.monotonic()
        self._noted = 0

    def run(self) -> None:
        """Run until the frontend shuts it down, this process is asked to end, or the job is over."""
        signal.signal(signal.SIGTERM, lambda number, frame: self._visitor.end())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a frontend's interrupt comes as a message
        sockets = self._frontend.sockets()
        poller = zmq.Poller()
        for socket in (self._control, self._iopub, *sockets.values()):
            poller.register(socket, zmq.POLLIN)
        self._learn_the_cell()
        while not self._visitor.is_over and self._path.exists():
            ready = dict(poller.poll(LOOK_MS))
            self._frontend.take_subscriptions()
            for channel in (Channel.CONTROL, Channel.SHELL):
                for identities, message in self._frontend.receive(channel, limit=AT_ONCE):
                    self._visitor.receive_frontend(message, identities=identities, now=time.time())
            for socket, channel in ((self._control, Channel.CONTROL), (self._iopub, Channel.IOPUB)):
                if socket in ready:
                    self._receive_job(socket, channel)
            self._send()
            self._write_down()
            self._watch_for_loneliness()
        if self._path.exists():
            self._visitor.leave(now=time.time())
        else:
            self._visitor.job_has_ended(now=time.time())
        self._send()
        self._frontend.close(linger_s=1.0)
        self._context.destroy(linger=200)

    def _learn_the_cell(self) -> None:
        """Ask the kernel by which names it knows the cell, as it runs and as it stands in the notebook."""
        door = self._door
        if not door.magic:
            return
        names: list[str] = []

        def note(reply: object) -> None:
            body = reply.get("body") if isinstance(reply, dict) else None
            names.append(str((body or {}).get("sourcePath") or ""))
            if len(names) == 2 and all(names):
                self._visitor.add_place(Place(here=names[1], there=names[0], moved=1))

        for code in (door.cell, f"{door.magic}\n{door.cell}"):
            self._visitor.ask_job("dumpCell", {"code": code}, note, now=time.time())

    def _connect(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.rcvhwm = 0
        if kind == zmq.SUB:
            socket.subscribe(b"")
        socket.connect(address)
        return socket

    def _receive_job(self, socket: zmq.Socket[bytes], channel: Channel) -> None:
        for _ in range(AT_ONCE):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                _, message = zmq_wire.parse(frames, channel=channel, signer=self._signer)
                self._visitor.receive_job(message, now=time.time())
            except MalformedError:
                continue

    def _send(self) -> None:
        due = self._visitor.take_due()
        for message in due.to_job:
            self._control.send_multipart(self._framed(message))
        for message, identities in due.to_frontend:
            self._frontend.send(message, identities=identities)

    def _framed(self, message: Message) -> list[bytes]:
        return [bytes(frame) for frame in zmq_wire.serialize(message, signer=self._signer)]

    def _write_down(self) -> None:
        """Say in the job's folder what a visitor did; the job's record will have it."""
        new = self._visitor.visits[self._noted :]
        self._noted += len(new)
        for visit in new:
            told = {"at": time.time(), "who": visit.who, "what": visit.what}
            descriptor = os.open(self._door.visits, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(json.dumps(told) + "\n")

    def _watch_for_loneliness(self) -> None:
        now = time.monotonic()
        if self._frontend.subscribers > 0:
            self._heard_at = now
        elif now - self._heard_at > ALONE_S:
            self._heard_at = now
            self._visitor.leave(now=time.time())


if __name__ == "__main__":
    sys.exit(main())
