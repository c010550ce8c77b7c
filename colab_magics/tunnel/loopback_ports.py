"""Ports of this machine's loopback that take this user's connections only."""

from __future__ import annotations

import socket

from colab_magics.errors import UsageError
from colab_magics.tunnel.loopback_peers import is_ours
from colab_magics.tunnel.plan import Say


def listen(port: int) -> socket.socket:
    """A listening socket on loopback. UsageError: the port cannot be had."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        listener.setblocking(False)
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"port {port} of this machine cannot be had ({why}): name another") from error
    return listener


def accept_ours(listener: socket.socket, *, say: Say) -> socket.socket | None:
    """A connection that waits at a port, blocking; None if it has gone again, or is somebody else's.

    Args:
        say: where it is told that somebody else was refused.
    """
    try:
        accepted, _ = listener.accept()
        accepted.setblocking(True)
        if is_ours(accepted):
            return accepted
    except OSError:
        return None
    accepted.close()
    say(f"somebody else on this machine tried port {listener.getsockname()[1]}: refused")
    return None
