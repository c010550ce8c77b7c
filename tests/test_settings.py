from __future__ import annotations

import pytest

from colab_magics.errors import UsageError
from colab_magics.settings import Settings


def test_nothing_given_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()
    assert Settings().branch == "gpu-experiments"


def test_the_environment_beats_the_default_and_an_argument_beats_the_environment() -> None:
    environ = {"COLAB_MAGICS_REMOTE": "upstream", "COLAB_MAGICS_MAX_FILE_MB": "2.5"}
    assert Settings.from_env(environ).remote == "upstream"
    assert Settings.from_env(environ).max_file_bytes == 2_500_000
    assert Settings.from_env(environ, remote="mine").remote == "mine"
    assert Settings.from_env(environ, remote=None).remote == "upstream"


def test_an_empty_variable_says_nothing() -> None:
    assert Settings.from_env({"COLAB_MAGICS_BRANCH": ""}).branch == "gpu-experiments"


@pytest.mark.parametrize("value", ["many", "0", "-1", "nan", "inf", ""])
def test_a_limit_that_is_no_number_above_zero_is_named(value: str) -> None:
    with pytest.raises(UsageError, match=r"^max_variable_mb is a number above 0; found "):
        Settings.from_env({}, max_variable_mb=value)


def test_the_variable_that_is_wrong_is_named() -> None:
    with pytest.raises(UsageError, match=r"^COLAB_MAGICS_MAX_FILE_MB is a number above 0; found 'big'$"):
        Settings.from_env({"COLAB_MAGICS_MAX_FILE_MB": "big"})


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no setting 'colour'"):
        Settings.from_env({}, colour="red")
