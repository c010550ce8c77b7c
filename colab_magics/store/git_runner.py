"""Git commands on one repository: they end in time, and what goes wrong becomes an error of ours.

Shared by `colab_magics.store.git` and the modules that it is made of; nobody else needs it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from colab_magics.errors import ColabError, StoreError, UnreachableError
from colab_magics.store import git_answers, git_process
from colab_magics.store.git_process import Finished

LOCAL_TIMEOUT_S = 120.0
NETWORK_TIMEOUT_S = 120.0

ANY_CODE = range(256)

# Two of our own processes in one clone may want the same ref at once; the loser waits and asks again.
LOCK_ATTEMPTS = 20
LOCK_PAUSE_S = 0.05

_NOBODY = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
}


@dataclass(frozen=True, slots=True)
class GitRunner:
    """Runs git on one git directory: addresses and settings, no state, so threads may share it."""

    git_dir: Path
    work_tree: Path | None = None
    isolated: bool = False
    token: str | None = field(default=None, repr=False)
    timeout_s: float = LOCAL_TIMEOUT_S
    network_timeout_s: float = NETWORK_TIMEOUT_S

    def run(
        self,
        *arguments: str,
        ok: Container[int] = (0,),
        stdin: bytes | IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run a command that needs no network.

        Args:
            ok: the exit codes that are answers.

        Raises:
            StoreError: it ended with another code, or did not end in `timeout_s`.
        """
        try:
            answer = self._execute(
                arguments, stdin=stdin, timeout_s=self.timeout_s, environment=environment or {}
            )
        except TimeoutError:
            raise StoreError(
                f"git {_verb(arguments)} in {self.git_dir} did not end in {self.timeout_s:g} s"
                " and was stopped; try again."
            ) from None
        if answer.returncode not in ok:
            raise self.failure(f"git {_verb(arguments)}", answer)
        return answer

    def text(self, *arguments: str) -> str:
        """Run a command that needs no network and return what it wrote, without the last newline."""
        return os.fsdecode(self.run(*arguments).stdout).removesuffix("\n")

    def run_locking(self, *arguments: str, stdin: bytes | IO[bytes] | None = None) -> Finished:
        """Run a command that locks refs, again and again while another process holds one of them."""
        answer = self.run(*arguments, stdin=stdin, ok=ANY_CODE)
        for _ in range(LOCK_ATTEMPTS):
            if answer.returncode == 0 or ".lock': File exists" not in answer.stderr:
                break
            time.sleep(LOCK_PAUSE_S)
            if stdin is not None and not isinstance(stdin, bytes):
                stdin.seek(0)
            answer = self.run(*arguments, stdin=stdin, ok=ANY_CODE)
        return answer

    def target(self, url: str) -> str:
        """What git is given to reach the repository at `url` by `network`."""
        return git_process.without_user(urlsplit(url)) if self.token else url

    def network(self, *arguments: str, url: str, what: str, timeout_s: float | None) -> Finished:
        """Run a command that talks to the repository at `url`; return it whatever its exit code.

        Args:
            what: what is done, to what, for the message of an error.

        Raises:
            UnreachableError: it did not end in time; its process group is gone.
        """
        limit = self.network_timeout_s if timeout_s is None else timeout_s
        config = git_process.login(urlsplit(url)) if self.token else []
        try:
            return self._execute(arguments, timeout_s=limit, config=config)
        except TimeoutError:
            raise UnreachableError(
                f"{what} did not end in {limit:g} s and was stopped; try again later."
            ) from None

    def say(self, answer: Finished) -> str:
        """The words of git, or of the remote, in one line without secrets."""
        return git_process.say(answer, token=self.token)

    def failure(self, what: str, answer: Finished) -> StoreError:
        """The error for a command that needed no network."""
        return StoreError(f"{what} in {self.git_dir} failed: {self.say(answer)}{git_answers.advice(answer)}.")

    def network_failure(self, what: str, answer: Finished) -> ColabError:
        """The error for a command that did."""
        return git_answers.network_error(what, stderr=answer.stderr, said=self.say(answer))

    def _execute(
        self,
        arguments: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes | IO[bytes] | None = None,
        config: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Finished:
        where = [f"--git-dir={self.git_dir}"]
        if self.work_tree is not None:
            where.append(f"--work-tree={self.work_tree}")
        nobody = _NOBODY if self.isolated else {}
        token = {git_process.TOKEN_VARIABLE: self.token} if self.token else {}
        return git_process.run_git(
            [*where, *(word for setting in config for word in ("-c", setting)), *arguments],
            cwd=self.work_tree or self.git_dir,
            environment={**nobody, **token, **(environment or {})},
            timeout_s=timeout_s,
            stdin=stdin,
        )


def _verb(arguments: Sequence[str]) -> str:
    return next((word for word in arguments if not word.startswith("-")), "")
