"""One display that changes in place, in a real kernel, in a real terminal, and in a file."""

from __future__ import annotations

import io
import os
import pty
import re
import struct
import termios
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

import colab_magics
from colab_magics.display.live import LiveDisplay, in_notebook


@dataclass(frozen=True)
class Lines:
    text: str

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": self.text, "text/html": f"<pre>{self.text}</pre>"}


class Terminal:
    """A pseudo-terminal, and what its screen shows in the end."""

    def __init__(self, *, columns: int = 40, height: int = 10) -> None:
        self._reader, writer = pty.openpty()
        ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", height, columns, 0, 0))
        self.stream = os.fdopen(writer, "w", encoding="utf-8")

    def screen(self) -> list[str]:
        self.stream.close()
        sent = b""
        while True:
            try:
                chunk = os.read(self._reader, 65536)
            except OSError:  # Linux says EIO when the other end is closed
                break
            if not chunk:
                break
            sent += chunk
        os.close(self._reader)
        lines: list[str] = []
        for part in re.split(r"(\x1b\[\d+F\x1b\[J)", sent.decode().replace("\r\n", "\n")):
            if up := re.fullmatch(r"\x1b\[(\d+)F\x1b\[J", part):
                assert int(up[1]) <= len(lines)
                del lines[len(lines) - int(up[1]) :]
            else:
                lines += part.split("\n")[:-1]
        return lines


def test_a_terminal_is_drawn_over():
    terminal = Terminal()
    live = LiveDisplay(terminal.stream)
    for text in ("a 1\nb 1", "a 2\nb 1\nc 1", "a 3"):
        live.update(Lines(text))
    live.close()
    assert terminal.screen() == ["a 3"]


def test_a_line_as_long_as_the_window_does_not_wrap():
    terminal = Terminal(columns=20)
    live = LiveDisplay(terminal.stream)
    live.update(Lines("x" * 50))
    live.update(Lines("y" * 50))
    assert terminal.screen() == ["y" * 19 + "…"]


def test_what_is_too_tall_for_the_window_is_clipped_until_the_end():
    terminal = Terminal(height=5)
    live = LiveDisplay(terminal.stream)
    text = "\n".join(f"line {i}" for i in range(20))
    live.update(Lines(text))
    live.update(Lines(text + " new"))
    live.close()
    assert terminal.screen() == (text + " new").split("\n")
    clipped = Terminal(height=5)
    LiveDisplay(clipped.stream).update(Lines(text))
    assert clipped.screen() == ["line 0", "line 1", "line 2", "… 17 more lines"]


def test_a_file_gets_the_lines_that_changed():
    stream = io.StringIO()
    live = LiveDisplay(stream)
    for text in ("a 1\nb 1", "a 1\nb 1", "a 2\nb 1"):
        live.update(Lines(text))
    live.close()
    assert stream.getvalue() == "a 1\nb 1\na 2\n"


def test_outside_a_kernel_there_is_no_notebook():
    assert not in_notebook()


@pytest.fixture(scope="module")
def kernel():
    """A real ipykernel that can import the package."""
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=120)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(client, code: str) -> list[dict]:
    """Every iopub message that the code causes, up to idle."""
    messages: list[dict] = []
    reply = client.execute_interactive(code, output_hook=messages.append, timeout=60)
    assert reply["content"]["status"] == "ok", reply["content"]
    return messages


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_notebook_has_one_output_that_is_updated(kernel):
    messages = run(
        kernel,
        f"""
import sys
sys.path.insert(0, {str(Path(colab_magics.__path__[0]).parent)!r})
from colab_magics.display.live import LiveDisplay, in_notebook
from colab_magics.display.tables import JobRow, JobTable
assert in_notebook()
live = LiveDisplay()
for state in ("queued", "running", "running", "succeeded"):
    live.update(JobTable((JobRow("a-1", "a", state),)))
live.close()
""",
    )
    shown = [m for m in messages if m["msg_type"] in ("display_data", "update_display_data")]
    assert [m["msg_type"] for m in shown] == ["display_data", "update_display_data", "update_display_data"]
    assert len({m["content"]["transient"]["display_id"] for m in shown}) == 1
    assert "succeeded" in shown[-1]["content"]["data"]["text/html"]
    assert "text/plain" in shown[-1]["content"]["data"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_published_outputs_arrive_as_if_the_cell_had_run_here(kernel):
    messages = run(
        kernel,
        f"""
import sys
sys.path.insert(0, {str(Path(colab_magics.__path__[0]).parent)!r})
from colab_magics.display.outputs import publish, to_publish
publish(to_publish([
    {{"output_type": "stream", "name": "stderr", "text": "warning\\n"}},
    {{
        "output_type": "display_data",
        "data": {{"text/html": "<b>x</b>", "text/plain": "x"}},
        "metadata": {{"k": 1}},
    }},
]))
""",
    )
    stream, shown = (m["content"] for m in messages if m["msg_type"] in ("stream", "display_data"))
    assert (stream["name"], stream["text"]) == ("stderr", "warning\n")
    assert shown["data"] == {"text/html": "<b>x</b>", "text/plain": "x"}
    assert shown["metadata"] == {"k": 1}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_running_job_shows_is_updated_in_place_and_goes_when_it_is_done(kernel):
    messages = run(
        kernel,
        f"""
import sys
sys.path.insert(0, {str(Path(colab_magics.__path__[0]).parent)!r})
from colab_magics.display.watching import Screen

def plot(data, **metadata):
    return {{"output_type": "display_data", "data": {{"image/png": data}}, "metadata": metadata}}

text = {{"output_type": "stream", "name": "stdout", "text": "for the log"}}
screen = Screen()
screen.live([("a", [text, plot("AAAA")]), ("broken", ["?", {{"output_type": "display_data", "data": 7}}])])
screen.live([("a", [text, plot("AAAA")])])
screen.live([("a", [text, plot("BBBB", width=3)])])
screen.live([])
screen.close()
""",
    )
    shown = [m for m in messages if m["msg_type"] in ("display_data", "update_display_data")]
    told = [(m["msg_type"], m["content"]["data"].get("image/png")) for m in shown]
    assert told[1] == ("display_data", "AAAA")
    (image_id,) = {
        m["content"]["transient"]["display_id"] for m in shown if "image/png" in m["content"]["data"]
    }
    updates = [m["content"] for m in shown if m["content"]["transient"]["display_id"] == image_id]
    assert [each["data"].get("image/png") for each in updates] == ["AAAA", "BBBB", None]
    assert updates[1]["metadata"] == {"width": 3}
    assert updates[2]["data"] == {"text/plain": ""}


def test_a_terminal_without_a_size_counts_as_a_hundred_columns():
    class Blind(io.StringIO):
        def isatty(self):
            return True

    stream = Blind()
    LiveDisplay(stream).update(Lines("x" * 150))
    assert stream.getvalue() == "x" * 99 + "…\n"
