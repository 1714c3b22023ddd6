"""safetensors, dtypes, DLPack and .npz."""

import json

import numpy as np
import pytest
from conftest import safetensors_bytes
from shardc.arrays import as_array, bfloat16, dtype_name, npz_to_npy, numpy_dtype
from shardc.safetensors import SafetensorsError, open_safetensors, read_header


@pytest.fixture
def tensors(tmp_path):
    file = tmp_path / "model.safetensors"
    arrays = {
        "f": ("F32", np.arange(6, dtype=np.float32).reshape(2, 3)),
        "b": ("BF16", np.array([0x3F80, 0xC000], np.uint16)),
        "s": ("I64", np.array(7)),
        "e": ("F16", np.empty((0, 4), np.float16)),
        "t": ("BOOL", np.array([True, False])),
    }
    file.write_bytes(safetensors_bytes(arrays))
    return file


def test_reads_every_kind_of_tensor(tensors):
    weights = open_safetensors(tensors)
    assert sorted(weights) == ["b", "e", "f", "s", "t"]
    np.testing.assert_array_equal(weights["f"], [[0, 1, 2], [3, 4, 5]])
    assert weights["b"].dtype == bfloat16()
    assert weights["b"].view(np.uint16).tolist() == [0x3F80, 0xC000]
    assert weights["s"].shape == () and weights["s"] == 7
    assert weights["e"].shape == (0, 4)
    assert weights["t"].tolist() == [True, False]
    assert not weights["f"].flags.writeable
    with pytest.raises(KeyError):
        weights["absent"]


def test_folders_and_indices(tmp_path, tensors):
    assert len(open_safetensors(tmp_path)) == 5
    second = tmp_path / "second.safetensors"
    second.write_bytes(safetensors_bytes({"f": ("F32", np.zeros(1, np.float32))}))
    with pytest.raises(SafetensorsError, match='tensor "f" is also in'):
        open_safetensors(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"f": "second.safetensors", "b": "model.safetensors"}}))
    for path in (tmp_path, index):
        weights = open_safetensors(path)
        assert weights["f"].shape == (1,) and sorted(weights) == ["b", "f"]
    index.write_text(json.dumps({"weight_map": {"absent": "second.safetensors"}}))
    with pytest.raises(SafetensorsError, match='tensor "absent" should be in second.safetensors'):
        open_safetensors(tmp_path)
    for text in ("[]", "{", '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(SafetensorsError, match="is not an index"):
            open_safetensors(index)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SafetensorsError, match="holds neither"):
        open_safetensors(tmp_path / "empty")


def file_of(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\0\0", "has 2 bytes, a safetensors file has at least 8"),
        (b"\xff" * 16, "does not fit into the file of 16 bytes"),
        (file_of(b"{"), "the header is not JSON"),
        (file_of(b"\xff\xfe"), "the header is not JSON"),
        (file_of([]), "is not a JSON object"),
        (file_of({"a": 3}), 'tensor "a": needs dtype, shape and data_offsets'),
        (file_of(entry("F8"), b"1234"), 'dtype "F8" is not one of'),
        (file_of(entry(shape=[-1]), b"1234"), "shape [-1] is not a list of sizes"),
        (file_of(entry(offsets=[0]), b"1234"), "are not two offsets"),
        (file_of(entry(offsets=[0, True]), b"1234"), "are not two offsets"),
        (file_of(entry(offsets=[4, 0]), b"1234"), "[4, 0) is not inside the 4 bytes"),
        (file_of(entry(), b"12"), "[0, 4) is not inside the 2 bytes"),
        (file_of(entry(shape=[2]), b"1234"), "has 4 bytes, F32 [2] needs 8"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    file = tmp_path / "bad.safetensors"
    file.write_bytes(content)
    with pytest.raises(SafetensorsError) as error:
        read_header(file)
    assert message in str(error.value)


def test_dtypes():
    assert numpy_dtype("ui16") == np.uint16
    assert dtype_name(np.zeros(1, bool)) == "bool"
    assert dtype_name(np.zeros(1, np.uint16), "bf16") == "bf16"
    assert dtype_name(np.zeros(1, np.uint16), "ui16") == "ui16"
    with pytest.raises(TypeError, match="dtype >f4 is not one of"):
        dtype_name(np.zeros(1, ">f4"))
    with pytest.raises(ValueError, match='"f8" is not one of f64'):
        numpy_dtype("f8")


def test_arrays_from_lists_views_and_dlpack():
    class Tensor:
        """What DLPack asks of a tensor, and no more."""

        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert as_array([[1, 2]]).tolist() == [[1, 2]]
    assert as_array(array) is array
    assert as_array(array.T).flags.c_contiguous
    assert as_array(np.float32(3)).shape == ()
    shared = as_array(Tensor(array))
    assert shared.tolist() == array.tolist() and np.shares_memory(shared, array)


def test_npz_to_npy(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3), y=np.zeros((2, 2)))
    files = npz_to_npy(tmp_path / "a.npz", tmp_path / "out", ["x"])
    assert list(files) == ["x"] and np.load(files["x"]).tolist() == [0, 1, 2]
    assert sorted(npz_to_npy(tmp_path / "a.npz", tmp_path / "out")) == ["x", "y"]
    with pytest.raises(KeyError, match="holds x, y, not z"):
        npz_to_npy(tmp_path / "a.npz", tmp_path / "out", ["z"])
