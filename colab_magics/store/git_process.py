"""Running one git command: its environment, its end in time, and what it said with the secrets taken out.

Nobody but `colab_magics.store.git` calls this. GitPython's command interface starts the process; its object
model is not used: it leaks children in long-running processes, and its push cannot tell a lost race from a
dead network (GitPython README, "Leakage of System Resources"; 3.2.1).
"""

from __future__ import annotations

import os
import re
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, unquote, urlunsplit

from colab_magics.errors import StoreError

TOKEN_VARIABLE = "COLAB_MAGICS_GIT_TOKEN"  # noqa: S105 - the variable's name, not its value
GRACE_S = 2.0
"""How long a process group may take to end after SIGTERM before it gets SIGKILL."""
_REAPED_S = 1.0
_CHUNK_BYTES = 1 << 16
_KILLED_S = 30.0

CONFIG = (
    # A person's hooks, signing key and file monitor are for the person's own commits.
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "commit.gpgSign=false",
    "push.gpgSign=false",
    "push.followTags=false",
    "push.recurseSubmodules=no",
    "fetch.recurseSubmodules=no",
    "fetch.pruneTags=false",
    "fetch.writeCommitGraph=false",
    # Nothing may go on in the background after a command has ended.
    "gc.auto=0",
    "maintenance.auto=false",
    # Output that can be parsed, whatever the person likes to read.
    "core.quotePath=false",
    "core.safecrlf=false",
    # A copy of an index must not leave its shared half in the clone.
    "core.splitIndex=false",
    "core.logAllRefUpdates=false",
    "color.ui=false",
    "advice.detachedHead=false",
    "advice.fetchShowForcedUpdates=false",
    "protocol.version=2",
    # `ext::` runs a program that the address names.
    "protocol.allow=never",
    "protocol.ext.allow=never",
    "protocol.https.allow=always",
    "protocol.http.allow=always",
    "protocol.ssh.allow=always",
    "protocol.file.allow=always",
)

_FIXED = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "LC_ALL": "C",
}

# What a person may set for every git: where their configuration is, how to log in, how to get out.
# Everything else that starts with GIT_ (GIT_DIR and GIT_INDEX_FILE in a hook, GIT_TRACE, GIT_CONFIG_COUNT …)
# was meant for another command.
# fmt: off
_KEPT = frozenset((
    "GIT_ASKPASS", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_EXEC_PATH",
    "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
    "GIT_PROXY_COMMAND", "GIT_HTTP_USER_AGENT", "GIT_HTTP_PROXY_AUTHMETHOD",
    "GIT_HTTP_LOW_SPEED_LIMIT", "GIT_HTTP_LOW_SPEED_TIME",
    # Without effect on what is done here, and common.
    "GIT_EDITOR", "GIT_SEQUENCE_EDITOR", "GIT_PAGER", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL",
    "GIT_AUTHOR_DATE", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_COMMITTER_DATE",
))
# fmt: on
_KEPT_PREFIXES = ("GIT_SSL_", "GIT_PROXY_SSL_", "GIT_PYTHON_")


@dataclass(frozen=True, slots=True)
class Finished:
    """A git command that ran to its end. `stderr` still has the secrets in it: show `say(finished)`."""

    returncode: int
    stdout: bytes
    stderr: str


def foreign_variables(environment: Mapping[str, str]) -> list[str]:
    """The variables that must not reach git: they would point it at another repository or index."""
    return sorted(
        name
        for name in environment
        if name.startswith("GIT_") and name not in _KEPT and not name.startswith(_KEPT_PREFIXES)
    )


def run_git(
    arguments: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    stdin: bytes | IO[bytes] | None = None,
) -> Finished:
    """Run `git ARGUMENTS` to its end and return it, whatever its exit code.

    Args:
        environment: variables on top of the process's own and of the fixed ones.
        stdin: what git reads, in memory or as an open file; None is an empty input.

    Raises:
        TimeoutError: it did not end in `timeout_s`; its whole process group is gone.
        StoreError: there is no git to run.
    """
    with _started(arguments, cwd=cwd, environment=environment, stdin=stdin) as process:
        data = stdin if isinstance(stdin, bytes) else None
        out, err = converse(process, data, timeout_s=timeout_s)
    return Finished(process.returncode, out, err.decode("utf-8", "replace"))


@contextmanager
def _started(
    arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str], stdin: bytes | IO[bytes] | None
) -> Iterator[Any]:
    # Imported here: it takes 0.1 s, and without git on the PATH it raises ImportError.
    try:
        from git.cmd import Git
        from git.exc import GitCommandNotFound
    except ImportError as error:
        raise StoreError(f"git cannot be run: {error}; install git and try again.") from error
    # GitPython copies os.environ; `env -u` is the way to take something out of that copy, and costs
    # nothing where there is nothing to take out.
    ours = {**_FIXED, **environment}
    foreign = [name for name in foreign_variables(os.environ) if name not in ours]
    without = ["env", *(word for name in foreign for word in ("-u", name))] if foreign else []
    config = [word for setting in CONFIG for word in ("-c", setting)]
    try:
        wrapper = Git(str(cwd)).execute(
            [*without, Git.GIT_PYTHON_GIT_EXECUTABLE or "git", *config, *arguments],
            istream=_istream(stdin),
            as_process=True,
            shell=False,
            env=ours,
            # A group of its own, so that a timeout ends git-remote-https and ssh too: one of those left
            # alone would finish the push.
            start_new_session=True,
        )
    except (GitCommandNotFound, OSError) as error:
        raise StoreError(f"git cannot be run: {error}; install git and try again.") from error
    process: Any = wrapper.proc
    try:
        yield process
    except BaseException:
        end_group(process)
        raise


def _istream(stdin: bytes | IO[bytes] | None) -> Any:
    return subprocess.PIPE if isinstance(stdin, bytes) else stdin


def converse(
    process: subprocess.Popen[bytes], data: bytes | None, *, timeout_s: float
) -> tuple[bytes, bytes]:
    """Give a process its input, read all that it says and wait for its end; return stdout and stderr.

    As Popen.communicate, which after the last byte naps for half a millisecond and more until it sees the
    end (subprocess.py, `_wait`): with the quick commands of git that was a third of their time.

    Raises:
        TimeoutError: it did not end in `timeout_s`; it still runs.
    """
    if sys.platform == "win32":  # nothing waits for a pipe there
        try:
            return process.communicate(data, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
    deadline = time.monotonic() + timeout_s
    said: dict[Any, list[bytes]] = {process.stdout: [], process.stderr: []}
    with selectors.DefaultSelector() as selector:
        for stream in said:
            selector.register(stream, selectors.EVENT_READ)
        rest = memoryview(data or b"")
        if process.stdin is not None:
            selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            if (left_s := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            for key, _ in selector.select(left_s):
                if key.fileobj is process.stdin:
                    rest = _write_some(key.fd, rest)
                    is_over = not rest
                else:
                    chunk = os.read(key.fd, _CHUNK_BYTES)
                    said[key.fileobj].append(chunk)
                    is_over = not chunk
                if is_over:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
    _wait(process, deadline=deadline)
    out, err = (b"".join(chunks) for chunks in said.values())
    return out, err


def _write_some(descriptor: int, rest: memoryview) -> memoryview:
    """Write as much as a pipe takes without waiting; what is left. A process may end without reading all."""
    try:
        return rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]
    except BrokenPipeError:
        return rest[:0]


def _wait(process: subprocess.Popen[bytes], *, deadline: float) -> None:
    if sys.platform == "linux":
        # A descriptor that the kernel makes readable when the process ends; without a free one, naps will do.
        with suppress(OSError):
            ending = os.pidfd_open(process.pid)
            try:
                watch = select.poll()
                watch.register(ending, select.POLLIN)
                watch.poll(max(deadline - time.monotonic(), 0) * 1000)
            finally:
                os.close(ending)
    try:
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None


def end_group(process: subprocess.Popen[bytes], *, grace_s: float = GRACE_S) -> None:
    """End a process and its group: SIGTERM, `grace_s`, SIGKILL. Gone already is well.

    Windows has no groups: there it is the process alone, and at once.
    """
    if sys.platform == "win32":
        process.kill()
    else:
        _end_posix_group(process, grace_s=grace_s)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()


def _end_posix_group(process: subprocess.Popen[bytes], *, grace_s: float) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # the kernel holds it, where a disk does not answer
        process.wait(_KILLED_S)
    # Its children die in their own time; who reaps them is not ours to say, so the wait has an end.
    deadline = time.monotonic() + _REAPED_S
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except (ProcessLookupError, PermissionError):
            break
        time.sleep(0.005)


_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+@")
_NOISE = re.compile(
    r"^(hint:|warning:|To |From |Done$|Pushing |POST |Everything up-to-date|fast-import: dumping|remote:\s*$)"
)


def mask(text: str, *, token: str | None = None) -> str:
    """Take credentials out of a text: the part of an address before `@`, and `token` wherever it is."""
    if token:
        text = text.replace(token, "***")
    return _USERINFO.sub("***@", text)


def say(finished: Finished, *, token: str | None = None, lines: int = 4) -> str:
    """The words of git, or of the remote if it said some, in one line that may be shown."""
    said = [line.strip() for line in mask(finished.stderr, token=token).splitlines() if line.strip()]
    said = [line for line in said if not _NOISE.match(line)]
    remote = [line.removeprefix("remote:").strip() for line in said if line.startswith("remote:")]
    chosen = remote[-lines:] or [re.sub(r"^(fatal|error): ", "", line) for line in said[-lines:]]
    return "; ".join(chosen).rstrip(".") or f"git ended with code {finished.returncode} and no message"


# Answers with the token for whatever user the address names. Hosting sites look at the token only, but
# want some user beside it.
_HELPER = (
    '!f() { test "$1" = get || exit 0; user=x-access-token; while IFS== read -r key value; do'
    ' test "$key" = username && user=$value; done; '
    f'printf "username=%s\\npassword=%s\\n" "$user" "${TOKEN_VARIABLE}"; }}; f'
)


def login(url: SplitResult) -> list[str]:
    """The settings that log in over HTTP with the token of the environment, to this address's host only.

    A credential helper rather than GIT_ASKPASS: git asks it for that host alone, so that a redirect gets
    nothing, and no script has to lie on a disk that may forbid execution. The user goes beside the address
    (`without_user`): with one in it, curl first tries that user without a password, each time.
    Source: https://git-scm.com/docs/gitcredentials#_configuration_options
    """
    if url.scheme not in ("http", "https"):
        return []
    host = url.netloc.rpartition("@")[2]
    context = f"credential.{url.scheme}://{host}"
    user = [f"{context}.username={unquote(url.username)}"] if url.username else []
    return ["credential.helper=", f"{context}.helper={_HELPER}", *user]


def without_user(url: SplitResult) -> str:
    """The address that goes with `login`; ssh needs the user where it is."""
    if url.scheme in ("http", "https"):
        url = url._replace(netloc=url.netloc.rpartition("@")[2])
    return urlunsplit(url)
