"""A FAKE of Colab's kernel class, for tests: an ordinary kernel by another name."""

from ipykernel.ipkernel import IPythonKernel


class Kernel(IPythonKernel):
    """Stands where `google.colab._kernel.Kernel` stands on Colab."""

    implementation = "fake google.colab"
