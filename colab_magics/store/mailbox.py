"""Asks for a session and their answers: one small commit each, without a parent, gone once it was read.

`refs/colab/ask/<id>` is written by a person, `refs/colab/answer/<id>` by the worker that was asked, which
deletes the ask in the same push. Workers see asks in the fetch with which they look at the queue anyway.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from colab_magics.errors import CorruptError
from colab_magics.jobs import paths
from colab_magics.jobs.asking import (
    Answer,
    Ask,
    is_ask_id,
    parse_answer,
    parse_ask,
    serialize_answer,
    serialize_ask,
)
from colab_magics.jobs.codec import SKIP_CI
from colab_magics.store.git import ABSENT, PushOutcome, PushUpdate, Refspec, Repository

logger = logging.getLogger(__name__)


class Mailbox:
    """One participant's end of the exchange. Every method that talks to the remote raises as a Store's do."""

    def __init__(
        self, repository: Repository, *, remote: str, label: str, clock: Callable[[], float] = time.time
    ) -> None:
        """Args as those of BranchStore; the same label, so that both know what was fetched."""
        self._repository, self._remote, self._clock = repository, remote, clock
        self._tracking = paths.tracking(label)

    # --- the person --------------------------------------------------------------------------------------

    def ask(self, ask: Ask) -> None:
        """Have the worker see it at its next look."""
        commit = self._commit(paths.ASK, serialize_ask(ask))
        self._repository.push(self._remote, [PushUpdate(commit, paths.ask_ref(ask.ask_id), ABSENT)])

    def look(self, ask_id: str) -> Answer | None:
        """The answer, if there is one. CorruptError: what is there is none."""
        here = f"{self._tracking}answer/{ask_id}"
        self._repository.fetch(self._remote, [Refspec(paths.answer_ref(ask_id), here)])
        commit = self._repository.resolve(here)
        if commit is None:
            return None
        self._repository.set_refs({here: None})
        return parse_answer(self._repository.read(commit, paths.ANSWER) or b"")

    def clear(self, ask_id: str, *, is_answered: bool = False) -> None:
        """Delete the ask and its answer, whichever there are. What is gone already is well.

        Args:
            is_answered: the answer was seen, so the ask is gone.
        """
        refs = [paths.answer_ref(ask_id), *([] if is_answered else [paths.ask_ref(ask_id)])]
        self._repository.push(self._remote, [PushUpdate(None, ref) for ref in refs])

    # --- the worker --------------------------------------------------------------------------------------

    def answer(self, answer: Answer) -> bool:
        """Put the answer in the place of its ask; False if that was withdrawn, or answered, meanwhile."""
        asked = self._repository.resolve(f"{self._tracking}ask/{answer.ask_id}")
        if asked is None:
            return False
        commit = self._commit(paths.ANSWER, serialize_answer(answer))
        updates = [
            PushUpdate(commit, paths.answer_ref(answer.ask_id), ABSENT),
            PushUpdate(None, paths.ask_ref(answer.ask_id), asked),
        ]
        return self._repository.push(self._remote, updates) is PushOutcome.LANDED

    def sweep(self, *, now: float) -> int:
        """Delete the answers that nobody read in time; how many there were."""
        prefix = f"{self._tracking}answer/"
        self._repository.fetch(self._remote, [Refspec(f"{paths.ANSWER_PREFIX}*", f"{prefix}*")], prune=True)
        known = {ref.removeprefix(prefix): sha for ref, sha in self._repository.refs(prefix).items()}
        told = self._repository.read_many([f"{sha}:{paths.ANSWER}" for sha in known.values()])
        expired = []
        for ask_id, sha in known.items():
            try:
                if parse_answer(told[f"{sha}:{paths.ANSWER}"] or b"").expires_at < now:
                    expired.append(ask_id)
            except CorruptError:
                continue  # of another version perhaps: it is not ours to judge
        self._repository.push(self._remote, [PushUpdate(None, paths.answer_ref(each)) for each in expired])
        self._repository.set_refs({f"{prefix}{ask_id}": None for ask_id in known})
        return len(expired)

    def _commit(self, name: str, data: bytes) -> str:
        message = f"{name.removesuffix('.json').capitalize()} {SKIP_CI}\n"
        return self._repository.build_commit({name: data}, message=message, date_s=int(self._clock()))


def read_asks(
    repository: Repository, refs: Mapping[str, str], *, before: Mapping[str, tuple[str, Ask]]
) -> dict[str, tuple[str, Ask]]:
    """The asks: id → (commit, what it says). One that does not parse is passed over.

    Args:
        refs: id → commit.
        before: what was read the last time.
    """
    known = {each: before[each] for each, sha in refs.items() if each in before and before[each][0] == sha}
    names = {f"{sha}:{paths.ASK}": each for each, sha in refs.items() if each not in known}
    for name, data in repository.read_many(names).items() if names else ():
        try:
            ask = parse_ask(data or b"")
        except CorruptError as error:
            logger.warning("%s", error)
            continue
        if ask.ask_id == names[name] and is_ask_id(names[name]):
            known[names[name]] = (name.split(":")[0], ask)
    return known
