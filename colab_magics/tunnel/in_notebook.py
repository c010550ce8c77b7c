"""A session with this notebook's machine: a private server, the way to it that its owner chose, its state."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from colab_kernel.opening import is_this_machine
from colab_magics.daemon.exposure import Exposure
from colab_magics.daemon.in_notebook import give_machine_back
from colab_magics.daemon.offer import Offer
from colab_magics.daemon.service import job_environment
from colab_magics.daemon.telemetry import describe_gpu
from colab_magics.display.formats import format_bytes, format_duration
from colab_magics.display.live import LiveDisplay
from colab_magics.display.watching import Lines
from colab_magics.errors import UsageError
from colab_magics.tunnel.targets import Ssh, Url, parse_target
from colab_magics.tunnel.terms import TERMS

TOKEN_NAME = "COLAB_TUNNEL_TOKEN"  # noqa: S105
KEY_NAME = "COLAB_RELAY_KEY"
OWN = frozenset({TOKEN_NAME, KEY_NAME})
"""What the owner's kernels do not find in their environment."""

KEY_KINDS = ("ssh-", "ecdsa-", "sk-")
LOOK_S = 2.0
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How the owner of this machine wants it to be reached; `relay` or `address` is set, and not both.

    Attributes:
        token: what lets in, of the owner's own choosing.
        relay: a host of theirs, USER@HOST:PORT, that this machine logs in to with `ssh -R`.
        relay_host_key: the relay's public host key; empty: it is in known_hosts.
        relay_key: a private key that the relay lets in; empty: ssh finds one by itself.
        address: where a tunnel of theirs begins, https://…, that ends at `port` of this machine.
    """

    token: str | None = field(repr=False)
    relay: str = ""
    relay_host_key: str = ""
    relay_key: str | None = field(default=None, repr=False)
    address: str = ""
    port: int = 0


def offer_in_notebook(wish: Wish, *, idle_stop_min: float = 30, release: bool = False) -> None:
    """Let the owner in until nobody came for long enough, or the cell is stopped.

    Args:
        idle_stop_min: minutes after the last use.
        release: give Colab's machine back after an end that nobody asked for: an idle one goes on costing.

    Raises:
        UsageError: something is missing, or is none; the sentence says what to do.
        TunnelError: the server did not start, or the relay cannot be used.
    """
    print(f"{TERMS}\n")  # noqa: T201
    exposure = _exposure_of(wish)
    if not wish.token:
        raise UsageError(
            f"there is no token: put a random one under {TOKEN_NAME} into Colab's secrets (the key icon on "
            "the left) and let this notebook read it; on your own machine `python -c 'import secrets; "
            "print(secrets.token_urlsafe())'` makes one"
        )
    print(_gpu_line())  # noqa: T201
    environment = {name: value for name, value in job_environment(os.environ).items() if name not in OWN}
    with _login(wish) as options:
        offer = Offer(
            exposure,
            worker="notebook",
            python=Path(sys.executable),
            environment=environment,
            idle_stop_min=idle_stop_min,
            token=wish.token,
            root=Path.cwd(),
            relay_options=options,
        )
        _serve(offer, wish.token, idle_stop_min=idle_stop_min, release=release)


def _serve(offer: Offer, token: str, *, idle_stop_min: float, release: bool) -> None:
    display = LiveDisplay()
    stopped = False
    try:
        told = offer.open(owner_pid=os.getpid())
        print(  # noqa: T201
            "\nOn your own machine, in a notebook or with `jupyter colab tunnel` in a terminal:\n\n"
            f"    %colab_tunnel {_target(told)}\n\n"
            f"It asks for the token: the one that you put under {TOKEN_NAME}."
        )
        began = time.time()
        while offer.is_open:
            display.update(_status(offer.port, token, began=began, idle_stop_min=idle_stop_min))
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        stopped = True
    finally:
        offer.close()
        display.close()
    if stopped:
        print("Stopped. The session is closed; the machine stays.")  # noqa: T201
        return
    print(f"Nobody used the session for {format_duration(60 * idle_stop_min)}: it is closed.")  # noqa: T201
    if release:
        give_machine_back()


# --- what the form says ------------------------------------------------------------------------------------


def _exposure_of(wish: Wish) -> Exposure:
    if bool(wish.relay) == bool(wish.address):
        raise UsageError(
            "say how this machine is reached: fill in RELAY, a host of yours that ssh reaches, or ADDRESS, "
            "where a tunnel of yours begins, and run that cell again"
        )
    if wish.relay:
        target = parse_target(f"ssh://{wish.relay.removeprefix('ssh://')}")
        if not isinstance(target, Ssh) or target.to is not None:
            raise UsageError("RELAY has the form USER@HOST or USER@HOST:PORT")
        at = f"{target.user}@" if target.user else ""
        return Exposure(kind="ssh", relay=f"{at}{target.host}", relay_port=target.port)
    address = parse_target(wish.address)
    if not isinstance(address, Url) or address.token:
        raise UsageError("ADDRESS is the https:// address of your tunnel, without a token in it")
    host = address.url.split("://", 1)[1].split("/")[0].rpartition(":")[0]
    if not address.url.startswith("https://") and not is_this_machine(host):
        raise UsageError("ADDRESS begins with https://: your token goes there, and others may listen")
    if not 0 < wish.port < 65536:
        raise UsageError("ADDRESS needs PORT: the port of this machine that your tunnel leads to")
    return Exposure(kind="url", url=address.url, port=wish.port)


@contextmanager
def _login(wish: Wish) -> Iterator[list[str]]:
    """The options of ssh for the key and the host key that were given, in files of this process alone."""
    with tempfile.TemporaryDirectory(prefix="colab-relay-") as folder:
        options = []
        for text, name, option in (
            (wish.relay_key, "key", "IdentityFile"),
            (_known_host(wish), "known_hosts", "UserKnownHostsFile"),
        ):
            if text:
                path = Path(folder) / name
                path.touch(mode=0o600)
                path.write_text(f"{text.strip()}\n")
                options.append(f"{option}={path}")
        yield options + (["IdentitiesOnly=yes"] if wish.relay_key else [])


def _known_host(wish: Wish) -> str:
    """The line of known_hosts that a host key means. UsageError: it is none."""
    words = wish.relay_host_key.split()
    if not words:
        return ""
    # As `ssh-keyscan` prints it, with the host's name, or as the file on the host has it.
    at = 0 if words[0].startswith(KEY_KINDS) else 1
    kind, key = [*words[at : at + 2], "", ""][:2]
    if not key or not kind.startswith(KEY_KINDS):
        raise UsageError(
            "RELAY_HOST_KEY is what /etc/ssh/ssh_host_ed25519_key.pub of the relay says: ssh-ed25519 AAAA…"
        )
    return f"* {kind} {key}"


# --- what is shown -----------------------------------------------------------------------------------------


def _gpu_line() -> str:
    gpu = describe_gpu(os.environ.get("CUDA_VISIBLE_DEVICES"))
    if gpu is None:
        return (
            "No GPU here: kernels will run on the CPU. On Colab, Runtime → Change runtime type gives one; "
            "then run all cells again."
        )
    return f"GPU: {gpu['name']}, {format_bytes(gpu['memory_bytes'])}"  # type: ignore[arg-type]


def _target(told: dict[str, Any]) -> str:
    """What is typed behind `%colab_tunnel` to come here."""
    if "relay" in told:
        port = f":{told['relay_port']}" if told["relay_port"] else ""
        return shlex.quote(f"ssh://{told['relay']}{port}/{told['port']}")
    return shlex.quote(str(told["url"]))


def _status(port: int | None, token: str, *, began: float, idle_stop_min: float) -> Lines:
    now = time.time()
    open_for = f"● open for {format_duration(60 * ((now - began) // 60))}"
    stops = f"stops after {format_duration(60 * idle_stop_min)} without use, or with the stop button"
    try:
        found = _ask_status(port, token)
        used_s = max(0.0, now - datetime.fromisoformat(found["last_activity"]).timestamp())
        kernels, connections = int(found["kernels"]), int(found["connections"])
    except (OSError, LookupError, TypeError, ValueError):
        return Lines((f"{open_for} · {stops}",))
    used = f"last used {format_duration(60 * (used_s // 60))} ago" if used_s >= 60 else "in use"
    counts = f"{kernels} kernel{'s' * (kernels != 1)}, {connections} connected"
    return Lines((f"{open_for} · {counts} · {used} · {stops}",))


def _ask_status(port: int | None, token: str) -> dict[str, Any]:
    """What the server says of itself; asking is not counted as use.

    Source: jupyter_server/services/api/handlers.py (APIStatusHandler, _track_activity)
    """
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/status", headers={"Authorization": f"token {token}"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=ANSWER_S) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found
