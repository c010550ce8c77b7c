"""A daemon from what a person says: an address, a token, a folder."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from colab_magics.daemon.answers import Reception
from colab_magics.daemon.assignment import Limits
from colab_magics.daemon.exposure import FORMS, Exposure, parse_exposure
from colab_magics.daemon.home import Home
from colab_magics.daemon.loop import Daemon
from colab_magics.daemon.masking import secrets_in
from colab_magics.daemon.offer import IDLE_STOP_MIN, Offer
from colab_magics.daemon.pace import DaemonSettings
from colab_magics.daemon.preparation import Setup
from colab_magics.daemon.status import Status
from colab_magics.errors import StoreError, UsageError
from colab_magics.jobs.budget import HOSTED_INTERVAL_S
from colab_magics.jobs.paths import INTENT_BRANCH
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Repository
from colab_magics.store.git_names import check_url, is_on_this_machine, redact_url, split_credentials
from colab_magics.store.mailbox import Mailbox

logger = logging.getLogger(__name__)

TOKEN_VARIABLES = ("COLAB_GIT_TOKEN", "GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN")
"""Where a token is looked for, in this order. The one that is used is kept from the jobs."""

NOT_FOR_JOBS = ("JPY_", "GIT_", "SSH_ASKPASS", "COLAB_GIT_TOKEN")
"""What variables begin with that are the daemon's, or its notebook's, and would mislead a job."""

HOSTED = DaemonSettings(poll_s=5.0, lease_s=180.0, heartbeat_s=30.0, push_interval_s=HOSTED_INTERVAL_S)
LOCAL = DaemonSettings(poll_s=0.5, lease_s=15.0, heartbeat_s=3.0, push_interval_s=0.0)
"""A repository on this machine has no limits on pushes, and its daemons die with it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a person asks of a daemon. Empty or None is the default for the kind of repository."""

    repo: str
    branch: str = INTENT_BRANCH
    poll_s: float | None = None
    idle_stop_min: float | None = None
    once: bool = False
    workdir: Path | None = None
    expose: str | None = None
    expose_port: int | None = None
    token: str | None = None


def run_daemon(order: Order, *, on_status: Callable[[Status], None] = lambda status: None) -> int:
    """Work on a queue until it is drained (`once`), nothing came for long enough, or somebody interrupts.

    The first interrupt (Ctrl-C, SIGTERM) ends it cleanly: what runs goes back to the queue. The second
    ends it at once.

    Returns:
        How many attempts ended here.

    Raises:
        UsageError: the address is of a kind that is not used, or a daemon already runs in the folder.
        RefusedError: the remote says no.
    """
    exposure = exposure_of(order)
    check_url(order.repo)
    url, from_url = split_credentials(order.repo)
    token, found_in = _find_token(order, os.environ)
    known = [each for each in (order.token, from_url, token) if each]
    token = known[0] if known else None
    home = Home(order.workdir or default_workdir(url))
    try:
        repository = _open_cache(home, token=token)
        label = "queue"
        store = BranchStore(repository, remote=url, label=label, intent_branch=order.branch, hears_asks=True)
        setup = Setup(
            python=Path(sys.executable),
            limits=Limits(),
            environment=job_environment(os.environ, hidden=found_in),
            # A job may look into the daemon's own environment: it is the same user's.
            secrets=[*known, *secrets_in(os.environ)],
        )
        mailbox = Mailbox(repository, remote=url, label=label)
        reception = Reception(mailbox, offer=_offer(exposure, home.worker, setup, order))
        daemon = Daemon(store, home, settings_for(order), setup, reception=reception, on_status=on_status)
    except BaseException:
        home.close()
        raise
    with _interrupts(daemon):
        return daemon.run()  # which closes the folder


def settings_for(order: Order) -> DaemonSettings:
    """How a daemon behaves on this kind of repository, with what the person said in place of the defaults."""
    usual = LOCAL if is_on_this_machine(order.repo) else HOSTED
    if order.poll_s is not None and order.poll_s <= 0:
        raise UsageError(f"--poll is a number of seconds above 0; found {order.poll_s:g}")
    return DaemonSettings(
        poll_s=order.poll_s or usual.poll_s,
        lease_s=usual.lease_s,
        live_s=usual.live_s,
        heartbeat_s=usual.heartbeat_s,
        push_interval_s=usual.push_interval_s,
        idle_stop_s=None if order.idle_stop_min is None else order.idle_stop_min * 60,
        once=order.once,
    )


def exposure_of(order: Order) -> Exposure | None:
    """How a session with this machine is reached, None if its owner offers none.

    Raises:
        UsageError: `--expose` and `--expose-port` do not say.
    """
    if order.expose is None:
        if order.expose_port is not None:
            raise UsageError(f"--expose-port goes with --expose: {FORMS}")
        return None
    return parse_exposure(order.expose, port=order.expose_port)


def _offer(exposure: Exposure | None, worker: str, setup: Setup, order: Order) -> Offer | None:
    if exposure is None:
        return None
    return Offer(
        exposure,
        worker=worker,
        python=setup.python,
        environment=setup.environment,
        idle_stop_min=min(order.idle_stop_min or IDLE_STOP_MIN, IDLE_STOP_MIN),
    )


def default_workdir(url: str) -> Path:
    """Where the daemon of a repository keeps its clone: one folder for each address."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "colab-magics" / f"daemon-{hashlib.sha256(redact_url(url).encode()).hexdigest()[:12]}"


def job_environment(environment: Mapping[str, str], *, hidden: str | None = None) -> dict[str, str]:
    """What jobs find in their environment: the machine's, less what is the daemon's own."""
    kept = {
        name: value
        for name, value in environment.items()
        if name != hidden and not name.startswith(NOT_FOR_JOBS)
    }
    if "inline" in kept.get("MPLBACKEND", ""):
        del kept["MPLBACKEND"]  # a notebook's, which a script could not draw with
    return kept


def _open_cache(home: Home, *, token: str | None) -> Repository:
    """The daemon's clone; made anew where it is broken, or may be since the last daemon was cut off.

    Nothing in it is truth: what matters is on the remote, or in the spool. A machine that lost its power
    leaves empty objects and locks behind, and looking at all of them takes as long as fetching them.
    """
    if home.was_cut_off:
        shutil.rmtree(home.cache, ignore_errors=True)
    try:
        repository = Repository.init_bare(home.cache, isolated=True, token=token)
        repository.refs("refs/colab/")
        return repository
    except StoreError as error:
        logger.warning("the clone in %s is broken (%s): making a new one", home.cache, error)
        shutil.rmtree(home.cache, ignore_errors=True)
        return Repository.init_bare(home.cache, isolated=True, token=token)


def _find_token(order: Order, environment: Mapping[str, str]) -> tuple[str | None, str | None]:
    if order.token:
        return order.token, None
    # A hosting site's token is not for a server on this machine.
    names = TOKEN_VARIABLES[:1] if is_on_this_machine(order.repo) else TOKEN_VARIABLES
    found = next((name for name in names if environment.get(name)), None)
    return (environment[found], found) if found else (None, None)


@contextmanager
def _interrupts(daemon: Daemon) -> Iterator[None]:
    """Let the first SIGINT, SIGTERM or SIGHUP end the daemon cleanly, the second as it usually would."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def stop(number: int, frame: FrameType | None) -> None:
        for each, handler in usual.items():
            signal.signal(each, handler)
        daemon.stop()

    for number in usual:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
