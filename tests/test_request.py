from __future__ import annotations

import pytest

from colab_magics.errors import SpecError
from colab_magics.jobs.request import (
    Request,
    Sent,
    configurations,
    default_name,
    job_specs,
    parse_duration,
    parse_env,
    parse_names,
)
from colab_magics.jobs.spec import JobSpec, parse_entry, to_entry

CODE = "a" * 40


def specs_of(request: Request, *, cell: str | None = "cells/0123456789ab.py") -> tuple[JobSpec, ...]:
    count = len(configurations(request))
    suffixes = [f"{number:010x}" for number in range(count)]
    return job_specs(request, Sent(CODE, cell), suffixes=suffixes, batch_id="feed", queued_at=5.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1.5H", 5400), (" 2 h ", 7200), ("1d", 86_400)],
)
def test_a_timeout_is_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-5", "31d", "1w", "1h30m", "inf", "nan"])
def test_what_is_no_timeout_is_shown(text: str) -> None:
    with pytest.raises(SpecError, match=r"a timeout is .* found '"):
        parse_duration(text)


def test_names_are_split_at_commas_and_told_once() -> None:
    assert parse_names(["a, b", "b,c"], option="--in") == ("a", "b", "c")


@pytest.mark.parametrize("text", ["a b", "1a", "x.y", "a,*"])
def test_what_is_no_name_is_refused_with_its_option(text: str) -> None:
    with pytest.raises(SpecError, match=r"^--out takes names of variables"):
        parse_names([text], option="--out")


def test_an_environment_variable_keeps_what_follows_its_first_equals_sign() -> None:
    assert parse_env("A=b=c") == ("A", "b=c")
    with pytest.raises(SpecError, match="--env takes NAME=VALUE; found '1A=x'"):
        parse_env("1A=x")


@pytest.mark.parametrize("name", ["HF_TOKEN", "aws_secret", "MY_PASSWORD", "WANDB_API_KEY", "PRIVATE_KEY"])
def test_a_secret_is_not_written_into_the_history_for_ever(name: str) -> None:
    with pytest.raises(SpecError, match=f"^--env {name} would .* set {name} where the daemon runs") as told:
        parse_env(f"{name}=hunter2hunter2")
    assert "hunter2" not in str(told.value)


def test_a_name_that_only_begins_like_a_secret_is_none() -> None:
    assert parse_env("TOKENIZERS_PARALLELISM=false") == ("TOKENIZERS_PARALLELISM", "false")


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("# Train the net\nx = 1", "Train the net"),
        ("\n\n#   two   spaces \nx", "two spaces"),
        ("# %% [markdown]\n# real\n", "real"),
        ("#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n# real", "real"),
        ("# ------\nx", "cell"),
        ("def train(x):\n    # inside\n    pass", "train"),
        ("async def go():\n    pass\n# later", "go"),
        ("class Net: pass", "Net"),
        ("x = 1\ny = 2", "cell"),
        ("    # indented\nx", "cell"),
        ("# " + "long " * 40, "long long long long long long long long long long long long…"),
        ("# zażółć 🦆", "zażółć 🦆"),
    ],
)
def test_a_cell_is_named_by_its_first_comment_or_definition(cell: str, name: str) -> None:
    assert default_name(cell, is_command=False) == name


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python -u src/train.py --lr 1", "train"),
        ("./run.sh", "run"),
        ("cd x; python a/b.py; exit 3", "b"),
        ("make all", "make"),
        ("/bin/ls", "ls"),
    ],
)
def test_a_command_is_named_by_its_script_or_program(command: str, name: str) -> None:
    assert default_name(command, is_command=True) == name


def test_one_job_keeps_its_name_and_belongs_to_no_grid() -> None:
    [spec] = specs_of(Request(name="Audio é", params=(("epochs", 3),)))
    assert (spec.name, spec.job_id, spec.batch) == ("Audio é", "audio-0000000000", None)
    assert dict(spec.params) == {"epochs": 3}


def test_a_grid_is_one_job_a_configuration_told_apart_by_name_and_parameters() -> None:
    request = Request(name="audio", params=(("epochs", 3),), axes=(("lr", (0.1, 0.2)), ("bs", (16, 32))))
    specs = specs_of(request)
    assert [spec.name for spec in specs][:2] == ["audio lr=0.1 bs=16", "audio lr=0.1 bs=32"]
    assert len({spec.job_id for spec in specs}) == 4
    assert {spec.batch and (spec.batch.batch_id, spec.batch.axes) for spec in specs} == {
        ("feed", ("lr", "bs"))
    }
    assert dict(specs[3].params) == {"epochs": 3, "lr": 0.2, "bs": 32}


def test_a_grid_comes_back_from_its_entries() -> None:
    for spec in specs_of(Request(name="audio", axes=(("lr", (0.1,)),))):
        assert parse_entry(to_entry(spec)) == spec


def test_a_batch_of_the_persons_own_says_nothing() -> None:
    entry = {"name": "a", "command": "b", "timeout": 1, "id": "x", "batch": 16}
    assert parse_entry(entry).batch is None


def test_a_grid_of_commands_fills_in_its_parameters() -> None:
    request = Request(name="x", command="python t.py --lr {lr} ${HOME}", axes=(("lr", (0.1, "a")),))
    told = [spec.command for spec in specs_of(request, cell=None)]
    assert told == ["python t.py --lr 0.1 ${HOME}", "python t.py --lr a ${HOME}"]


def test_a_name_with_long_values_is_cut_to_what_a_name_may_have() -> None:
    [spec] = specs_of(Request(name="x", axes=(("text", ("y" * 300,)),)))
    assert len(spec.name) == 200
    assert spec.name.endswith("…")


@pytest.mark.parametrize("name", ["two\nlines", "", "x" * 201])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(SpecError):
        specs_of(Request(name=name))


@pytest.mark.parametrize("option", [{"debuggable": True}, {"hold_s": 60.0}])
def test_a_command_that_is_no_script_cannot_be_stepped_into(option: dict[str, float]) -> None:
    request = Request(name="train", command="make && python train.py", **option)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"plainly `python script.py …`.*found 'make && python train.py'"):
        specs_of(request, cell=None)


def test_a_script_can_be_stepped_into_with_each_configuration_of_its_grid() -> None:
    request = Request(
        name="train", command="python train.py --lr {lr}", axes=(("lr", (0.1, 0.2)),), hold_s=60.0
    )
    assert [spec.command for spec in specs_of(request, cell=None)] == [
        "python train.py --lr 0.1",
        "python train.py --lr 0.2",
    ]


def test_a_command_that_nobody_wants_to_step_into_may_be_anything() -> None:
    [spec] = specs_of(Request(name="make", command="make && echo $HOME", debuggable=False), cell=None)
    assert spec.command == "make && echo $HOME"
