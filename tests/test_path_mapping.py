"""A project's folders here and there: what is one, which path is which, what debugpy is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colab_kernel.errors import RegistryError
from colab_kernel.path_mapping import PathMapping, attach_arguments, is_disguised, is_windows

PREFIX = "/tmp/ipykernel_7/"
IDENTITY = {"localRoot": PREFIX, "remoteRoot": PREFIX}
POSIX = PathMapping(local_root="/home/ada/project", remote_root="/content/project")
WINDOWS = PathMapping(local_root="C:\\Users\\Ada\\project", remote_root="/content/project")

NAMES = st.text(st.characters(exclude_characters="/\\:\0", exclude_categories=["Cs"]), min_size=1)


# --- roots ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["", "project", "./project", "../project", "~/project", "C:project", "\\p"])
@pytest.mark.parametrize("side", ["local", "remote"])
def test_a_root_that_is_not_absolute_is_refused_with_its_side_and_itself(root: str, side: str) -> None:
    roots = {"local_root": "/here", "remote_root": "/there", f"{side}_root": root}
    with pytest.raises(RegistryError, match=f"{side} folder is ") as raised:
        PathMapping(**roots)
    assert repr(root) in str(raised.value)


@pytest.mark.parametrize(
    ("root", "windows"),
    [
        ("/home/ada", False),
        ("//server/share", False),
        ("C:\\project", True),
        ("c:/project", True),
        ("\\\\server\\share\\project", True),
        ("\\project", False),
    ],
)
def test_which_roots_are_windows(root: str, windows: bool) -> None:
    assert is_windows(root) is windows


@pytest.mark.parametrize(
    ("path", "disguised"),
    [
        ("\\tmp\\ipykernel_7\\1.py", True),
        ("/tmp/1.py", False),
        ("C:\\tmp\\1.py", False),
        ("\\\\server\\share\\1.py", False),
        ("", False),
    ],
)
def test_a_posix_path_in_windows_separators_has_neither_drive_nor_host(path: str, disguised: bool) -> None:
    assert is_disguised(path) is disguised


# --- debugpy's mappings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "remote"),
    [("/home/ada/p", "/content/p"), ("/home/ada/p/", "/content/p/"), ("/home//ada/./p", "/content/p//")],
)
def test_both_roots_end_with_a_separator_so_that_project_2_is_not_in_project(local: str, remote: str) -> None:
    mapping = PathMapping(local_root=local, remote_root=remote)
    assert mapping.for_debugpy() == {"localRoot": "/home/ada/p/", "remoteRoot": "/content/p/"}


@pytest.mark.parametrize("local", ["C:\\p", "C:\\p\\", "C:/p", "C:/p/", "C:\\.\\p"])
def test_a_local_root_on_windows_keeps_its_separators(local: str) -> None:
    mapping = PathMapping(local_root=local, remote_root="/content/p")
    assert mapping.for_debugpy() == {"localRoot": "C:\\p\\", "remoteRoot": "/content/p/"}


def test_the_root_of_all_has_one_separator() -> None:
    assert PathMapping(local_root="/", remote_root="/").for_debugpy() == {
        "localRoot": "/",
        "remoteRoot": "/",
    }


def test_attach_maps_the_cells_onto_themselves_first_and_the_project_after() -> None:
    arguments = attach_arguments({"justMyCode": True}, mappings=[POSIX], tmp_file_prefix=PREFIX)
    assert arguments == {"justMyCode": True, "pathMappings": [IDENTITY, POSIX.for_debugpy()]}


def test_a_frontends_own_mappings_stay_and_come_before_ours() -> None:
    own = {"localRoot": "/lib", "remoteRoot": "/usr/lib"}
    arguments = attach_arguments({"pathMappings": [own]}, mappings=[POSIX], tmp_file_prefix=PREFIX)
    assert arguments["pathMappings"] == [IDENTITY, own, POSIX.for_debugpy()]


def test_mappings_that_are_no_list_are_left_out() -> None:
    arguments = attach_arguments({"pathMappings": None}, mappings=[POSIX], tmp_file_prefix=PREFIX)
    assert arguments["pathMappings"] == [IDENTITY, POSIX.for_debugpy()]


def test_debugpy_is_told_of_a_client_on_windows_unless_the_client_has_said_what_it_is() -> None:
    told = attach_arguments({}, mappings=[WINDOWS], tmp_file_prefix=PREFIX)
    assert told["clientOS"] == "windows"
    kept = attach_arguments({"clientOS": "unix"}, mappings=[WINDOWS], tmp_file_prefix=PREFIX)
    assert kept["clientOS"] == "unix"


# --- to_remote --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("/home/ada/project/a.py", "/content/project/a.py"),
        ("/home/ada/project/sub/a.py", "/content/project/sub/a.py"),
        ("/home/ada/project2/a.py", None),
        ("/home/ada/Project/a.py", None),
        ("/usr/lib/python3.13/json/__init__.py", None),
    ],
)
def test_a_local_path_has_its_place_on_the_runtime(path: str, remote: str | None) -> None:
    assert POSIX.to_remote(path) == remote


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("C:\\Users\\Ada\\project\\sub\\A.py", "/content/project/sub/A.py"),
        ("c:\\users\\ada\\PROJECT\\sub\\A.py", "/content/project/sub/A.py"),
        ("c:/Users/Ada/project/sub/A.py", "/content/project/sub/A.py"),
        ("C:\\Users\\Ada\\project2\\A.py", None),
        ("D:\\Users\\Ada\\project\\A.py", None),
    ],
)
def test_windows_cares_for_neither_case_nor_kind_of_slash(path: str, remote: str | None) -> None:
    assert WINDOWS.to_remote(path) == remote


def test_a_runtime_on_windows_gets_its_separators_too() -> None:
    across = PathMapping(local_root="/p", remote_root="D:\\p")
    assert across.to_remote("/p/sub/a.py") == "D:\\p\\sub\\a.py"
    alike = PathMapping(local_root="C:\\p", remote_root="D:\\p")
    assert alike.to_remote("C:\\p\\sub\\a.py") == "D:\\p\\sub\\a.py"


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_every_file_of_the_project_has_its_place(names: list[str]) -> None:
    assert POSIX.to_remote("/home/ada/project/" + "/".join(names)) == "/content/project/" + "/".join(names)
    local = "C:\\Users\\Ada\\project\\" + "\\".join(names)
    assert WINDOWS.to_remote(local) == "/content/project/" + "/".join(names)
