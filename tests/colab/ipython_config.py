"""What Colab's /etc/ipython/ipython_config.py sets, that every ipykernel on the machine inherits.

Put together from what is known of the image of August 2026; not copied from a live machine.
"""

c = get_config()  # type: ignore[name-defined]  # noqa: F821

c.IPKernelApp.kernel_class = "google.colab._kernel.Kernel"
c.IPKernelApp.capture_fd_output = False
c.InteractiveShellApp.extensions = ["google.colab"]
c.InteractiveShellApp.reraise_ipython_extension_failures = True
c.HistoryManager.hist_file = ":memory:"
