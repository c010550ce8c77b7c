"""Nested values with arrays and tensors in them as one safetensors file.

The file holds the arrays; how they hang together is JSON (`variable_json`) in its metadata under
`colab_magics`. The tensors of a flat state dict lie under their own names, so that any program that reads
safetensors reads it; those of a nested value under the path to them, as in `optimizer.state.0.exp_avg`.

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import re
import struct
import sys
from dataclasses import dataclass, field
from typing import Any

from colab_magics.errors import CorruptError, VariableError
from colab_magics.jobs.spec import Json
from colab_magics.store import variable_json

METADATA_KEY = "colab_magics"
ALONE = "value"
"""The name, in the file, of a tensor that is the whole variable."""

CODES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "uint16": "U16",
    "int32": "I32",
    "uint32": "U32",
    "int64": "I64",
    "uint64": "U64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
"""Names of dtypes, in numpy and torch alike, and what safetensors calls them."""

_NAMES = {code: name for name, code in CODES.items()}


@dataclass(slots=True)
class Leaves:
    """The arrays and tensors met while a value is encoded: name in the file -> array or tensor.

    One that is met twice (tied weights) is stored once and comes back as one object.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    _names: dict[tuple[object, ...], str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """How many bytes their data has together."""
        return sum(
            leaf.numel() * leaf.element_size() if is_tensor(leaf) else leaf.nbytes
            for leaf in self.values.values()
        )

    def add(self, value: object, place: str) -> Json:
        """Takes an array or tensor in and returns the JSON that stands for it; None for anything else."""
        if is_tensor(value):
            tag, data = "$tensor", _check_tensor(value, place)
            identity: tuple[object, ...] = (
                data.data_ptr() or id(data),
                data.shape,
                data.stride(),
                data.dtype,
            )
        elif is_array(value):
            tag, data = "$array", _check_array(value, place)
            identity = (id(value),)
        else:
            _check_not_a_module(value, place)
            return None
        if identity not in self._names:
            key = self._free_key(place)
            self.values[key] = data
            self._names[identity] = key
        return {tag: self._names[identity]}

    def _free_key(self, place: str) -> str:
        path = (
            re.sub(r"\['?|'?\]\['?", ".", place.removeprefix(self.name))
            .strip(".")
            .removesuffix("']")
            .removesuffix("]")
        )
        key = path or ALONE
        number = 2
        while key in self.values or key == "__metadata__":
            key = f"{path}~{number}"
            number += 1
        return key


def is_array(value: object) -> bool:
    """Whether `value` is a numpy array, not of a subclass. Does not import numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray


def is_tensor(value: object) -> bool:
    """Whether `value` is a torch tensor or parameter. Does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and type(value) in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


def serialize(skeleton: Json, *, leaves: Leaves) -> bytes:
    """The file of a value.

    Args:
        skeleton: what `variable_json.encode` returned with `leaves.add` as its `leaf`.
        leaves: the arrays and tensors that it refers to.
    """
    header: dict[str, Any] = {
        "__metadata__": {METADATA_KEY: variable_json.dumps(skeleton, place=leaves.name)}
    }
    chunks = []
    offset = 0
    for key, leaf in sorted(leaves.values.items(), key=_item_size_bytes, reverse=True):
        # Wide items first: then every array is aligned in a file that starts its data at a multiple of 8.
        dtype, data = _dtype_name(leaf), _tensor_bytes(leaf) if is_tensor(leaf) else leaf.tobytes(order="C")
        header[key] = {
            "dtype": CODES[dtype],
            "shape": list(leaf.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *chunks])


def deserialize(name: str, data: bytes) -> object:
    """The value in a safetensors file; a dict of torch tensors where colab-magics did not write the file.

    Raises:
        CorruptError: it does not parse.
        VariableError: the library that the arrays need is not installed.
    """
    import safetensors

    try:
        stored = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        skeleton = header.get("__metadata__", {}).get(METADATA_KEY)
        names = [key for key in header if key != "__metadata__"]
        tree: Json = {key: {"$tensor": key} for key in names} if skeleton is None else json.loads(skeleton)
        opened: dict[tuple[str, str], object] = {}

        def leaf(tag: str, key: str) -> object:
            if (tag, key) not in opened:
                opened[tag, key] = (_to_tensor if tag == "$tensor" else _to_array)(stored[key])
            return opened[tag, key]

        return variable_json.decode(tree, leaf=leaf)
    except ImportError as error:
        raise VariableError(
            f"{name} holds arrays of {error.name}, which is not installed here: pip install {error.name}"
        ) from error
    except Exception as error:
        raise CorruptError(f"the stored data of {name} is not a whole safetensors file: {error}") from error


def _check_tensor(value: Any, place: str) -> Any:
    """The tensor on the CPU, without its gradient, in plain rows."""
    import torch

    if value.layout is not torch.strided:
        raise VariableError(f"{place} is a tensor of layout {value.layout}; send {place}.to_dense()")
    if value.is_quantized or value.is_meta or _dtype_name(value) not in CODES:
        what = "on the device meta, without data" if value.is_meta else f"of dtype {value.dtype}"
        raise VariableError(f"{place} is a tensor {what}, which safetensors cannot hold")
    return value.detach()


def _check_array(value: Any, place: str) -> Any:
    name = value.dtype.name
    if name not in CODES or not value.dtype.isnative:
        raise VariableError(
            f"{place} is an array of dtype {value.dtype}, which safetensors cannot hold; "
            f"send it as a variable of its own"
        )
    return value


def _check_not_a_module(value: object, place: str) -> None:
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if isinstance(value, torch.nn.Module):
        raise VariableError(
            f"{place} is a torch module ({type(value).__name__}); send its weights, {place}.state_dict(), "
            f"and call load_state_dict on a module made by the same code"
        )
    if isinstance(value, torch.optim.Optimizer):
        raise VariableError(f"{place} is a torch optimizer; send its state, {place}.state_dict()")


def _dtype_name(leaf: Any) -> str:
    return str(leaf.dtype).removeprefix("torch.")


def _item_size_bytes(item: tuple[str, Any]) -> int:
    leaf = item[1]
    return int(leaf.element_size() if is_tensor(leaf) else leaf.itemsize)


def _tensor_bytes(tensor: Any) -> bytes:
    import torch

    plain = tensor.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return bytes(memoryview(plain.view(torch.uint8).numpy())) if plain.numel() else b""


def _to_tensor(stored: Any) -> object:
    import torch

    dtype = getattr(torch, _NAMES[stored["dtype"]])
    if math.prod(stored["shape"]) == 0:
        return torch.empty(stored["shape"], dtype=dtype)
    return torch.frombuffer(bytearray(stored["data"]), dtype=dtype).reshape(stored["shape"])


def _to_array(stored: Any) -> object:
    import numpy as np

    dtype = np.dtype(_NAMES[stored["dtype"]])
    return np.frombuffer(bytearray(stored["data"]), dtype=dtype).reshape(stored["shape"])
