"""The messaging protocol's own test suite (PyPI: jupyter_kernel_test), every sample of it filled in.

Bare ipykernel passes it, and so the proxy kernel must. Of the suite's tests one is not here: `iopub_welcome`,
which ipykernel sends although the version of the protocol that it names does not have it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import jupyter_kernel_test
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from kernel_environments import Stack
from kernel_targets import Remotes, Target


class Samples:
    """What the suite wants of a Python kernel, and what it has no tests for: questions and interrupts."""

    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples: ClassVar = [
        {"text": "zi", "matches": {"zip"}},
        {"text": "import mimety", "matches": {"mimetypes"}},
    ]
    complete_code_samples: ClassVar = ["1", "print('hello')", "def f(x):\n  return x*2\n\n\n"]
    incomplete_code_samples: ClassVar = ["print('''hello", "def f(x):\n  x*2"]
    invalid_code_samples: ClassVar = ["import = 7q"]
    code_page_something = "zip?"
    code_generate_error = "raise"
    code_execute_result: ClassVar = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
        {"code": "from IPython.display import Math\nMath('x^2')", "mime": "text/latex"},
    ]
    code_display_data: ClassVar = [
        {
            "code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))",
            "mime": "text/html",
        },
        {"code": "from IPython.display import Math, display; display(Math('x'))", "mime": "text/latex"},
    ]
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    def test_history(self: Any) -> None:
        """The suite's own wants the session's number back; IPython calls the one that runs 0."""
        codes = [sample["code"] for sample in self.code_execute_result]
        asked = {"raw": True, "output": False}
        reply = self.history_helper(codes, hist_access_type="tail", n=len(codes), **asked)
        last = reply["content"]["history"]
        assert [code for _, _, code in last] == codes
        session, first, _ = last[0]
        span = {"session": session, "start": first, "stop": first + 1}
        reply = self.history_helper([], hist_access_type="range", **span, **asked)
        assert [entry[1:] for entry in reply["content"]["history"]] == [[first, codes[0]]]
        for more in ({"unique": True}, {"n": 1}):
            reply = self.history_helper([], hist_access_type="search", pattern="1?2*", **more, **asked)
            assert [code for _, _, code in reply["content"]["history"]] == [codes[0]]
        reply = self.history_helper(codes[:1], hist_access_type="tail", n=1, raw=True, output=True)
        assert reply["content"]["history"][0][2] == [codes[0], None]  # outputs are not logged

    def test_input(self: Any) -> None:
        for function, password in (("input", False), ("__import__('getpass').getpass", True)):
            self.flush_channels()
            msg_id = self.kc.execute(f"print(repr({function}('Name: ')))", allow_stdin=True)
            question = self.kc.get_stdin_msg(timeout=jupyter_kernel_test.TIMEOUT)
            # The suite's own schema wants a number for `password`, where the protocol has a boolean.
            assert (question["msg_type"], question["parent_header"]["msg_id"]) == ("input_request", msg_id)
            assert question["content"] == {"prompt": "Name: ", "password": password}
            self.kc.input("Grace")
            reply = self.get_non_kernel_info_reply(timeout=jupyter_kernel_test.TIMEOUT)
            jupyter_kernel_test.validate_message(reply, "execute_reply", msg_id)
            assert reply["content"]["status"] == "ok"

    def test_interrupt(self: Any) -> None:
        self.flush_channels()
        msg_id = self.kc.execute("import time\nprint('started', flush=True)\ntime.sleep(600)")
        while self.kc.get_iopub_msg(timeout=jupyter_kernel_test.TIMEOUT)["msg_type"] != "stream":
            pass
        self.km.interrupt_kernel()
        reply = self.get_non_kernel_info_reply(timeout=jupyter_kernel_test.TIMEOUT)
        jupyter_kernel_test.validate_message(reply, "execute_reply", msg_id)
        assert reply["content"]["ename"] == "KeyboardInterrupt"


@contextlib.contextmanager
def kernelspec(target: Target) -> Iterator[str]:
    """The kernelspec of a target, where everybody looks for one; its name."""
    with (
        tempfile.TemporaryDirectory(prefix="colab-protocol-") as folder,
        Remotes(Path(folder)) as remotes,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("JUPYTER_PATH", str(remotes.search_path))
        yield remotes.kernelspec(target)


def come_through(client: BlockingKernelClient) -> None:
    """Wait until the remote kernel is there, and not only its proxy.

    Its server has asked it whether it lives, and what is published about that reaches everybody. The suite
    takes the next `status` for that of its own request, whatever its parent.
    """
    client.execute_interactive("pass", timeout=jupyter_kernel_test.TIMEOUT)


class TestBare(Samples, jupyter_kernel_test.KernelTests):
    @classmethod
    def setUpClass(cls) -> None:
        cls.kernel_name = cls.enterClassContext(kernelspec(Target(False, Stack.NEWEST)))
        super().setUpClass()


class TestProxy(Samples, jupyter_kernel_test.KernelTests):
    @classmethod
    def setUpClass(cls) -> None:
        cls.kernel_name = cls.enterClassContext(kernelspec(Target(True, Stack.NEWEST)))
        super().setUpClass()
        come_through(cls.kc)


@pytest.mark.colab_pins
@pytest.mark.timeout(1800)
class TestProxyToColab(Samples, jupyter_kernel_test.KernelTests):
    @classmethod
    def setUpClass(cls) -> None:
        cls.kernel_name = cls.enterClassContext(kernelspec(Target(True, Stack.COLAB)))
        super().setUpClass()
        come_through(cls.kc)
