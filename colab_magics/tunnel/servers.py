"""A session's Jupyter Server by REST: its token is read for each request, and renewed where that can be."""

from __future__ import annotations

from colab_kernel import sessions
from colab_kernel.rest import Server
from colab_kernel.runtime import Runtime


def server_of(runtime: Runtime) -> Server:
    """The server of a runtime, registered or not. Nothing is asked yet."""
    return Server(
        runtime,
        read_token=lambda: sessions.read_token(runtime.token),
        read_proxy_token=lambda: sessions.read_token(runtime.proxy_token),
        renew_token=lambda: sessions.renew_tokens(runtime),
    )
