"""pandas frames and series as Parquet, exactly or not at all.

Parquet and pyarrow hold most of a frame; what they lose (which missing value stood in a column of objects,
the frequency of a time index, labels that are not text, attrs) lies as JSON in the file's metadata under
`colab_magics`. `serialize` opens what it wrote and compares, so that a frame that would come back different
is refused here and not noticed weeks later.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Iterable
from typing import Any

from colab_magics.errors import CorruptError, VariableError
from colab_magics.jobs.spec import Json
from colab_magics.store import variable_json

METADATA_KEY = b"colab_magics"
SAFE_PYARROW = (14, 0, 1)
"""Older ones run pickles hidden in a Parquet file's schema.
Source: https://nvd.nist.gov/vuln/detail/CVE-2023-47248"""


def is_frame(value: object) -> bool:
    """Whether `value` is a pandas DataFrame or Series, not of a subclass. Does not import pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and type(value) in (pandas.DataFrame, pandas.Series)


def memory_bytes(value: Any) -> int:
    """How much memory a frame or series takes at least; text is not counted."""
    usage = value.memory_usage(index=True)
    return int(usage if isinstance(usage, int) else usage.sum())


def serialize(name: str, value: Any) -> bytes:
    """The Parquet file of a DataFrame or Series.

    Raises:
        VariableError: it would come back different, or pyarrow is not installed.
    """
    import pandas as pd

    parquet = _import_parquet(name)
    import pyarrow as pa

    is_series = isinstance(value, pd.Series)
    frame = value.to_frame(value.name if isinstance(value.name, str) else "value") if is_series else value
    extra = {
        "series": [_encode(value.name, place=f"the name of {name}")] if is_series else None,
        "attrs": _encode(dict(value.attrs), place=f"{name}.attrs"),
        "freq": getattr(frame.index, "freqstr", None)
        if not isinstance(frame.index, pd.PeriodIndex)
        else None,
        "object_columns": [
            [i, _missing_marker(frame.iloc[:, i])]
            for i in range(frame.shape[1])
            if _is_object(frame.dtypes.iloc[i])
        ],
        "object_levels": _object_levels(frame.index),
        "object_labels": _object_levels(frame.columns),
    }
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "will not roundtrip correctly": the comparison below decides
            table = pa.Table.from_pandas(frame)
        known = {**(table.schema.metadata or {}), METADATA_KEY: json.dumps(extra).encode()}
        parquet.write_table(table.replace_schema_metadata(known), buffer)
        difference = _difference(value, _read(buffer.getvalue()))
    except Exception as error:
        raise VariableError(f"Parquet cannot hold {name}: {_one_line(error)}") from error
    if difference:
        raise VariableError(f"{name} would come back from Parquet changed: {difference}")
    return buffer.getvalue()


def deserialize(name: str, data: bytes) -> object:
    """The DataFrame or Series in a Parquet file.

    Raises:
        CorruptError: it does not parse.
        VariableError: pandas or pyarrow is not installed.
    """
    _import_parquet(name)
    try:
        return _read(data)
    except Exception as error:
        raise CorruptError(
            f"the stored data of {name} is not a whole Parquet file: {_one_line(error)}"
        ) from error


def _import_parquet(name: str) -> Any:
    try:
        import pandas  # noqa: F401
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise VariableError(
            f"{name} is a pandas frame, sent as Parquet; {error.name} is missing: pip install pandas pyarrow"
        ) from error
    version = tuple(int(part) for part in pyarrow.__version__.split(".")[:3] if part.isdigit())
    if version < SAFE_PYARROW:
        raise VariableError(
            f"{name} travels as Parquet, and a Parquet file can make pyarrow {pyarrow.__version__} run code: "
            f"pip install 'pyarrow>=14.0.1'"
        )
    return pyarrow.parquet


def _read(data: bytes) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = parquet.ParquetFile(pa.BufferReader(data)).read()
        frame = table.to_pandas()
    extra = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"null"))
    if extra is None:
        return frame
    for position, missing in extra["object_columns"]:
        frame.isetitem(position, _as_objects(frame.iloc[:, position], missing))
    frame.index = _with_object_levels(frame.index, extra["object_levels"])
    frame.columns = _with_object_levels(frame.columns, extra["object_labels"])
    if extra["freq"] is not None:
        frame.index.freq = extra["freq"]
    attrs = _decode(extra["attrs"])
    if extra["series"] is None:
        frame.attrs = attrs
        return frame
    series = frame.iloc[:, 0].rename(_decode(extra["series"][0]))
    series.attrs = attrs
    return series


def _encode(value: object, *, place: str) -> Json:
    return variable_json.encode(value, place=place, leaf=lambda _value, _place: None)


def _decode(value: Any) -> Any:
    return variable_json.decode(value, leaf=_no_leaf)


def _no_leaf(tag: str, name: str) -> object:
    raise ValueError(f"{tag} {name!r} in a frame's metadata")


def _is_object(dtype: object) -> bool:
    return str(dtype) == "object"


def _missing_marker(column: Any) -> str | None:
    """Which object stands for a missing value in a column of objects; None where none is missing."""
    import pandas as pd

    missing = list(column[column.isna()])
    if not missing:
        return None
    return "None" if missing[0] is None else "NA" if missing[0] is pd.NA else "nan"


def _as_objects(column: Any, missing: str | None) -> Any:
    import pandas as pd

    objects = column.astype(object)
    if missing is None:
        return objects
    marker = {"None": None, "NA": pd.NA, "nan": float("nan")}[missing]
    values = [marker if absent else item for item, absent in zip(objects, column.isna(), strict=True)]
    return pd.Series(values, index=column.index, name=column.name, dtype=object)


def _object_levels(index: Any) -> list[int]:
    levels = index.levels if index.nlevels > 1 else [index]
    return [
        i for i, level in enumerate(levels) if _is_object(level.dtype) and level.inferred_type == "string"
    ]


def _with_object_levels(index: Any, positions: Iterable[int]) -> Any:
    for i in positions:
        if index.nlevels == 1:
            index = index.astype(object)
        else:
            index = index.set_levels(index.levels[i].astype(object), level=i)
    return index


def _difference(value: Any, back: Any) -> str | None:
    """What is not the same in `back`, in words; None where nothing is."""
    import pandas as pd

    if type(value) is not type(back) or value.shape != back.shape:
        return f"it would be a {type(back).__name__} of shape {back.shape}"
    for (where, column), (_, other) in zip(_columns(value), _columns(back), strict=True):
        if not _is_object(column.dtype):
            continue
        for row, (a, b) in enumerate(zip(column, other, strict=True)):
            if not _is_same(a, b):
                return f"row {row}{where} holds {a!r:.60}, it would be {b!r:.60}"
    is_series = isinstance(value, pd.Series)
    compare = pd.testing.assert_series_equal if is_series else pd.testing.assert_frame_equal
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compare(value, back, check_exact=True, check_freq=True, check_flags=False)
    except AssertionError as error:
        return _one_line(error)
    return None


def _columns(value: Any) -> list[tuple[str, Any]]:
    """The columns, the index among them, each with the words for where it stands."""
    index = (" of the index", value.index)
    if value.ndim == 1:
        return [("", value), index]
    return [index, *((f" of {label!r}", value.iloc[:, i]) for i, label in enumerate(value.columns))]


def _is_same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(_is_same(a[key], b[key]) for key in a)
    if isinstance(a, float):
        return a == b or (a != a and b != b)
    return a is b or (type(a).__module__ != "numpy" and bool(a == b))


def _one_line(error: BaseException) -> str:
    return " ".join(" ".join(str(part) for part in error.args).split())[:300]
