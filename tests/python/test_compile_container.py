"""The file is what docs/model-format.md says, as the `gguf` package and the core read it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import gguf
import numpy as np
import pytest
from reference_interpreter import ReferenceModel
from small_models import write_model

from mobile_multimodal import native
from mobile_multimodal.compile.container import Metadata, write_container
from mobile_multimodal.compile.program import ProgramBuilder, State, TensorStore
from mobile_multimodal.errors import InvalidInputError, ModelFormatError


def write_small(path: Path) -> Path:
    tensors = TensorStore()
    builder = ProgramBuilder("keep", tensors)
    x = builder.input("x", "f32")
    weight = builder.tensor("decoder.norm.weight", np.linspace(0.5, 1.5, 5, dtype=np.float32))
    builder.emit("state_write", [builder.apply("rms_norm", [x, weight], [1e-5])], [0])
    tensors.add("decoder.table", np.arange(6, dtype=np.int32).reshape(2, 3))
    tensors.add("encoder.half", np.ones((2, 3, 4, 5), dtype=np.float16))
    tensors.add("decoder.tiles.w2", np.arange(-128, 0, dtype=np.int8).reshape(1, 2, 64))
    return write_model(path, [builder.finish()], tensors, [State("m", "memory", 5, 3)])


def test_the_gguf_package_reads_what_was_written(tmp_path: Path) -> None:
    path = write_small(tmp_path / "a.gguf")
    reader = gguf.GGUFReader(str(path))
    assert reader.alignment == 64
    found = {item.name: item for item in reader.tensors}
    assert list(found) == ["decoder.norm.weight", "decoder.table", "encoder.half", "decoder.tiles.w2"]
    np.testing.assert_array_equal(found["decoder.table"].data, np.arange(6).reshape(2, 3))
    assert found["encoder.half"].data.shape == (2, 3, 4, 5)
    assert found["decoder.tiles.w2"].data.dtype == np.int8
    assert found["decoder.tiles.w2"].tensor_type == gguf.GGMLQuantizationType.I8
    assert all(item.data_offset % 64 == 0 for item in reader.tensors)
    metadata = ReferenceModel(path).metadata
    assert metadata["mm.sections"] == ["decoder", "encoder"]
    assert metadata["mm.program.keep.outputs"] == []
    assert metadata["mm.program.keep.output_slots"] == []
    assert metadata["mm.op_names"] == ["rms_norm", "state_write"]
    assert metadata["mm.state.widths"] == [5]


def test_hashes_are_as_documented(tmp_path: Path) -> None:
    path = write_small(tmp_path / "a.gguf")
    reader = gguf.GGUFReader(str(path))
    for section in ("decoder", "encoder"):
        digest = hashlib.sha256()
        for item in reader.tensors:
            if item.name.startswith(section + "."):
                digest.update(item.name.encode() + b"\0" + item.data.tobytes())
        assert reader.fields[f"mm.sha256.{section}"].contents() == digest.hexdigest()
    # The pairs follow each other in the file: each ends where the next begins, the last at the tensor table.
    raw = path.read_bytes()
    fields = [field for field in reader.fields.values() if field.offset > 0 and not field.name.startswith("GGUF.")]
    first_tensor = min(item.field.offset for item in reader.tensors)
    ends = [field.offset for field in fields[1:]] + [first_tensor]
    digest = hashlib.sha256()
    for field, end in zip(fields, ends, strict=True):
        if not field.name.startswith("mm.sha256."):
            digest.update(raw[field.offset : end])
    assert reader.fields["mm.sha256.metadata"].contents() == digest.hexdigest()
    native.Engine(str(path)).verify()


@pytest.mark.parametrize("what", ["tensor", "metadata"])
def test_the_core_notices_a_changed_byte(tmp_path: Path, what: str) -> None:
    path = write_small(tmp_path / "a.gguf")
    raw = bytearray(path.read_bytes())
    place = len(raw) - 100 if what == "tensor" else raw.index(b"mm.state.rows") + 13 + 4 + 4 + 8
    raw[place] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ModelFormatError):
        native.Engine(str(path)).verify()


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    assert write_small(tmp_path / "a.gguf").read_bytes() == write_small(tmp_path / "b.gguf").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_small(tmp_path / "a.gguf")
    before = path.read_bytes()

    def fail(source: str, target: str) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_small(path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.gguf"]


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    metadata = Metadata()
    metadata.u32("a", 1)
    with pytest.raises(InvalidInputError, match="`a` was set twice"):
        metadata.u32("a", 2)
    for array in (np.zeros(3), np.zeros((1, 1, 1, 1, 1), dtype=np.float32), np.zeros((0, 4), dtype=np.float32)):
        tensors = TensorStore()
        tensors.add("a.b", array)
        with pytest.raises(InvalidInputError, match=r"tensor `a\.b` is"):
            write_container(tmp_path / "bad.gguf", Metadata(), tensors)
    assert list(tmp_path.iterdir()) == []
