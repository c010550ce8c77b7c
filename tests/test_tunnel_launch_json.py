"""One entry of launch.json: written, renewed, and every other character of the file left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colab_magics.errors import UsageError
from colab_magics.tunnel import jsonc
from colab_magics.tunnel.launch_json import entry, known_port, with_entry, write_entry

WANTED = entry("Colab GPU — local", port=5678, remote_root="/home/ada/colab/p")

THEIRS = """{
  // Use IntelliSense, "it" says, {here}
  "version": "0.2.0", /* not
  a version */
  "configurations": [
    {
      "name": "Mine", // "mine", only mine
      "url": "http://x//y /* no comment */",
      "args": ["a",], },  // the last one
    // and a word at the end
  ],
  "compounds": [],
}
"""


def test_a_project_without_one_gets_one(tmp_path: Path) -> None:
    path = write_entry(tmp_path, WANTED)
    assert path == tmp_path / ".vscode/launch.json"
    assert jsonc.loads(path.read_text()) == {"version": "0.2.0", "configurations": [WANTED]}
    assert known_port(tmp_path, WANTED["name"]) == 5678


def test_comments_and_commas_stay() -> None:
    new = with_entry(THEIRS, WANTED)
    written = json.dumps(WANTED, indent=2, ensure_ascii=False).replace("\n", "\n    ")
    word = "    // and a word at the end\n"
    assert new == THEIRS.replace(word, f"{word}    {written}\n")
    assert jsonc.loads(new)["configurations"][1] == WANTED


def test_the_second_time_only_what_differs_changes() -> None:
    once = with_entry(THEIRS, WANTED)
    assert with_entry(once, WANTED) == once
    theirs = once.replace(
        '"request": "attach",', '"request": "attach", // by the tunnel\n "justMyCode": false,'
    )
    again = with_entry(theirs, entry("Colab GPU — local", port=9999, remote_root="/home/ada/colab/p"))
    assert again.replace("9999", "5678") == theirs


def test_a_comma_is_added_where_it_is_needed_and_comments_stay_behind_theirs() -> None:
    new = with_entry('{"configurations": [{"name": "a"} // a\n]}', {"name": "b"})
    assert [line.strip() for line in new.splitlines()] == [
        '{"configurations": [{"name": "a"}, // a',
        "{",
        '"name": "b"',
        "}",
        "]}",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{ // nothing\n}",
        '{"configurations": []}',
        '\ufeff{\r\n\t"configurations": [ /* none */ ]\r\n}\r\n',
        '{"configurations": [{"name": "x"}]}',
        '{"configurations": [1, "name", {"name": "x"},],}',
        '{"configurations": [{"name": "Colab GPU — local"}]}',
        '{"configurations": [{"name": "Colab GPU — local", "connect": {"port": 1,},},]}',
    ],
)
def test_whatever_it_looks_like_the_entry_is_in_it_afterwards(text: str) -> None:
    new = with_entry(text, WANTED)
    before = jsonc.loads(text).get("configurations", [])
    others = [one for one in before if not isinstance(one, dict) or one.get("name") != WANTED["name"]]
    assert jsonc.loads(new)["configurations"] == [*others, WANTED]
    assert ("\r\n" in text) == ("\r\n" in new)
    assert new.count("\n") == new.count("\r\n") or "\r\n" not in text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    document=st.dictionaries(st.text(), VALUES, max_size=4),
    configurations=st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=3),
    indent=st.sampled_from([None, 1, 4, "\t"]),
)
def test_what_json_says_besides_stays(
    document: dict[str, object], configurations: list[dict[str, object]], indent: int | str | None
) -> None:
    whole = {**document, "configurations": configurations}
    new = with_entry(json.dumps(whole, indent=indent, ensure_ascii=False), WANTED)
    assert jsonc.loads(new) == {**whole, "configurations": [*configurations, WANTED]}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"configurations": {}}', '{"configurations": [}', "{} {}"])
def test_what_is_no_launch_json_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".vscode/launch.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UsageError, match="was left as it is"):
        write_entry(tmp_path, WANTED)
    assert path.read_text() == text
    assert known_port(tmp_path, WANTED["name"]) == 0
