"""The frontend's side: the five ZMQ sockets that a connection file names, and the signed messages on them.

Nothing here waits, and nothing that somebody sends to these sockets ends them.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Self

import zmq

from colab_kernel import zmq_wire
from colab_kernel.connection_file import ConnectionFile
from colab_kernel.errors import KernelError, MalformedError
from colab_kernel.iopub import BIG_BYTES, STALLED_S, Publisher, send_small
from colab_kernel.messages import Buffer, Channel, Message

_log = logging.getLogger(__name__)

IOPUB_TOPIC = b"kernel"
"""The topic of whatever is sent on iopub without another: frontends subscribe to all topics and read none.

Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html#the-wire-protocol ("In most cases, the
IOPub topics are irrelevant and completely ignored")
"""

_WAITING_MESSAGES = 100  # from each peer; then that peer keeps what it sends
_SMALL_TALK_BYTES = 4096
"""A subscription's topic, a heartbeat's ping; whoever sends more is cut off. libzmq keeps topics in a tree,
one byte a level, and walks it by recursion: a topic of 1 MB is a segmentation fault (2026-11-24, 4.3.5)."""
_REPORT_EVERY_S = 10.0


class Frontend:
    """The sockets of one connection file, for the thread that bound them. Make it by `bind`."""

    def __init__(
        self,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        sockets: Mapping[Channel, zmq.Socket[bytes]],
        publisher: Publisher,
        heartbeat: _Heartbeat,
        signer: zmq_wire.Signer,
    ) -> None:
        self._context = context
        self._sockets = sockets
        self._publisher = publisher
        self._heartbeat = heartbeat
        self._signer = signer
        self._refusals = {channel: _Refusals(channel) for channel in sockets}

    @classmethod
    def bind(cls, connection: ConnectionFile, *, stalled_s: float = STALLED_S) -> Self:
        """Bind all five sockets and start the heartbeat.

        Args:
            connection: where to.
            stalled_s: how long one of several subscribers of iopub may hold up the others.

        Raises:
            KernelError: an address cannot be had. None is bound then.
        """
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        sockets: dict[Channel, zmq.Socket[bytes]] = {}
        try:
            for channel in (Channel.SHELL, Channel.CONTROL, Channel.STDIN):
                sockets[channel] = _router(context)
            sockets[Channel.IOPUB] = context.socket(zmq.XPUB)
            sockets[Channel.IOPUB].maxmsgsize = _SMALL_TALK_BYTES
            publisher = Publisher(sockets[Channel.IOPUB], stalled_s=stalled_s)
            for channel, socket in sockets.items():
                _bind(socket, connection.address(channel), channel=channel)
            heartbeat = _Heartbeat.bind(connection.address(Channel.HB))
        except BaseException:
            context.destroy(linger=0)
            raise
        return cls(
            context=context,
            sockets=sockets,
            publisher=publisher,
            heartbeat=heartbeat,
            signer=connection.signer,
        )

    def sockets(self) -> Mapping[Channel, zmq.Socket[bytes]]:
        """shell, control, stdin and iopub, for a poller.

        POLLIN calls for `receive`, on iopub for `take_subscriptions`. POLLOUT says nothing: see `send`.
        """
        return self._sockets

    @property
    def subscribers(self) -> int:
        """How many subscriptions of iopub there are, as far as `take_subscriptions` has read."""
        return self._publisher.subscribers

    def take_subscriptions(self) -> int:
        """How many have subscribed to iopub since this was asked last."""
        return self._publisher.take_subscriptions()

    def receive(self, channel: Channel, *, limit: int) -> list[tuple[tuple[bytes, ...], Message]]:
        """What has come on a channel, with whom to answer.

        What is not signed with the key, or is no message, or has no header with an id and a type, is dropped
        with a line in the log, and the channel lives on. Other parts are not looked at. Big buffers are views
        of what was received.

        Args:
            channel: shell, control or stdin.
            limit: how many at most, what is dropped included. What is left waits.
        """
        received = []
        for _ in range(limit):
            try:
                frames = self._sockets[channel].recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            try:
                received.append(self._parse([_data(frame) for frame in frames], channel=channel))
            except MalformedError as error:
                self._refusals[channel].report(error, now=time.monotonic())
        return received

    def send(self, message: Message, *, identities: Sequence[bytes] = ()) -> bool:
        """Send a message on its channel.

        Args:
            message: a reply on shell or control, a request on stdin, or anything on iopub.
            identities: the peer, as `receive` gave it; on iopub the topic, if it is to be another.

        Returns:
            False, on iopub only: a subscriber's queue is full, and nothing was sent to anybody. Keep the
            message, stop reading what brings more of them, and try again in a few milliseconds.
        """
        if message.channel is Channel.IOPUB:
            topic = identities or (IOPUB_TOPIC,)
            return self._publisher.send(zmq_wire.serialize(message, signer=self._signer, identities=topic))
        frames = zmq_wire.serialize(message, signer=self._signer, identities=identities)
        socket = self._sockets[message.channel]
        try:
            if sum(map(len, frames)) < BIG_BYTES:
                send_small(socket, frames)
            else:
                socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            _log.info("a message on %s was for a frontend that is gone", message.channel)
        return True

    def close(self, *, linger_s: float) -> None:
        """Close all sockets and end the heartbeat.

        What was sent goes out as long as somebody takes it, for `linger_s` at most; this waits for it.
        """
        self._heartbeat.end()
        for socket in self._sockets.values():
            socket.close(linger=round(1000 * linger_s))
        self._context.term()

    def _parse(self, frames: Sequence[Buffer], *, channel: Channel) -> tuple[tuple[bytes, ...], Message]:
        identities, message = zmq_wire.parse(frames, channel=channel, signer=self._signer)
        if not message.msg_id or not message.msg_type:
            raise MalformedError(f"a message came on {channel} with an empty msg_id or msg_type")
        return identities, message


class _Heartbeat:
    """Sends back whatever comes, in a thread where libzmq runs without Python's lock: nothing here delays it.

    It says that this process lives, and nothing about the runtime.
    Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html#heartbeat-for-kernels
    """

    def __init__(self, *, context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes]) -> None:
        self._context = context
        self._thread = threading.Thread(target=_echo, args=(socket,), name="heartbeat", daemon=True)
        self._thread.start()

    @classmethod
    def bind(cls, address: str) -> Self:
        """Raises KernelError, as `Frontend.bind`."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            socket = _router(context)
            socket.maxmsgsize = _SMALL_TALK_BYTES
            _bind(socket, address, channel=Channel.HB)
        except BaseException:
            context.destroy(linger=0)
            raise
        return cls(context=context, socket=socket)

    def end(self) -> None:
        """End the thread; nothing else ends `zmq.proxy` but the end of its context."""
        self._context.term()
        self._thread.join()


class _Refusals:
    """Says in the log what was dropped on one channel, at most once in a while."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._said_at: float | None = None
        self._unsaid = 0

    def report(self, error: MalformedError, *, now: float) -> None:
        if self._said_at is not None and now - self._said_at < _REPORT_EVERY_S:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more before it)" if self._unsaid else ""
        _log.warning("dropped on %s: %s%s", self._channel, error, more)
        self._said_at, self._unsaid = now, 0


def _router(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """A socket that takes an identity from a peer that comes back with it, and loses no reply to a slow one.

    Source: https://libzmq.readthedocs.io/en/latest/zmq_setsockopt.html (ZMQ_ROUTER_HANDOVER,
    ZMQ_ROUTER_MANDATORY: a peer that is gone is an error; ZMQ_SNDHWM: 0 is no limit)
    """
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.sndhwm = 0
    socket.rcvhwm = _WAITING_MESSAGES
    socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    return socket


def _bind(socket: zmq.Socket[bytes], address: str, *, channel: Channel) -> None:
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        raise KernelError(
            f"the {channel} channel cannot be bound to {address}, as the connection file asks: "
            f"{zmq.strerror(error.errno or 0)}; let the frontend "
            "write another file, or end the program that holds the address"
        ) from error


def _echo(socket: zmq.Socket[bytes]) -> None:
    with socket, contextlib.suppress(zmq.ContextTerminated):
        zmq.proxy(socket, socket)


def _data(frame: zmq.Frame) -> Buffer:
    """A frame's bytes; if there are many, a view of them, which keeps the frame alive."""
    return frame.bytes if len(frame) < BIG_BYTES else frame.buffer
