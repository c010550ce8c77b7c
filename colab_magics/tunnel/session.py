"""Sessions, opened by a target and closed: each is a runtime, a kernelspec, and a line in the book."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colab_kernel import install, sessions
from colab_kernel.addresses import name_after
from colab_kernel.errors import KernelError
from colab_kernel.runtime import Runtime
from colab_magics.errors import StoreError, TunnelError, UsageError
from colab_magics.tunnel import book, project
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.plan import Plan, Reached, Way
from colab_magics.tunnel.project import Synced
from colab_magics.tunnel.servers import server_of
from colab_magics.tunnel.targets import FORMS, Daemon, Local, Official, Ssh, Target, Url, parse_target
from colab_magics.tunnel.ways import daemon, job, local, official, ssh, url

WAYS: Mapping[str, Way] = {
    "colab": official, "daemon": daemon, "job": job, "local": local, "ssh": ssh, "url": url,
}  # fmt: skip

_KINDS: Mapping[type[Target], str] = {
    Local: "local", Url: "url", Ssh: "ssh", Official: "colab", Daemon: "daemon",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open session.

    Attributes:
        runtime: how the proxy kernel reaches it.
        kernel_name, display_name: its kernelspec's, as Jupyter names and as people see it.
        facts: what the machine is, as `far/facts.py` says; empty if it was not asked.
        synced: what was brought there, if a project was.
    """

    reached: Reached
    runtime: Runtime
    kernel_name: str
    display_name: str
    facts: Mapping[str, Any]
    synced: Synced | None = None

    @property
    def name(self) -> str:
        """What `close` and the other verbs call it."""
        return self.reached.name


def usual_target(plan: Plan) -> Target:
    """What is meant where no target is given: the daemon that offers a session, else what is registered.

    Raises:
        UsageError: there is nothing, or several; the sentence lists them.
    """
    offering = _offering(plan)
    if len(offering) == 1:
        return Daemon()  # of several that live, it is the one that offers something
    known = book.load()
    runtimes = sessions.load().runtimes
    if len(runtimes) == 1 and not offering:
        [one] = runtimes
        return parse_target(known[one.name].target) if one.name in known else Url(one.url, "", one.auth)
    choice = [str(Daemon(worker)) for worker in offering]
    choice += [known[one.name].target if one.name in known else one.url for one in runtimes]
    if not choice:
        raise UsageError(
            "no daemon of this repository offers a session, and no server is registered: "
            f"`%colab_tunnel TARGET` opens one, TARGET being {FORMS}"
        )
    raise UsageError(f"several machines could be meant: {', '.join(choice)}; say which")


def open_session(target: Target, plan: Plan) -> Session:
    """Reach a machine, see that it works, and put its kernel into every kernel picker.

    Raises:
        ColabError: it could not be reached, or would not work; nothing of it stays.
    """
    kind = _KINDS[type(target)]
    name = _checked(plan.name or _name_for(target))
    known = book.load().get(name)
    if known is not None and known.target != str(target):
        raise UsageError(
            f"a session {name!r} is open already, with {known.target}: choose another name with --name, "
            f"or `%colab_tunnel close {name}` first"
        )
    way = WAYS[kind]
    runtime, held = way.open(target, plan, name=name)
    reached = Reached(name=name, target=str(target), kind=kind, held=held)
    try:
        runtime, facts, synced = _look(_with_known_roots(runtime), plan, kind=kind)
        session = replace(_register(reached, runtime, facts), synced=synced)
    except BaseException:
        if known is None:
            way.close(reached)
        raise
    return session


def open_sessions() -> list[Reached]:
    """The sessions that are open. TunnelError: see `book.load`."""
    return list(book.load().values())


def is_open(reached: Reached) -> bool:
    """Whether nobody has closed a session; if that cannot be known at the moment, nobody has."""
    try:
        return reached.name in book.load()
    except TunnelError:
        return True


def the_session(name: str | None) -> tuple[Reached, Runtime]:
    """The session of that name; without one, the only one, or the one whose runtime is current.

    Raises:
        UsageError: there is none, or several; the sentence lists them.
    """
    known = book.load()
    current = sessions.load().current
    if name is None and len(known) > 1 and current in known:
        name = current
    if name is None and len(known) == 1:
        [name] = known
    if name is None or name not in known:
        listed = ", ".join(f"{one.name} ({one.target})" for one in known.values())
        missing = f"there is no session {name!r}" if name else "no session is meant"
        if not known:
            raise UsageError(f"no session is open: `%colab_tunnel TARGET` opens one, TARGET being {FORMS}")
        raise UsageError(f"{missing}; open are {listed}: say which")
    try:
        return known[name], sessions.load().get(name)
    except KernelError as error:
        raise TunnelError(f"{error}; or `%colab_tunnel close {name}`") from error


def sync_session(reached: Reached, runtime: Runtime, plan: Plan) -> tuple[Synced, Runtime]:
    """Have both sides agree on the session's project, or on the plan's; remember where it is.

    Raises:
        ColabError: see `project.sync`.
    """
    if plan.project is None and runtime.local_root is not None:
        plan = replace(plan, project=Path(runtime.local_root))
    with Hand.open(runtime) as hand:
        runtime, synced = _bring(hand, runtime, plan, kind=reached.kind)
    try:
        sessions.save_runtime(runtime, make_current=False)
    except KernelError as error:
        raise TunnelError(str(error)) from error
    return synced, runtime


def display_name_of(name: str) -> str:
    """What a session's kernel is called in every picker."""
    return f"Colab GPU — {name}"


def close_session(reached: Reached) -> str | None:
    """End what the session began, and forget it: its runtime, its token, its kernelspec.

    Returns:
        A sentence, if something of it ends only later.

    Raises:
        ColabError: what was begun could not be ended; the session stays in the book.
    """
    for each in open_sessions():
        if each.held.get("session") == reached.name:
            close_session(each)
    note = WAYS[reached.kind].close(reached)
    try:
        sessions.forget(reached.name)
        install.uninstall(_kernel_name(reached.name))
    except install.KernelspecError:
        pass  # somebody has removed it
    except KernelError as error:
        raise TunnelError(str(error)) from error
    book.forget(reached.name)
    return note


def state_of(reached: Reached) -> str:
    """How a session is, in a few words."""
    return WAYS[reached.kind].state(reached)


# --- inside ------------------------------------------------------------------------------------------------


def _offering(plan: Plan) -> list[str]:
    """The daemons that offer a session. Where there is no repository, or nobody answers, there are none."""
    try:
        return daemon.find(plan).offering
    except (UsageError, StoreError):
        return []


def _name_for(target: Target) -> str:
    known = {one.target: one.name for one in book.load().values()}
    if str(target) in known:
        return known[str(target)]
    taken = {one.name for one in sessions.load().runtimes}
    match target:
        case Url():
            registered = {one.url: one.name for one in sessions.load().runtimes}
            return registered.get(target.url) or name_after(target.url, taken=taken)
        case Ssh():
            return name_after(f"ssh://{target.host}" + (f":{target.to}" if target.to else ""), taken=taken)
        case Official():
            return target.session or "colab"
        case Daemon():
            return f"daemon-{target.worker}" if target.worker else "daemon"
        case Local():
            return "local"


def _checked(name: str) -> str:
    """The name, if it is one: folders and kernelspecs are called by it. UsageError: it is none."""
    try:
        return sessions.checked(Runtime(name=name, url="http://127.0.0.1")).name
    except KernelError as error:
        raise UsageError(str(error)) from error


def _with_known_roots(runtime: Runtime) -> Runtime:
    """A session that is opened again keeps its project."""
    for known in sessions.load().runtimes:
        if known.name == runtime.name:
            return replace(runtime, local_root=known.local_root, remote_root=known.remote_root)
    return runtime


def _bring(hand: Hand, runtime: Runtime, plan: Plan, *, kind: str) -> tuple[Runtime, Synced]:
    """Bring a project; without one in the plan, that of the person's folder."""
    repository = project.project_at(plan.project or plan.folder)
    root = plan.remote_root
    if root is None and runtime.local_root == str(repository.work_tree):
        root = runtime.remote_root
    where = Path(root or project.default_root(repository)).expanduser().resolve()
    if kind == "local" and repository.work_tree and where.is_relative_to(repository.work_tree.resolve()):
        raise UsageError(f"{where} is inside the project itself: name a folder elsewhere with --remote-root")
    synced = project.sync(
        hand, repository, remote_root=root, accept=plan.yes, max_file_bytes=plan.max_file_bytes, say=plan.say
    )
    return replace(runtime, local_root=str(synced.local_root), remote_root=synced.remote_root), synced


def _look(runtime: Runtime, plan: Plan, *, kind: str) -> tuple[Runtime, Mapping[str, Any], Synced | None]:
    """See that the machine lets us in and runs code; ask what it is; bring the project, if there is one."""
    try:
        runtime = sessions.checked(runtime)
        if not server_of(runtime).probe().is_python(runtime.kernel_name):
            raise TunnelError(f"{runtime.url} is a Jupyter Server without a kernel for Python")
    except KernelError as error:
        raise TunnelError(str(error)) from error
    with Hand.open(runtime) as hand:
        hand.load("facts")
        facts = hand.ask("facts").content
        if plan.project is None:
            return runtime, facts, None
        runtime, synced = _bring(hand, runtime, plan, kind=kind)
        return runtime, facts, synced


def _register(reached: Reached, runtime: Runtime, facts: Mapping[str, Any]) -> Session:
    kernel_name, display_name = _kernel_name(reached.name), display_name_of(reached.name)
    try:
        sessions.save_runtime(runtime)
        install.install(kernel_name, display_name=display_name, runtime_name=runtime.name)
    except KernelError as error:
        raise TunnelError(str(error)) from error
    book.remember(reached)
    return Session(
        reached=reached,
        runtime=runtime,
        kernel_name=kernel_name,
        display_name=display_name,
        facts=facts,
    )


def _kernel_name(name: str) -> str:
    return f"colab-{name.lower()}"
