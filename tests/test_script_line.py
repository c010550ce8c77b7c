"""Which command lines only start a Python script."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colab_magics.jobs.script_line import ScriptLine, read_script_line


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("python train.py", ScriptLine("python", (), ("train.py",), ())),
        ("python3 -u train.py --lr 0.1", ScriptLine("python3", ("-u",), ("train.py",), ("--lr", "0.1"))),
        ("  python3.13 -uO src/a.py ", ScriptLine("python3.13", ("-uO",), ("src/a.py",), ())),
        ("/usr/bin/python -X utf8 a.py", ScriptLine("/usr/bin/python", ("-X", "utf8"), ("a.py",), ())),
        ("python -Wignore a.py -m x", ScriptLine("python", ("-Wignore",), ("a.py",), ("-m", "x"))),
        ("python -m pkg.train -x", ScriptLine("python", (), ("-m", "pkg.train"), ("-x",))),
        ("python 'my script.py' \"a b\"", ScriptLine("python", (), ("my script.py",), ("a b",))),
        ("python a.py --note '$5 & *'", ScriptLine("python", (), ("a.py",), ("--note", "$5 & *"))),
        ("python a.py --tag=x#1,y:2%", ScriptLine("python", (), ("a.py",), ("--tag=x#1,y:2%",))),
    ],
)
def test_a_line_that_only_starts_a_script_is_read(command: str, line: ScriptLine) -> None:
    assert read_script_line(command) == line


@pytest.mark.parametrize(
    "command",
    [
        "",
        "python",
        "python -c 'print(1)'",
        "python -",
        "python -i a.py",
        "python -I a.py",
        "python -m",
        "python -m 'not a module'",
        "python folder",
        "python -X",
        "bash train.sh",
        "torchrun train.py",
        "ipython train.py",
        "OMP_NUM_THREADS=1 python a.py",
        "cd src && python a.py",
        "python a.py | tee log",
        "python a.py > log",
        "python a.py; echo done",
        "python a.py &",
        "python a.py $HOME",
        'python a.py "$HOME"',
        "python a.py `date`",
        "python a.py *.csv",
        "python a.py data[1]",
        "python a.py {a,b}",
        "python a.py ~/data",
        "python a.py # as before",
        "python a.py\npython b.py",
        "python a.py a\\ b",
        "python a.py 'not closed",
    ],
)
def test_what_needs_a_shell_or_is_no_script_is_not(command: str) -> None:
    assert read_script_line(command) is None


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_quoted_arguments_are_read_as_a_shell_reads_them(arguments: list[str]) -> None:
    line = read_script_line(shlex.join(["python", "a.py", *arguments]))
    assert line is None or line.arguments == tuple(arguments)
