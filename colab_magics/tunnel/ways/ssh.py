"""A machine that `ssh` reaches: a private Jupyter Server there, and a forward to it that mends itself.

The connection belongs to a keeper, a process of its own, so that the session outlives whoever opened it.
"""

from __future__ import annotations

import json
import os
import platform
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from colab_kernel import sessions
from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.errors import TunnelError
from colab_magics.posix import need_posix
from colab_magics.tunnel import book
from colab_magics.tunnel.kept import OPEN, Folder, Kept, drop_control, make_control
from colab_magics.tunnel.plan import Plan, Reached
from colab_magics.tunnel.server_facts import ServerFacts, parse_facts
from colab_magics.tunnel.signals import signals_later
from colab_magics.tunnel.ssh_link import LinkLostError, SshLink, destination_of, wait_for_answer
from colab_magics.tunnel.ssh_script import script
from colab_magics.tunnel.targets import Ssh
from colab_magics.tunnel.tokens import with_token

PORTS = range(20000, 32000)
"""Below those that systems give out by themselves: a client that tries again and again while nobody listens
could otherwise be given the very port it tries, and would connect to itself.

Source: https://www.kernel.org/doc/html/latest/networking/ip-sysctl.html (ip_local_port_range)
"""

GONE_AFTER_S = 3600.0
"""How long the proxy kernel waits for the forward to come back: as long as an unused server stays."""

T = TypeVar("T")

ANSWER_S = 5.0
CLOSE_S = 40.0


def open(target: Ssh, plan: Plan, *, name: str) -> tuple[Runtime, dict[str, Any]]:
    """Find or start the server there, or take the one that is meant; have a port here that leads to it."""
    _need_posix()
    if target.to is not None:
        return _open_what_is_there(target, plan, name=name, to=target.to)
    folder = Folder.of(name)

    def find(kept: Kept) -> tuple[int, ServerFacts]:
        facts = _open_there(kept, plan)
        return facts.port, facts

    with folder.locked():
        found = _as_it_is(folder, plan)
        if found is None:
            before = folder.kept()
            server = before.server if before else _server_name(name)
            found = _anew(folder, target, plan, server=server, find=find)
    facts, kept = found
    runtime = facts.runtime(name, port=kept.local_port)
    return replace(runtime, gone_after_s=GONE_AFTER_S), {}


def lead(target: Ssh, plan: Plan, *, name: str, to: int) -> int:
    """Have a port here that leads to one of a machine where nothing is started, such as a relay; the port.

    It mends itself as a session's does, until `let_go`.

    Raises:
        TunnelError: it cannot be reached, or nobody answers HTTP there.
        UsageError: this machine is Windows.
    """
    _need_posix()
    folder = Folder.of(name)
    with folder.locked():
        kept = folder.kept()
        is_it = kept is not None and (kept.server, kept.remote_port) == ("", to)
        if kept is None or not is_it or folder.state().state != OPEN:
            _, kept = _anew(folder, target, plan, server="", find=lambda kept: (to, None))
    return kept.local_port


def let_go(name: str) -> None:
    """End what `lead` began."""
    folder = Folder.of(name)
    with folder.locked():
        folder.end()


def close(reached: Reached) -> str | None:
    """End the server there, the forward and its keeper; a sentence, if it could not all be."""
    folder = Folder.of(reached.name)
    with folder.locked():
        kept = folder.kept()
        note = _close_there(kept) if kept is not None and kept.server else None
        folder.end()
    return note


def state(reached: Reached) -> str:
    """As the keeper says; why, where it is not open."""
    found = Folder.of(reached.name).state()
    return f"{found.state} ({found.reason})" if found.reason else found.state


def _need_posix() -> None:
    need_posix(
        "a session over ssh",
        instead="`ssh -L` in a window of its own, and `%colab_tunnel` with the address of its port",
    )


# --- opening -----------------------------------------------------------------------------------------------


def _open_what_is_there(target: Ssh, plan: Plan, *, name: str, to: int) -> tuple[Runtime, dict[str, Any]]:
    """Lead to a server that somebody else has started; its token is known from last time, or asked for."""
    before = book.load().get(name)
    known = sessions.load().runtimes if before is not None and before.target == str(target) else ()
    token = next((each.token for each in known if each.name == name), TokenSource())
    port = lead(target, plan, name=name, to=to)
    try:
        runtime = Runtime(name=name, url=f"http://127.0.0.1:{port}", token=token, gone_after_s=GONE_AFTER_S)
        return with_token(runtime, plan, target=target), {}
    except BaseException:
        if before is None:
            let_go(name)
        raise


def _as_it_is(folder: Folder, plan: Plan) -> tuple[ServerFacts, Kept] | None:
    """The connection that is kept already, if it leads to a server that runs."""
    kept = folder.kept()
    if kept is None or folder.state().state != OPEN:
        return None
    try:
        facts = _open_there(kept, plan)
    except LinkLostError:
        return None
    return (facts, kept) if facts.port == kept.remote_port else None


def _anew(
    folder: Folder, target: Ssh, plan: Plan, *, server: str, find: Callable[[Kept], tuple[int, T]]
) -> tuple[T, Kept]:
    """Connect, find the port to lead to and whatever comes with it, and have it kept."""
    before = folder.kept()
    folder.end()
    folder.make()
    link = SshLink(destination=destination_of(target), config=plan.ssh_config, control=make_control())
    kept = Kept(
        link=link,
        server=server,
        python=plan.python or "",
        may_ask=_is_at_a_terminal(),
    )
    try:
        folder.write_kept(kept)
        plan.say(f"Connecting to {target} …")
        with _keeper(folder) as keeper:
            port, found = find(kept)
            try:
                at = _forward(link, to=port, wish=before.local_port if before else 0)
            except BaseException:
                if isinstance(found, ServerFacts) and found.is_new:
                    _close_there(kept)
                raise
            kept = replace(kept, remote_port=port, local_port=at)
            keeper.tell(local_port=kept.local_port, remote_port=kept.remote_port)
            keeper.hear()
    except BaseException as error:
        folder.end()
        drop_control(link.control)
        if before is not None:
            folder.put_back(before, str(error) or "opening it again was interrupted")
        raise
    return found, kept


class _Keeper:
    """The keeper, while it is spoken to: one JSON object a line, each way."""

    def __init__(self, folder: Folder) -> None:
        """Start it."""
        # -P: what lies in the person's folder under the name of a module is none.
        command = [sys.executable, "-P", "-m", "colab_magics.tunnel.ssh_keeper", str(folder.path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def tell(self, **content: Any) -> None:
        """Say something to it."""
        self._input.write(json.dumps(content) + "\n")
        self._input.flush()

    def hear(self) -> Any:
        """Wait for its next word. TunnelError: it says that something went wrong, or nothing any more."""
        line = self._output.readline()
        if not line:
            raise TunnelError("the process that keeps the connection ended without a word: try again")
        said = json.loads(line)
        if "error" in said:
            raise TunnelError(said["error"])
        return said

    def part(self) -> None:
        """Say no more. Unless it was told the ports, it ends; this waits for that."""
        with self._process:
            self._input.close()
            self._output.read()


@contextmanager
def _keeper(folder: Folder) -> Iterator[_Keeper]:
    """Start the keeper, wait until it is connected. Unless it was told the ports, it ends with the block."""
    keeper = None
    try:
        with signals_later(signal.SIGINT):
            keeper = _Keeper(folder)
        keeper.hear()
        yield keeper
    finally:
        if keeper is not None:
            keeper.part()


def _open_there(kept: Kept, plan: Plan) -> ServerFacts:
    plan.say("Starting a private Jupyter Server there …")
    printed = kept.link.run(script("open", name=kept.server, python=kept.python))
    return parse_facts(printed, where=kept.link.host)


def _forward(link: SshLink, *, to: int, wish: int) -> int:
    """Have a free port of this machine lead there; the one of last time, if it is free."""
    tries = [wish] if wish else []
    tries += random.sample(PORTS, 20)
    for port in tries:
        if _is_free(port):
            try:
                link.forward(port, to=to)
            except LinkLostError:
                raise
            except TunnelError:
                continue  # somebody was faster
            if wait_for_answer(port, timeout_s=ANSWER_S):
                return port
            raise TunnelError(
                f"{link.host} lets ssh in, but nothing comes through to the server there: does its sshd "
                "allow TCP forwarding (AllowTcpForwarding, and permitopen of your key)?"
            )
    raise TunnelError(f"no port of this machine between {PORTS.start} and {PORTS.stop} is free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has just ended is no hindrance
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _server_name(name: str) -> str:
    """What the server is called there: other machines of the same person have others."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}-for-{platform.node() or 'somebody'}")[:100]


def _is_at_a_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False


# --- closing -----------------------------------------------------------------------------------------------


def _close_there(kept: Kept) -> str | None:
    words = script("close", name=kept.server, python=kept.python)
    for run in (kept.link.run, kept.link.run_apart):
        try:
            printed = run(words, timeout_s=CLOSE_S)
        except TunnelError:
            continue
        if '"was_open"' in printed:
            return None
    return (
        f"{kept.link.host} was not reached: the private server there ends by itself after an hour without use"
    )
