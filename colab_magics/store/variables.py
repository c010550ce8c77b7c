"""Variables cross between the notebook and the job in open formats that hold no code.

| value                                                            | kind        | file           |
|------------------------------------------------------------------|-------------|----------------|
| None, bool, int, float, str, bytes, list, tuple, dict, set, numpy | JSON        | `.json`        |
| scalars, nested at will                                          |             |                |
| a numpy array                                                    | NUMPY       | `.npy`         |
| a torch tensor; anything of the first line with tensors or       | SAFETENSORS | `.safetensors` |
| arrays in it: state dicts of models and optimizers, checkpoints  |             |                |
| a pandas DataFrame or Series                                     | PARQUET     | `.parquet`     |
| anything else, where both sides allow it                         | PICKLE      | `.pkl`         |

A value comes back equal and of the same type, or is refused. What changes, by intent: a tensor comes back
on the CPU, in plain rows, without its gradient, a parameter as a tensor, an OrderedDict as a dict. Each file
says by itself what is in it: the file's suffix is all that has to be known to open it.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
import io
import json
import pickle
import sys
import warnings
from dataclasses import dataclass
from typing import Any

from colab_magics.errors import CorruptError, VariableError
from colab_magics.store import variable_frames, variable_json, variable_tensors


class Kind(enum.StrEnum):
    """The format of a stored variable."""

    JSON = "json"
    NUMPY = "numpy"
    SAFETENSORS = "safetensors"
    PARQUET = "parquet"
    PICKLE = "pickle"


MAX_NPY_HEADER_BYTES = 10_000
"""numpy reads no longer header from a file that it does not trust.
Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.read_array.html"""

_SUFFIXES = {
    Kind.JSON: ".json",
    Kind.NUMPY: ".npy",
    Kind.SAFETENSORS: ".safetensors",
    Kind.PARQUET: ".parquet",
    Kind.PICKLE: ".pkl",
}


@dataclass(frozen=True, slots=True)
class Packed:
    """A variable as the bytes of one file."""

    kind: Kind
    data: bytes

    @property
    def suffix(self) -> str:
        """The end of the file's name, `.json` for instance."""
        return suffix_of(self.kind)


def suffix_of(kind: Kind) -> str:
    """The end of the name of a file of this kind, with its dot."""
    return _SUFFIXES[kind]


def kind_of(file_name: str) -> Kind | None:
    """The kind of a file by the end of its name (`acc.json`, `.json`), None where it is none of ours."""
    return next((kind for kind, suffix in _SUFFIXES.items() if file_name.endswith(suffix)), None)


def pack(
    name: str, value: object, *, allow_pickle: bool = False, max_bytes: int, way_out: str = ""
) -> Packed:
    """The variable in the format for its type. `value` is not changed.

    Args:
        name: what the person calls it; messages use it.
        value: see the table in the module's docstring. A tensor on a GPU is copied to the host first.
        allow_pickle: use pickle (cloudpickle where it is installed, which also takes functions and classes of
            the notebook) for what has no open format.
        max_bytes: the most bytes that the file may have. Where the size is known, it is checked before
            anything is copied.
        way_out: what to do about a value that is too large; empty is what helps in a notebook.

    Raises:
        VariableError: the value has no exact open form, or is too large, or a library is missing.
    """
    try:
        packed = _pack_openly(name, value, max_bytes, way_out)
    except _TooLargeError as error:
        raise VariableError(str(error)) from None
    except VariableError as error:
        if not allow_pickle:
            raise VariableError(
                f"{error}; to send {name} as a pickle, queue the job and sync with --pickle"
            ) from error
        packed = Packed(kind=Kind.PICKLE, data=_dump_pickle(name, value))
    _check_size(name, len(packed.data), max_bytes, way_out)
    return packed


def unpack(name: str, packed: Packed, *, allow_pickle: bool = False) -> object:
    """The value that was packed. Runs no code from `packed`, unless it is a pickle and those are allowed.

    Raises:
        VariableError: it is a pickle and those are not allowed, or a library is not installed.
        CorruptError: the data does not parse.
    """
    match packed.kind:
        case Kind.JSON:
            return _load_json(name, packed.data)
        case Kind.NUMPY:
            return _load_npy(name, packed.data)
        case Kind.SAFETENSORS:
            return variable_tensors.deserialize(name, packed.data)
        case Kind.PARQUET:
            return variable_frames.deserialize(name, packed.data)
        case Kind.PICKLE:
            return _load_pickle(name, packed.data, allow_pickle)


def is_scalar(value: object) -> bool:
    """Whether `value` fits one cell of a table: int, float, bool, str, or a numpy scalar of those."""
    if isinstance(value, (bool, int, float, str)):
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.number, numpy.bool_))


class _TooLargeError(VariableError):
    """Apart from other VariableErrors because pickle is no way out of it."""


def _pack_openly(name: str, value: object, max_bytes: int, way_out: str) -> Packed:
    if variable_tensors.is_array(value):
        _check_size(name, value.nbytes, max_bytes, way_out)  # type: ignore[attr-defined]
        return Packed(kind=Kind.NUMPY, data=_dump_npy(name, value))
    if variable_frames.is_frame(value):
        _check_memory(name, variable_frames.memory_bytes(value), max_bytes, way_out)
        return Packed(kind=Kind.PARQUET, data=variable_frames.serialize(name, value))
    leaves = variable_tensors.Leaves(name)
    tree = variable_json.encode(value, place=name, leaf=leaves.add)
    if leaves.values:
        _check_size(name, leaves.nbytes, max_bytes, way_out)
        return Packed(kind=Kind.SAFETENSORS, data=variable_tensors.serialize(tree, leaves=leaves))
    return Packed(kind=Kind.JSON, data=variable_json.dumps(tree, place=name).encode())


def _check_size(name: str, size_bytes: int, max_bytes: int, way_out: str) -> None:
    if size_bytes > max_bytes:
        way_out = way_out or (
            "send a part of it, or a file it can be made from, or raise the limit with "
            f"%config ColabMagics.max_variable_mb = {-(-size_bytes // 1_000_000)}"
        )
        raise _TooLargeError(
            f"{name} is {size_bytes / 1e6:.1f} MB, over the limit of {max_bytes / 1e6:g} MB for one "
            f"variable: {way_out}"
        )


def _check_memory(name: str, memory_bytes: int, max_bytes: int, way_out: str) -> None:
    """Parquet compresses: only a frame that cannot fit by any stretch is refused before it is written."""
    if memory_bytes > 50 * max_bytes:
        way_out = way_out or (
            "send a part of it, or raise the limit with %config ColabMagics.max_variable_mb"
        )
        raise _TooLargeError(
            f"{name} takes {memory_bytes / 1e6:.1f} MB of memory, far over the limit of "
            f"{max_bytes / 1e6:g} MB for one variable: {way_out}"
        )


def _dump_npy(name: str, value: Any) -> bytes:
    import numpy as np

    if value.dtype.hasobject:
        raise VariableError(
            f"{name} is a numpy array of dtype {value.dtype}: its items are Python objects, which .npy "
            f"holds only as pickle; convert it with {name}.astype(…) or {name}.tolist()"
        )
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of numpy 1.16, and of what the check below sees
        described = np.lib.format.dtype_to_descr(value.dtype)
        if np.lib.format.descr_to_dtype(described) != value.dtype:
            raise VariableError(f"{name} is an array of dtype {value.dtype}, which .npy cannot hold exactly")
        np.lib.format.write_array(buffer, value, allow_pickle=False)
    if buffer.tell() - value.nbytes > MAX_NPY_HEADER_BYTES:
        raise VariableError(f"{name} is an array with more fields than .npy can name; make it a pandas frame")
    return buffer.getvalue()


def _load_npy(name: str, data: bytes) -> object:
    try:
        import numpy as np
    except ImportError as error:
        raise VariableError(f"{name} is a numpy array; pip install numpy to open it") from error
    buffer = io.BytesIO(data)
    try:
        # read_array, not np.load: that one would look for a zip or a pickle behind the name .npy.
        array = np.lib.format.read_array(buffer, allow_pickle=False)
    except Exception as error:
        raise CorruptError(f"the stored data of {name} is not a whole .npy file: {error}") from error
    if buffer.tell() != len(data):
        raise CorruptError(f"the .npy file of {name} has {len(data) - buffer.tell()} bytes after its array")
    return array


def _load_json(name: str, data: bytes) -> object:
    try:
        return variable_json.decode(json.loads(data), leaf=_no_arrays)
    except ImportError as error:
        raise VariableError(f"{name} holds numpy numbers; pip install numpy to open it") from error
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        OverflowError,
        RecursionError,
        AttributeError,
    ) as error:
        raise CorruptError(f"the stored data of {name} is not JSON of colab-magics: {error}") from error


def _no_arrays(tag: str, name: str) -> object:
    raise ValueError(f"{tag} {name!r} in a file that holds no arrays")


def _dump_pickle(name: str, value: object) -> bytes:
    try:
        if importlib.util.find_spec("cloudpickle") is not None:
            return bytes(importlib.import_module("cloudpickle").dumps(value))
        return pickle.dumps(value)
    except Exception as error:
        raise VariableError(
            f"{name} is {variable_json.describe(value)} that pickle cannot write: {error}"
        ) from error


def _load_pickle(name: str, data: bytes, allow_pickle: bool) -> object:
    if not allow_pickle:
        raise VariableError(
            f"{name} came back as a pickle, which can run any code when it is opened; if you trust the "
            f"machine that made it, sync again with --pickle"
        )
    try:
        return pickle.loads(data)  # noqa: S301 - the person asked for it
    except (pickle.UnpicklingError, EOFError) as error:
        raise CorruptError(f"the stored data of {name} is not a whole pickle: {error}") from error
    except Exception as error:
        raise VariableError(
            f"the pickle of {name} cannot be opened here ({type(error).__name__}: {error}); it needs the "
            f"code and the packages that it was made with"
        ) from error
