"""A session offered from a notebook's cell, such as one on Colab: open while the cell runs."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from colab_magics.daemon.exposure import Exposure, parse_exposure
from colab_magics.daemon.offer import Offer
from colab_magics.errors import UsageError
from colab_magics.tunnel.terms import TERMS

TOKEN_VARIABLE = "COLAB_TUNNEL_TOKEN"  # noqa: S105
LOOK_S = 1.0


def offer_in_notebook(
    *,
    expose: str,
    token: str | None,
    port: int | None = None,
    idle_stop_min: float = 30.0,
    release_runtime: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Offer a session with this machine until nobody has used it for a while, or the cell is stopped.

    Args:
        expose: how it is reached: `url:https://…`, a tunnel that you run; `ssh:USER@RELAY`, a relay that you
            have; `loopback`, from this machine only.
        token: what lets in; you type it on the other side. It is shown nowhere.
        port: the port of this machine that your tunnel leads to; needed for `url:`.
        idle_stop_min: minutes without use after which it ends.
        release_runtime: give Colab's machine back after an end that nobody asked for, since an idle one goes
            on costing.

    Raises:
        UsageError: what was given has not its form.
        TunnelError: the server could not be started, or the relay not be used.
    """
    say(TERMS)
    say(_gpus())
    if not token:
        raise UsageError(
            f"no token was given: put a long random text into Colab's secrets as {TOKEN_VARIABLE}, allow "
            "this notebook to read it, and run all cells again"
        )
    exposure = parse_exposure(expose, port=port or None)
    offer = Offer(
        exposure,
        worker="notebook",
        python=Path(sys.executable),
        environment={name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE},
        idle_stop_min=idle_stop_min,
        token=token,
    )
    was_stopped = False
    try:
        told = offer.open(owner_pid=os.getpid())
        for line in how_to_open(exposure, told):
            say(line)
        say("The session is open while this cell runs. Stop the cell to end it.")
        while offer.is_open:
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        was_stopped = True
    finally:
        offer.close()
        if release_runtime and not was_stopped:
            release()
    say("Stopped." if was_stopped else f"It ended: nobody had used it for {idle_stop_min:g} minutes.")


def how_to_open(exposure: Exposure, told: dict[str, Any]) -> list[str]:
    """What to type on the other side. The token is not in it: it is asked for there."""
    if exposure.kind == "url":
        return [
            "Paste this into your own notebook; it asks for the token:",
            f"    %colab_tunnel {exposure.url}",
        ]
    port = told["port"]
    line = f"    %colab_tunnel http://127.0.0.1:{port}"
    if exposure.kind == "loopback":
        return ["Paste this into a notebook on this machine; it asks for the token:", line]
    at = f" -p {exposure.relay_port}" if exposure.relay_port else ""
    return [
        "In a terminal of your own machine, and leave it open:",
        f"    ssh -N{at} -L {port}:127.0.0.1:{port} {exposure.relay}",
        "Then paste this into your own notebook; it asks for the token:",
        line,
    ]


def trust_relay(*, key: str | None, host_key: str | None, folder: Path | None = None) -> None:
    """Have what `ssh` needs for a relay: your key for it, and the key by which it is known.

    Args:
        key: a private key; host_key: a line of known_hosts. None leaves what is there.
        folder: ssh's; `~/.ssh` unless given.
    """
    folder = Path.home() / ".ssh" if folder is None else folder
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, text in (("id_ed25519", key), ("known_hosts", host_key)):
        path = folder / name
        known = path.read_text() if path.exists() else ""
        if not text or text.strip() in known:
            continue
        if known and name == "id_ed25519":
            raise UsageError(f"{path} is another key already: remove it, or use that one")
        path.touch(mode=0o600)
        path.write_text(f"{known}{text.strip()}\n")


def _gpus() -> str:
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        found = [] if done.returncode else [line.strip() for line in done.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.TimeoutExpired):
        found = []
    if not found:
        return "This machine has NO GPU. On Colab: Runtime → Change runtime type, then run all cells again."
    return f"GPU: {'; '.join(found)}"


def release() -> None:
    """Give the machine back, where it is Colab's.

    Not tried on a live runtime.
    Source: google.colab.runtime.unassign, https://github.com/googlecolab/colabtools
    """
    try:
        runtime = importlib.import_module("google.colab.runtime")
    except ImportError:
        return
    runtime.unassign()
