"""Variables cross in open formats: they come back equal and of the same type, or are refused."""

from __future__ import annotations

import collections
import datetime
import enum
import io
import json
import math
import pickle
import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyarrow import parquet

from colab_magics.errors import CorruptError, VariableError
from colab_magics.store.variables import Kind, Packed, is_scalar, kind_of, pack, suffix_of, unpack

LIMIT = 25_000_000
patient = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def there_and_back(value: object, *, kind: Kind | None = None) -> object:
    packed = pack("x", value, max_bytes=LIMIT)
    assert kind is None or packed.kind is kind
    return unpack("x", packed)


def assert_same(a: object, b: object) -> None:
    """Equal, and of equal types all the way down; NaN equals NaN."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert_same(list(a), list(b))
        assert_same(list(a.values()), list(b.values()))
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    elif isinstance(a, (float, np.floating)) and math.isnan(a):
        assert math.isnan(b)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
    elif isinstance(a, np.datetime64) and np.isnat(a):
        assert np.isnat(b)
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert torch.equal(a, b)
    else:
        assert a == b
        assert repr(a) == repr(b) or isinstance(a, (set, frozenset))


# ---- JSON ----

hashables = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.floats(width=32).map(np.float32)
    | st.integers(0, 255).map(np.uint8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=4)
        | st.sets(hashables, max_size=4)
    ),
    max_leaves=20,
)


@given(values)
@patient
def test_nested_values_come_back_exactly(value):
    assert_same(there_and_back(value, kind=Kind.JSON), value)


@pytest.mark.parametrize(
    "value",
    [
        {"$tuple": [1, 2]},
        {"$unknown": 1},
        {"$dict": []},
        {"a": {"$float": "nan"}},
        {"$a": 1, "b": 2},
        -0.0,
        10**300,
        "",
        {},
        [],
        (),
        "null",
        np.float64(0.97),
        np.float16("inf"),
        np.bool_(True),
        np.complex64(1 - 2j),
        np.complex128(complex(math.inf, 0.5)),
        np.datetime64("2024-02-29T12:00:00.123456789"),
        np.datetime64("NaT", "s"),
        np.timedelta64(-3, "h"),
        np.str_("é\n"),
        {"acc": np.float64(0.97), "losses": [np.float32(0.5)]},
        {1: 0.9, 2: 0.8},
    ],
    ids=repr,
)
def test_a_value_of_a_kind_people_have_comes_back_exactly(value):
    assert_same(there_and_back(value, kind=Kind.JSON), value)


def test_json_stays_readable_and_strict():
    data = pack("x", {"losses": [0.5, math.nan], "näme": "ü", "shape": (2, 3)}, max_bytes=LIMIT).data
    assert data.decode() == '{"losses": [0.5, {"$float": "nan"}], "näme": "ü", "shape": {"$tuple": [2, 3]}}'


class Color(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, 2, datetime.date(2024, 1, 1)]}, "x['a'][2] is a datetime.date, which has no open format"),
        ([{"c": Color.RED}], f"x[0]['c'] is a {Color.__module__}.Color"),
        (collections.Counter("a"), "x is a collections.Counter"),
        ({Color.RED: 1}, f"the key <Color.RED: 1> of x is a {Color.__module__}.Color"),
        (["\ud800"], "x[0] has text with half of a surrogate pair"),
        (10**5000, "x cannot be sent as JSON"),
        ({"df": pd.DataFrame()}, "x['df'] is a pandas"),
        (np.longdouble(1), "x is a numpy scalar of dtype float128; send numpy.asarray(x)"),
        (object(), "x is an object, which has no open format; to send x as a pickle, queue the job and sync"),
        (io.StringIO(), "x is a _io.StringIO"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_come_back_different_is_refused_with_its_place(value, message):
    with pytest.raises(VariableError) as caught:
        pack("x", value, max_bytes=LIMIT)
    assert message in str(caught.value)
    assert "--pickle" in str(caught.value)


def test_a_list_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(VariableError, match="100 levels deep, or contains itself"):
        pack("x", loop, max_bytes=LIMIT)


def test_equal_sets_are_equal_bytes():
    words = [f"word{i}" for i in range(50)]
    one = pack("x", set(words), max_bytes=LIMIT)
    assert one == pack("x", {*words[25:], *words[:25]}, max_bytes=LIMIT)


# ---- numpy ----


@given(
    hnp.arrays(
        st.one_of(
            hnp.boolean_dtypes(),
            hnp.integer_dtypes(),
            hnp.floating_dtypes(),
            hnp.complex_number_dtypes(),
            hnp.unicode_string_dtypes(),
            hnp.byte_string_dtypes(),
            hnp.datetime64_dtypes(),
            hnp.timedelta64_dtypes(),
            hnp.array_dtypes(allow_subarrays=True),
        ),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
@patient
def test_arrays_of_every_dtype_come_back_exactly(array):
    back = there_and_back(array, kind=Kind.NUMPY)
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_fortran_order_stays_and_views_come_back_whole():
    assert there_and_back(np.asfortranarray(np.arange(6).reshape(2, 3))).flags.f_contiguous
    np.testing.assert_array_equal(there_and_back(np.arange(10)[::-2]), [9, 7, 5, 3, 1])
    assert there_and_back(np.zeros(3)).flags.writeable


def test_an_array_of_objects_is_refused():
    with pytest.raises(VariableError, match=r"its items are Python objects, which .npy holds only as pickle"):
        pack("x", np.array([{}]), max_bytes=LIMIT)
    with pytest.raises(VariableError, match=r"numpy.ma"):
        pack("x", np.ma.array([1], mask=[True]), max_bytes=LIMIT)


def test_a_dtype_that_npy_drops_a_part_of_is_refused():
    with pytest.raises(VariableError, match=r"cannot hold exactly|Python objects"):
        pack("x", np.array(["a"], dtype=np.dtypes.StringDType()), max_bytes=LIMIT)


def test_field_names_in_any_alphabet_cross_and_too_many_fields_are_refused():
    array = np.zeros(2, dtype=[("Ā", "?")])
    assert there_and_back(array).dtype == array.dtype
    with pytest.raises(VariableError, match=r"more fields than \.npy can name; make it a pandas frame"):
        pack("x", np.zeros(1, dtype=[(f"field{i}", "f4") for i in range(1000)]), max_bytes=LIMIT)


# ---- torch, state dicts, checkpoints ----


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "int64", "uint8", "bool", "complex64"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 4)])
def test_a_tensor_comes_back_exactly(dtype, shape):
    tensor = torch.randint(0, 2, shape).to(getattr(torch, dtype))
    assert_same(there_and_back(tensor, kind=Kind.SAFETENSORS), tensor)


def test_a_tensor_comes_back_in_rows_without_its_gradient_and_can_be_written_to():
    tensor = torch.randn(4, 5, requires_grad=True)
    back = there_and_back(tensor.t()[::2])
    assert torch.equal(back, tensor.t()[::2])
    assert back.is_contiguous()
    assert not back.requires_grad
    back += 1
    assert torch.equal(there_and_back(torch.tensor([1 + 2j]).conj()), torch.tensor([1 - 2j]))


def test_a_state_dict_keeps_its_order_and_loads_into_a_new_module():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    packed = pack("weights", model.state_dict(), max_bytes=LIMIT)
    back = unpack("weights", packed)
    assert_same(back, dict(model.state_dict()))
    fresh = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    fresh.load_state_dict(back)
    from safetensors.torch import load

    assert_same(load(packed.data)["0.weight"], model.state_dict()["0.weight"])


def test_tied_weights_are_stored_once_and_come_back_tied():
    table = torch.randn(1000, 100)
    packed = pack("w", {"in": table, "out": table, "half": table[:500]}, max_bytes=LIMIT)
    assert len(packed.data) < 1.6 * 400_000
    back = unpack("w", packed)
    assert back["in"] is back["out"]
    assert_same(back["half"], table[:500])


def test_a_checkpoint_with_an_optimizer_comes_back_exactly():
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, betas=(0.9, 0.99))
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    checkpoint = {
        "model": dict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "curve": np.linspace(0, 1, 5),
        "[odd'] name": [torch.zeros(1), torch.ones(1)],
        "__metadata__": torch.ones(2),
    }
    assert_same(there_and_back(checkpoint, kind=Kind.SAFETENSORS), checkpoint)


def test_a_dict_of_arrays_comes_back_as_arrays():
    arrays = {
        "b": np.arange(3),
        "a": np.float32([[1.5]]),
        "0d": np.array(2.0),
        "f": np.asfortranarray(np.eye(2, 3)),
    }
    assert_same(there_and_back(arrays, kind=Kind.SAFETENSORS), arrays)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.nn.Linear(1, 1), "x is a torch module (Linear); send its weights, x.state_dict()"),
        ({"m": torch.nn.Linear(1, 1)}, "x['m'] is a torch module"),
        (torch.optim.SGD([torch.zeros(1)], lr=1), "x is a torch optimizer; send its state, x.state_dict()"),
        (torch.eye(2).to_sparse(), "x is a tensor of layout torch.sparse_coo; send x.to_dense()"),
        (torch.zeros(1, dtype=torch.complex128), "x is a tensor of dtype torch.complex128"),
        (torch.zeros(1, device="meta"), "x is a tensor on the device meta, without data"),
        (
            {"t": np.array(["2024"], "M8[Y]")},
            "x['t'] is an array of dtype datetime64[Y], which safetensors cannot",
        ),
        ([np.arange(2, dtype=">i4")], "x[0] is an array of dtype >i4"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_safetensors_cannot_hold_is_refused_with_the_way_out(value, message):
    with pytest.raises(VariableError) as caught:
        pack("x", value, max_bytes=LIMIT)
    assert message in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_tensor_comes_back_on_the_cpu():
    tensor = torch.randn(3, 4, device="cuda", requires_grad=True)
    back = there_and_back({"w": tensor.t()})
    assert back["w"].device.type == "cpu"
    assert torch.equal(back["w"], tensor.t().cpu())


def test_a_safetensors_file_of_another_program_opens_as_a_dict_of_tensors():
    from safetensors.torch import save

    back = unpack("x", Packed(kind=Kind.SAFETENSORS, data=save({"b": torch.ones(2), "a": torch.zeros(1)})))
    assert sorted(back) == ["a", "b"]
    assert torch.equal(back["b"], torch.ones(2))


# ---- pandas ----


def assert_same_frame(a, b):
    assert type(a) is type(b)
    compare = pd.testing.assert_series_equal if isinstance(a, pd.Series) else pd.testing.assert_frame_equal
    compare(a, b, check_exact=True, check_freq=True)
    assert a.attrs == b.attrs


def frames():
    index = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["letter", None])
    yield "plain", pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan], "c": ["x", None]})
    yield "empty", pd.DataFrame()
    yield "no rows", pd.DataFrame({"a": pd.Series([], dtype="int32")})
    yield "multiindex", pd.DataFrame({"v": range(4)}, index=index)
    yield "multicolumns", pd.DataFrame(np.eye(4), columns=index)
    yield "zones", pd.DataFrame({"t": pd.date_range("2024-03-31", periods=3, freq="h", tz="Europe/Paris")})
    yield (
        "time index",
        pd.DataFrame({"a": [1, 2, 3]}, index=pd.date_range("2024", periods=3, freq="D", name="day")),
    )
    yield "categories", pd.DataFrame({"k": pd.Categorical(["b", None], categories=["b", "a"], ordered=True)})
    yield "columns name", pd.DataFrame([[1, 2]], columns=pd.Index(["a", "b"], name="metric"))
    yield "integer columns", pd.DataFrame([[1, 2]], columns=[10, 20])
    yield "nullable", pd.DataFrame({"i": pd.array([1, None], dtype="Int8"), "b": pd.array([True, None])})
    yield "periods", pd.DataFrame({"p": pd.period_range("2024", periods=2, freq="M")})
    yield "period index", pd.DataFrame({"a": [1, 2]}, index=pd.period_range("2024", periods=2, freq="M"))
    yield "text objects with nan", pd.DataFrame({"s": pd.Series(["x", np.nan], dtype=object)})
    yield "text objects with None", pd.DataFrame({"s": pd.Series(["x", None], dtype=object)})
    yield "text objects in the index", pd.DataFrame({"a": [1]}, index=pd.Index(["r"], dtype=object))
    yield "text objects as labels", pd.DataFrame([[1]], columns=pd.Index(["c"], dtype=object))
    yield "dates", pd.DataFrame({"d": [datetime.date(2024, 1, 1), None]})
    yield "attrs", pd.DataFrame({"a": [1]})
    yield "series", pd.Series([1.5, 2.5], name="loss")
    yield "series without a name", pd.Series([1, 2], index=["a", "b"])
    yield "series with a tuple for a name", pd.Series([1, 2], name=("a", 1))
    yield "series of time", pd.Series(pd.to_timedelta([1, None], unit="s"))
    yield (
        "series of objects",
        pd.Series(["x", np.nan], dtype=object, index=pd.date_range("2024", periods=2, freq="h")),
    )


@pytest.mark.parametrize(
    ("label", "frame"), list(frames()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_frame_comes_back_exactly(label, frame):
    if label == "attrs":
        frame.attrs["source"] = ("a", 1)
    before = frame.copy()
    assert_same_frame(there_and_back(frame, kind=Kind.PARQUET), frame)
    assert_same_frame(frame, before)


columns = st.sampled_from(
    ["int64", "float64", "bool", "datetime64[ns]", "timedelta64[ns]", "uint8", "float32"]
)


@given(st.data())
@patient
def test_frames_of_numbers_and_times_come_back_exactly(data):
    rows = data.draw(st.integers(0, 5))
    names = data.draw(st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=4))
    frame = pd.DataFrame({name: data.draw(hnp.arrays(data.draw(columns), rows)) for name in names})
    if not names:
        return
    back = there_and_back(frame, kind=Kind.PARQUET)
    pd.testing.assert_frame_equal(back, frame, check_exact=True)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "Duplicate column names"),
        (pd.DataFrame([[1, 2]], columns=["a", 2]), "would come back from Parquet changed: DataFrame.columns"),
        (pd.DataFrame({"a": [[1, 2]]}), "row 0 of 'a' holds [1, 2], it would be"),
        (pd.DataFrame({"a": ["x", 1]}), "Parquet cannot hold x"),
        (pd.DataFrame({"a": [1 + 2j]}), "Parquet cannot hold x"),
        (pd.Series([{"k": 1}, {"m": 2}]), "row 0 holds {'k': 1}, it would be"),
        (pd.DataFrame({"s": pd.Series(["x", None, np.nan], dtype=object)}), "row 2 of 's' holds nan"),
        (pd.Series([1], name=datetime.date(2024, 1, 1)), "the name of x is a datetime.date"),
    ],
    ids=str,
)
def test_a_frame_that_parquet_would_change_is_refused_with_the_reason(frame, message):
    with pytest.raises(VariableError) as caught:
        pack("x", frame, max_bytes=LIMIT)
    assert message in str(caught.value)


def test_a_parquet_file_of_another_program_opens_as_a_frame():
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"a": [1, 2]}), buffer)
    back = unpack("x", Packed(kind=Kind.PARQUET, data=buffer.getvalue()))
    assert_same_frame(back, pd.DataFrame({"a": [1, 2]}))


# ---- size ----


class Unsized(np.ndarray):
    pass


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(7_650_000),
        torch.zeros(15_300_000),
        {"w": np.zeros(7_650_000)},
        "x" * 61_200_000,
        b"\0" * 45_900_000,
    ],
    ids=["array", "tensor", "state dict", "text", "bytes"],
)
@pytest.mark.parametrize("allow_pickle", [False, True])
def test_a_variable_over_the_limit_is_refused_with_both_sizes(value, allow_pickle):
    with pytest.raises(VariableError) as caught:
        pack("data", value, allow_pickle=allow_pickle, max_bytes=LIMIT)
    assert "data is 61.2 MB, over the limit of 25 MB for one variable: " in str(caught.value)
    assert "%config ColabMagics.max_variable_mb = 62" in str(caught.value)


def test_a_frame_far_over_the_limit_is_refused_before_it_is_written():
    with pytest.raises(VariableError, match=r"takes 8.0 MB of memory, far over the limit of 0.1 MB"):
        pack("data", pd.DataFrame({"a": np.zeros(1_000_000)}), max_bytes=100_000)


# ---- pickle ----


class Bomb:
    """A pickle of it calls print when it is opened."""

    def __reduce__(self):
        return print, ("boom",)


def test_pickle_is_the_last_resort_and_opens_only_when_asked(capsys):
    assert pack("x", [1], allow_pickle=True, max_bytes=LIMIT).kind is Kind.JSON
    packed = pack("x", datetime.date(2024, 1, 1), allow_pickle=True, max_bytes=LIMIT)
    assert packed.kind is Kind.PICKLE
    assert unpack("x", packed, allow_pickle=True) == datetime.date(2024, 1, 1)
    with pytest.raises(VariableError, match=r"x came back as a pickle, which can run any code .* --pickle"):
        unpack("x", Packed(kind=Kind.PICKLE, data=pickle.dumps(Bomb())))
    assert capsys.readouterr().out == ""


def test_functions_of_the_notebook_cross_by_cloudpickle():
    pytest.importorskip("cloudpickle")
    packed = pack("f", lambda x: x + 1, allow_pickle=True, max_bytes=LIMIT)
    assert unpack("f", packed, allow_pickle=True)(1) == 2


def test_what_even_pickle_cannot_write_or_open_is_said_so():
    with pytest.raises(VariableError, match="x is a generator that pickle cannot write"):
        pack("x", (i for i in ()), allow_pickle=True, max_bytes=LIMIT)
    with pytest.raises(
        VariableError, match=r"cannot be opened here .ModuleNotFoundError: No module named 'gone'"
    ):
        unpack("x", Packed(kind=Kind.PICKLE, data=b"cgone\nThing\n."), allow_pickle=True)
    with pytest.raises(CorruptError, match="not a whole pickle"):
        unpack("x", Packed(kind=Kind.PICKLE, data=b""), allow_pickle=True)


def npy_with_a_pickle() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def parquet_with_a_pickle() -> bytes:
    """The attack of CVE-2023-47248: an extension type whose definition in the schema is a pickle."""
    field = pa.field(
        "a",
        pa.int64(),
        metadata={
            b"ARROW:extension:name": b"arrow.py_extension_type",
            b"ARROW:extension:metadata": pickle.dumps(Bomb()),
        },
    )
    buffer = io.BytesIO()
    parquet.write_table(pa.table([pa.array([1])], schema=pa.schema([field])), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Kind.NUMPY, npy_with_a_pickle()),
        (Kind.NUMPY, pickle.dumps(Bomb())),
        (Kind.PARQUET, parquet_with_a_pickle()),
        (Kind.SAFETENSORS, pickle.dumps(Bomb())),
        (Kind.JSON, pickle.dumps(Bomb())),
        (Kind.JSON, b'{"$numpy": ["O", {"$bytes": "AA=="}]}'),
    ],
    ids=[
        "npy of objects",
        "pickle as npy",
        "parquet extension type",
        "pickle as safetensors",
        "as json",
        "dtype O",
    ],
)
def test_no_pickle_is_opened_under_another_name(kind, data, capfd):
    try:
        unpack("x", Packed(kind=kind, data=data))
    except CorruptError:
        pass
    assert capfd.readouterr().out == ""


# ---- corrupt data ----

EXAMPLES = {
    Kind.JSON: [1, {"$a": (1, 2)}, math.nan, np.float32(1), {"b": b"\0"}],
    Kind.NUMPY: np.arange(10.0),
    Kind.SAFETENSORS: {"a": torch.ones(3), "b": [np.arange(2)]},
    Kind.PARQUET: pd.DataFrame({"a": [1, 2], "s": ["x", None]}),
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_truncated_data_is_corrupt(kind):
    data = pack("x", EXAMPLES[kind], max_bytes=LIMIT).data
    for length in {0, 1, 5, 9, len(data) // 2, len(data) - 1}:
        with pytest.raises(CorruptError, match="the stored data of x"):
            unpack("x", Packed(kind=kind, data=data[:length]))


@given(kind=st.sampled_from(list(EXAMPLES)), seed=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
@pytest.mark.filterwarnings("ignore")
def test_damaged_data_raises_nothing_but_our_errors(kind, seed):
    data = bytearray(pack("x", EXAMPLES[kind], max_bytes=LIMIT).data)
    for _ in range(seed.randrange(1, 4)):
        data[seed.randrange(len(data))] = seed.randrange(256)
    try:
        unpack("x", Packed(kind=kind, data=bytes(data)))
    except (CorruptError, VariableError):
        pass


@pytest.mark.parametrize(
    "text",
    [
        '{"$tuple": 1}',
        '{"$new": 1}',
        '{"$dict": [[[], 1]]}',
        '{"$float": "x"}',
        '{"$array": "a"}',
        '{"$numpy": [1, 2, 3]}',
        '{"$numpy": ["uint8", 300]}',
        '{"$bytes": "é"}',
        "[" * 100000,
        '{"$numpy": ["V8", 1]}',
        '{"$set": [[]]}',
    ],
)
def test_json_that_is_not_ours_is_corrupt(text):
    with pytest.raises(CorruptError, match="the stored data of x is not JSON of colab-magics"):
        unpack("x", Packed(kind=Kind.JSON, data=text.encode()))


def test_a_safetensors_file_whose_metadata_names_missing_tensors_is_corrupt():
    header = json.dumps({"__metadata__": {"colab_magics": '{"$tensor": "gone"}'}}).encode()
    with pytest.raises(CorruptError):
        unpack("x", Packed(kind=Kind.SAFETENSORS, data=struct.pack("<Q", len(header)) + header))


def test_an_array_that_claims_to_be_huge_is_corrupt_and_takes_no_memory():
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    with pytest.raises(CorruptError):
        unpack("x", Packed(kind=Kind.NUMPY, data=buffer.getvalue()))


# ---- the rest ----


def test_suffixes_and_kinds_are_each_others_inverse():
    assert [kind_of(f"acc{suffix_of(kind)}") for kind in Kind] == list(Kind)
    assert kind_of("log.txt") is None
    assert pack("x", 1, max_bytes=LIMIT).suffix == ".json"


@pytest.mark.parametrize("value", [1, 0.5, True, "a", np.float32(1), np.bool_(True), np.str_("a"), math.nan])
def test_a_scalar_fits_a_cell_of_a_table(value):
    assert is_scalar(value)


@pytest.mark.parametrize("value", [None, [1], np.zeros(1), np.array(1), torch.tensor(1), 1j, b"", (1,)])
def test_anything_else_does_not(value):
    assert not is_scalar(value)


def test_the_module_loads_and_takes_json_without_the_data_libraries():
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from colab_magics.store.variables import pack, unpack
assert unpack("x", pack("x", {"a": (1, 2)}, max_bytes=100)) == {"a": (1, 2)}
heavy = {"numpy", "torch", "pandas", "pyarrow", "safetensors"} & set(sys.modules)
assert not heavy, heavy
for name in ("numpy", "torch", "pandas", "pyarrow"):
    sys.modules[name] = None
from colab_magics.errors import VariableError
from colab_magics.store.variables import Kind, Packed
for kind, hexed in zip(("json", "numpy", "safetensors", "parquet"), sys.argv[2:]):
    try:
        unpack("x", Packed(kind=Kind(kind), data=bytes.fromhex(hexed)))
    except VariableError as error:
        assert "pip install" in str(error), error
    else:
        raise AssertionError(kind)
"""
    from pathlib import Path

    import colab_magics

    root = str(Path(colab_magics.__path__[0]).parent)
    data = [pack("x", value, max_bytes=LIMIT).data.hex() for value in EXAMPLES.values()]
    run = subprocess.run([sys.executable, "-c", program, root, *data], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
