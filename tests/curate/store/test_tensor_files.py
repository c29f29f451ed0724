"""Tensors come back as they were written, and from the place they were written to alone."""

import numpy as np
import pytest
from damaging import WAYS, delete
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from curate.files import Damaged
from curate.store.tensor_files import read_tensors, write_tensors

tensors = arrays(
    st.sampled_from([np.float32, np.float64, np.int64]), array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=3)
)


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_file_is_refused(tmp_path, way):
    paths = [tmp_path / "key" / f"part-{i}.safetensors" for i in (0, 1)]
    for path in paths:
        write_tensors(path, {"logps": np.zeros((4, 2))})

    way(*paths)

    with pytest.raises(FileNotFoundError if way is delete else Damaged):
        read_tensors(paths[0], "it is made again")


def test_equal_tensors_in_the_folder_of_another_are_refused(tmp_path):
    write_tensors(tmp_path / "key" / "part", {"logps": np.zeros(2)})
    (tmp_path / "key").rename(tmp_path / "other")

    with pytest.raises(Damaged, match="is not what was written here; it is made again"):
        read_tensors(tmp_path / "other" / "part", "it is made again")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.dictionaries(st.text("abc_", min_size=1, max_size=3), tensors, max_size=3))
def test_what_is_read_is_what_was_written(tmp_path, written):
    write_tensors(tmp_path / "t", written)

    found = read_tensors(tmp_path / "t", "")

    assert found.keys() == written.keys()
    assert all(found[name].dtype == value.dtype for name, value in written.items())
    assert all(found[name].tobytes() == value.tobytes() for name, value in written.items())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_flipped_bit_goes_unnoticed(tmp_path, data):
    path = tmp_path / "t"
    written = {"logps": np.arange(6.0).reshape(3, 2)}
    write_tensors(path, written)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)

    with pytest.raises(Damaged):
        read_tensors(path, "")
