"""The machine of a daemon of this repository: asked over Git, answered with what only the asker can read."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from colab_kernel import sessions
from colab_kernel.errors import KernelError
from colab_kernel.link_watch import Reach
from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.errors import CorruptError, StoreError, TunnelError, UnreachableError, UsageError
from colab_magics.jobs.asking import LIFE_S, Answer, Ask
from colab_magics.jobs.codec import Live
from colab_magics.settings import Settings
from colab_magics.store.git_names import is_on_this_machine
from colab_magics.store.locate import Queue, find_project, mailbox_of, remote_queue
from colab_magics.store.mailbox import Mailbox
from colab_magics.tunnel import book, official_port, official_state, sealing
from colab_magics.tunnel.kept import OPEN, Folder
from colab_magics.tunnel.plan import Plan, Reached
from colab_magics.tunnel.servers import server_of
from colab_magics.tunnel.ssh_link import answers
from colab_magics.tunnel.targets import Daemon, Ssh, parse_target
from colab_magics.tunnel.terms import TERMS
from colab_magics.tunnel.ways import ssh

PATIENCE_S = 120.0
"""How long an answer may take: the daemon's next look, its push budget, and the start of a server."""

SILENT_S = 300.0
"""A daemon that was silent for so long is asked only if it is named: ten times the longest heartbeat, by two
clocks, which may differ."""

END_S = 10.0
"""How long `close` waits for the server there to be gone."""

REACHED = ("loopback", "url", "ssh", "colab")
"""The ways that this release follows."""

ALLOW = (
    "`--expose loopback`, `url:https://…`, `ssh:USER@RELAY` or `colab:SESSION` with `jupyter colab daemon` "
    "allows it"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A queue, its daemons' signs of life as of `now`, and where they are asked."""

    queue: Queue
    mailbox: Mailbox
    lives: Mapping[str, Live]
    now: float

    @property
    def living(self) -> list[str]:
        """Those that were heard of lately."""
        return [worker for worker, live in sorted(self.lives.items()) if self.now - live.at < SILENT_S]

    @property
    def offering(self) -> list[str]:
        """Those of them that offer a session which can be reached from here."""
        lives = {worker: self.lives[worker] for worker in self.living}
        return [worker for worker, live in lives.items() if live.expose and _is_within_reach(live)]

    @property
    def listed(self) -> str:
        """All of them, for a person."""
        return ", ".join(self._told(worker) for worker in sorted(self.lives))

    def _told(self, worker: str) -> str:
        live = self.lives[worker]
        silent = "" if worker in self.living else f", silent for {(self.now - live.at) / 60:.0f} min"
        return f"{worker} ({live.expose or 'offers no session'}{silent})"


def find(plan: Plan) -> Found:
    """Look for the daemons of the repository that the plan's folder is in.

    Raises:
        ColabError: there is no repository, no remote, or nobody answers.
    """
    settings = Settings.from_env()
    repository = find_project(plan.folder)
    queue = remote_queue(repository, plan.remote or settings.remote, branch=plan.branch or settings.branch)
    lives = queue.store.refresh().lives
    return Found(queue, mailbox_of(repository, queue), lives, time.time())


def open(target: Daemon, plan: Plan, *, name: str) -> tuple[Runtime, dict[str, Any]]:
    """Ask the daemon for a session, and wait for its answer."""
    plan.say("Looking for the daemons of this repository …")
    found = find(plan)
    worker = _chosen(found, target)
    content = _ask(found, worker, plan)
    if "error" in content:
        raise TunnelError(f"the daemon {worker} answered: {content['error']}")
    try:
        held = {"worker": worker, "pid": int(content["pid"]), "notes": [str(content["note"])]}
        held["began"] = _began(name, content)
        plain = Runtime(
            name=name,
            url="",
            token=TokenSource(value=str(content["token"])),
            kernel_name="python3",
            max_message_bytes=int(content["max_message_bytes"]),
        )
        runtime, way = _led(plain, content, plan)
        return runtime, {**held, **way, "url": runtime.url}
    except (KeyError, TypeError, ValueError) as error:
        raise TunnelError(f"what the daemon {worker} answered is not understood: {error!r}") from error


def close(reached: Reached) -> None:
    """End the server there, if this session began it. One that nobody reaches any more ends by itself."""
    if reached.held.get("began"):
        _shut_down(reached)
    if reached.held.get("is_led"):
        ssh.let_go(reached.name)
    if reached.held.get("official"):
        official_port.forget(reached.name)


def state(reached: Reached) -> str:
    """As the keeper of its forward says, or whether something listens where it is, as far as can be seen."""
    if reached.held.get("is_led") and (kept := Folder.of(reached.name).state()).state != OPEN:
        return f"{kept.state} ({kept.reason})" if kept.reason else kept.state
    if reached.held.get("official"):
        return official_port.state(reached.name)
    parts = urlsplit(str(reached.held.get("url", "")))
    if parts.hostname != "127.0.0.1" or parts.port is None:
        return "open"
    return "open" if answers(parts.port) else "gone"


# --- inside ------------------------------------------------------------------------------------------------


def _chosen(found: Found, target: Daemon) -> str:
    """The daemon that is meant. UsageError: there is none, more than one, or it offers no session."""
    worker = _named(found, target.worker) if target.worker else _only(found)
    live = found.lives[worker]
    if not live.expose:
        raise UsageError(f"the daemon {worker} offers no session: its owner did not allow it; {ALLOW}")
    if live.expose not in REACHED:
        raise UsageError(
            f"the daemon {worker} is reached by way of {live.expose}, which this release does not know: "
            "let its owner choose --expose url:https://HOST"
        )
    if not _is_within_reach(live):
        raise UsageError(
            f"the daemon {worker} offers a session to people on its own machine only, "
            f"{live.machine.get('hostname')}: let its owner choose another way than `--expose loopback`"
        )
    return worker


def _named(found: Found, beginning: str) -> str:
    matching = [worker for worker in sorted(found.lives) if worker.startswith(beginning)]
    if not matching:
        there = f"there are {found.listed}" if found.lives else "there is none at all"
        raise UsageError(f"no daemon's name begins with {beginning!r}; {there}")
    if len(matching) > 1 and beginning not in matching:
        raise UsageError(f"{beginning!r} begins several daemons' names: {', '.join(matching)}")
    return beginning if beginning in matching else matching[0]


def _only(found: Found) -> str:
    if not found.living:
        silent = (
            f"; of old there are {found.listed}, and `daemon:ID` asks one all the same" if found.lives else ""
        )
        raise UsageError(
            f"no daemon works on {found.queue.address}: `jupyter colab daemon --repo … --expose …` "
            f"starts one{silent}"
        )
    candidates = found.offering or found.living
    if len(candidates) > 1:
        raise UsageError(f"several daemons work here, {found.listed}: `daemon:ID` says which")
    return candidates[0]


def _is_within_reach(live: Live) -> bool:
    if live.expose != "loopback":
        return live.expose in REACHED
    return live.machine.get("hostname") == socket.gethostname()


def _ask(found: Found, worker: str, plan: Plan) -> dict[str, Any]:
    """Ask, and wait; what was asked and answered is deleted, however it ends."""
    key, now = sealing.Key.new(), time.time()
    ask = Ask(ask_id=uuid.uuid4().hex, worker=worker, key=key.public, at=now, expires_at=now + LIFE_S)
    plan.say(f"Asking the daemon {worker} for a session …")
    answer = None
    try:
        found.mailbox.ask(ask)
        answer = _wait(found, ask)
    finally:
        _clear(found.mailbox, ask, is_answered=answer is not None)
    content = key.open(answer.sealed)
    if (content.get("ask"), content.get("worker")) != (ask.ask_id, worker):
        raise TunnelError(f"the answer belongs to another question than the one to the daemon {worker}")
    return content


def _wait(found: Found, ask: Ask) -> Answer:
    pause_s = 0.1 if is_on_this_machine(found.queue.remote) else 1.0
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            answer = found.mailbox.look(ask.ask_id)
        except UnreachableError:
            answer = None  # it may pass
        except CorruptError as error:
            raise TunnelError(f"the daemon {ask.worker} answered something else: {error}") from error
        if answer is not None and answer.expires_at > time.time():
            return answer
        time.sleep(pause_s)
    raise TunnelError(
        f"the daemon {ask.worker} did not answer in {PATIENCE_S:g} s: is it still running, "
        "of this release, and is its clock right?"
    )


def _clear(mailbox: Mailbox, ask: Ask, *, is_answered: bool) -> None:
    try:
        mailbox.clear(ask.ask_id, is_answered=is_answered)
    except StoreError:
        pass  # both expire, and a daemon deletes them then


def _led(runtime: Runtime, content: Mapping[str, Any], plan: Plan) -> tuple[Runtime, dict[str, Any]]:
    """The runtime with the way to it, as the daemon's owner exposes it, and what ends that way."""
    match content["expose"]:
        case "loopback":
            return replace(runtime, url=f"http://127.0.0.1:{int(content['port'])}"), {}
        case "url" if str(content["url"]).startswith("https://"):
            return replace(runtime, url=str(content["url"])), {}
        case "ssh":
            relay = _relay(str(content["relay"]), content["relay_port"])
            plan.say(f"It is reached through the relay {relay} …")
            port = ssh.lead(relay, plan, name=runtime.name, to=int(content["port"]))
            led = replace(runtime, url=f"http://127.0.0.1:{port}", gone_after_s=ssh.GONE_AFTER_S)
            return led, {"is_led": True}
        case "colab":
            return _led_by_google(runtime, str(content["session"]), int(content["port"]), plan)
        case way:
            raise TunnelError(f"the daemon is reached by {way!r}, which this release does not know")


def _led_by_google(runtime: Runtime, named: str, port: int, plan: Plan) -> tuple[Runtime, dict[str, Any]]:
    """Through the runtime proxy of a session that google-colab-cli has here."""
    plan.say(TERMS)
    tool = official_state.find_tool()
    session = tool.session(named).name
    plan.say(f"It is reached through Google's runtime proxy, as port {port} of colab:{session} …")
    way = official_port.reach(tool, session, port, name=runtime.name)
    led = replace(runtime, url=way.url, proxy_token=way.proxy_token, headers=official_state.HEADERS)
    return led, {"official": session}


def _relay(text: str, port: int | None) -> Ssh:
    user, _, host = text.rpartition("@")
    target = parse_target(f"ssh://{text}" + (f":{int(port)}" if port else ""))
    if not isinstance(target, Ssh) or (target.user or "", target.host) != (user, host):
        raise TunnelError(f"the daemon's relay {text!r} is no machine that ssh could reach")
    return target


def _shut_down(reached: Reached) -> None:
    try:
        runtime = sessions.load().get(reached.name)
        server = server_of(runtime)
        server.shut_down()
        deadline = time.monotonic() + END_S
        while time.monotonic() < deadline and server.is_reachable(timeout_s=2) is Reach.REACHABLE:
            time.sleep(0.05)
    except KernelError:
        pass  # it is gone, or ends with its daemon, or when nobody has used it for a while


def _began(name: str, content: Mapping[str, Any]) -> bool:
    """Whether the server over there is this session's to end: it, or an earlier opening of it, began it."""
    known = book.load().get(name)
    held = known.held if known is not None else {}
    return bool(content["is_new"]) or (held.get("began") is True and held.get("pid") == content["pid"])
