"""What `private_server.py` prints, read on this side, wherever it ran."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.errors import TunnelError

PROGRAM = Path(__file__).with_name("private_server.py")
"""What is run, or sent and run there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """A private server that runs, on the machine where it was asked for.

    Attributes:
        port: on that machine's loopback interface.
        python: the interpreter that it and its kernels run in; root: its folder; host: the machine's name.
        is_new: whether it was started just now.
    """

    port: int
    token: str = field(repr=False)
    pid: int
    root: str
    python: str
    host: str
    max_message_bytes: int
    is_new: bool

    def runtime(self, name: str, *, port: int | None = None) -> Runtime:
        """It as a runtime, reached at a port of this machine (the same, unless another is given)."""
        return Runtime(
            name=name,
            url=f"http://127.0.0.1:{self.port if port is None else port}",
            token=TokenSource(value=self.token),
            kernel_name="python3",
            max_message_bytes=self.max_message_bytes,
        )


def parse_facts(printed: str, *, where: str) -> ServerFacts:
    """Read what `open` printed; what a login shell printed before it is skipped.

    Raises:
        TunnelError: it failed; the sentence is its own, or names what came instead.
    """
    last = printed.strip().splitlines()[-1:] or [""]
    try:
        found = json.loads(last[0])
        if "error" in found:
            raise TunnelError(f"{where}: {found['error']}")
        names = ServerFacts.__slots__
        return ServerFacts(**{name: found[name] for name in names})
    except (ValueError, TypeError, KeyError):
        said = last[0][:200]
        raise TunnelError(f"{where}: the private server could not be started: it said {said!r}") from None
