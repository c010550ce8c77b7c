"""Asks and answers between two clones of one remote: who sees what, and who may delete what."""

from __future__ import annotations

from pathlib import Path

import harness
import pytest

from colab_magics.errors import CorruptError, RefusedError
from colab_magics.jobs.asking import Answer, Ask
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import PushUpdate, Repository
from colab_magics.store.mailbox import Mailbox

ID = "0f" * 16
ASK = Ask(ask_id=ID, worker="vm-1", key="a2V5", at=1000.0, expires_at=1600.0)
ANSWER = Answer(ask_id=ID, worker="vm-1", sealed="c2VhbGVk", expires_at=1600.0)


class Side:
    """One participant's clone: a store that looks, and a mailbox."""

    def __init__(self, folder: Path, remote: str, *, hears_asks: bool) -> None:
        self.repository = Repository.init_bare(folder)
        self.store = BranchStore(self.repository, remote=remote, label="queue", hears_asks=hears_asks)
        self.mailbox = Mailbox(self.repository, remote=remote, label="queue", clock=lambda: 1000.0)


@pytest.fixture
def person(tmp_path: Path, bare_remote: Path) -> Side:
    return Side(tmp_path / "person", bare_remote.as_uri(), hears_asks=False)


@pytest.fixture
def worker(tmp_path: Path, bare_remote: Path) -> Side:
    return Side(tmp_path / "worker", bare_remote.as_uri(), hears_asks=True)


def letters(remote: Path) -> list[str]:
    return [name.removeprefix("refs/colab/") for name in harness.refs(remote)]


def test_an_ask_is_seen_answered_and_read(person: Side, worker: Side, bare_remote: Path) -> None:
    person.mailbox.ask(ASK)
    assert person.mailbox.look(ID) is None
    assert worker.store.refresh().asks == {ID: ASK}
    assert worker.mailbox.answer(ANSWER)
    assert letters(bare_remote) == [f"answer/{ID}"]
    assert worker.store.refresh().asks == {}
    assert person.mailbox.look(ID) == ANSWER
    person.mailbox.clear(ID, is_answered=True)
    assert letters(bare_remote) == []
    assert person.repository.refs("refs/colab/") == {}


def test_each_is_one_commit_without_a_parent(person: Side, worker: Side, bare_remote: Path) -> None:
    person.mailbox.ask(ASK)
    worker.store.refresh()
    worker.mailbox.answer(ANSWER)
    assert harness.git(bare_remote, "rev-list", "--count", f"refs/colab/answer/{ID}") == "1"
    assert "[skip ci]" in harness.git(bare_remote, "log", "--format=%s", f"refs/colab/answer/{ID}")


def test_only_workers_hear_asks(person: Side) -> None:
    person.mailbox.ask(ASK)
    assert person.store.refresh().asks == {}
    assert person.repository.refs("refs/colab/") == {}


def test_an_ask_that_was_withdrawn_gets_no_answer(person: Side, worker: Side, bare_remote: Path) -> None:
    person.mailbox.ask(ASK)
    worker.store.refresh()
    person.mailbox.clear(ID)
    assert not worker.mailbox.answer(ANSWER)
    assert letters(bare_remote) == []
    worker.store.refresh()
    assert not worker.mailbox.answer(ANSWER)


def test_an_ask_gets_one_answer(person: Side, worker: Side, tmp_path: Path, bare_remote: Path) -> None:
    other = Side(tmp_path / "other", bare_remote.as_uri(), hears_asks=True)
    person.mailbox.ask(ASK)
    worker.store.refresh()
    other.store.refresh()
    assert [worker.mailbox.answer(ANSWER), other.mailbox.answer(ANSWER)] == [True, False]


def test_clearing_twice_is_well(person: Side) -> None:
    person.mailbox.ask(ASK)
    person.mailbox.clear(ID)
    person.mailbox.clear(ID)


def test_only_answers_that_have_expired_are_swept(person: Side, worker: Side, bare_remote: Path) -> None:
    for number, expires_at in enumerate((1100.0, 1600.0)):
        ask_id = f"{number:032x}"
        person.mailbox.ask(Ask(ask_id=ask_id, worker="vm-1", key="", at=1000.0, expires_at=expires_at))
        worker.store.refresh()
        worker.mailbox.answer(Answer(ask_id=ask_id, worker="vm-1", sealed="", expires_at=expires_at))
    assert worker.mailbox.sweep(now=1200.0) == 1
    assert letters(bare_remote) == [f"answer/{1:032x}"]
    assert worker.mailbox.sweep(now=1200.0) == 0


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', f'{{"format": 1, "id": "{"1e" * 16}"}}'])
def test_what_is_no_ask_is_passed_over(person: Side, worker: Side, text: str, bare_remote: Path) -> None:
    commit = person.repository.build_commit({"ask.json": text.encode()}, message="x", date_s=0)
    person.repository.push(bare_remote.as_uri(), [PushUpdate(commit, f"refs/colab/ask/{ID}")])
    assert worker.store.refresh().asks == {}


def test_what_is_no_answer_is_told(person: Side, bare_remote: Path) -> None:
    commit = person.repository.build_commit({"answer.json": b"hello"}, message="x", date_s=0)
    person.repository.push(bare_remote.as_uri(), [PushUpdate(commit, f"refs/colab/answer/{ID}")])
    with pytest.raises(CorruptError):
        person.mailbox.look(ID)
    assert person.repository.refs("refs/colab/") == {}


def test_who_may_not_push_cannot_ask(person: Side, bare_remote: Path) -> None:
    hook = harness.write(bare_remote / "hooks" / "pre-receive", "#!/bin/sh\necho no; exit 1\n")
    hook.chmod(0o755)
    with pytest.raises(RefusedError):
        person.mailbox.ask(ASK)
