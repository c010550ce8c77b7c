"""What the relay tells people, a sentence or two each: what happened, and what to do."""

from __future__ import annotations

DIED = "The remote kernel died, and what it held in memory is gone. Restart the kernel to go on with another."

REPLACED = (
    "The remote kernel was shut down or restarted by somebody else or by its server (it was idle for too "
    "long, or the server itself ended), and what it held in memory is gone. Restart the kernel to go on with "
    "another."
)

INTERRUPTED_EARLY = "Interrupted before there was a kernel to run this."

LOST_REPLY = (
    "The remote kernel has worked on this, but its answer was lost with the connection, and what it printed "
    "meanwhile may be as well. It was not run again."
)

NO_REPLY = "The remote kernel's debugger gave no answer to this."


def too_large(size_bytes: int, *, limit_bytes: int) -> str:
    """A message that the runtime's server would not take."""
    return (
        f"This message is {size_bytes / 2**20:.1f} MiB long, and the runtime's server takes "
        f"{limit_bytes / 2**20:.1f} MiB at most, so it was not sent. Send less at a time."
    )


def missing(count: int) -> str:
    """Messages that never arrived."""
    return (
        f"The connection was interrupted: about {count} messages of the remote kernel, its output for the "
        "most part, were lost. What it holds in memory is whole."
    )
