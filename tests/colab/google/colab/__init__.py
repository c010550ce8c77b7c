"""A FAKE of Colab's `google.colab`, for tests: it is there, and it is in the way, as the real one is.

It is stricter than the real one: loaded into any kernel but Colab's own, it fails, and with it the kernel.
A kernel of ours that forgot to leave the extension out is noticed so.
"""

from google.colab._kernel import Kernel

__all__ = ["Kernel", "load_ipython_extension"]


def load_ipython_extension(shell):
    """Refuse any kernel but the faked one."""
    if not isinstance(getattr(shell, "kernel", None), Kernel):
        raise RuntimeError("the fake google.colab was loaded into a kernel that is not Colab's")
    shell.user_ns["colab_extension_is_loaded"] = True
