"""Artifacts: round trip, sizes, what the writer refuses, and atomic writes."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy

from hetjax.core import LayerSpec, Palette
from hetjax.pack import (
  Artifact,
  ArtifactError,
  ChannelLayout,
  PackedLayer,
  float32_bytes,
  from_bytes,
  map_artifact,
  pack_weights,
  read_artifact,
  size_breakdown,
  to_bytes,
  write_artifact,
)


def same(a, b):
  assert (a.model_name, a.model_config, a.hetjax_version) == (
    b.model_name,
    b.model_config,
    b.hetjax_version,
  )
  assert list(a.layers) == list(b.layers)
  for name, left in a.layers.items():
    right = b.layers[name]
    assert left.spec == right.spec
    assert left.weights.layout == right.weights.layout
    for field in ("alpha", "beta", "bias"):
      np.testing.assert_array_equal(getattr(left, field), getattr(right, field))
    np.testing.assert_array_equal(left.weights.codes, right.weights.codes)
  assert set(a.tensors) == set(b.tensors)
  for path in a.tensors:
    np.testing.assert_array_equal(a.tensors[path], b.tensors[path], strict=True)


@pytest.mark.parametrize("palette", [(1, 2, 4), (2, 4, 8), (1, 4), (8,), (2,)])
@pytest.mark.parametrize("groups", [1, 3])
def test_round_trip_and_sizes(palette, groups):
  rng = np.random.default_rng(groups)
  bits = tuple(rng.choice(palette, 21).tolist())
  layout = ChannelLayout(bits, Palette(palette), groups)
  spec = LayerSpec("a/b", (3, 1, 21 // groups, 6), groups, Palette(palette), True, None, 7)
  layer = PackedLayer(
    spec,
    pack_weights(rng.integers(0, 2, spec.kernel_shape), layout),
    rng.uniform(1, 2, 6).astype(np.float32),
    np.float32(0.1).reshape(()),
    rng.normal(size=6).astype(np.float32) if groups == 1 else None,
  )
  artifact = Artifact("m", {}, {"a/b": layer}, {"params/x": np.ones((2, 3), np.float32)})
  data = to_bytes(artifact)
  same(from_bytes(data), artifact)
  sizes = size_breakdown(artifact)
  assert sum(sizes.values()) == len(data)
  assert sizes["codes"] == layer.weights.codes.size
  assert sizes["bits"] == (0 if len(palette) == 1 else 6)  # 21 channels, 2 bits each
  assert sizes["scales"] == 4 * (6 + 1 + (6 if groups == 1 else 0))
  assert sizes["norms"] == 4 * 6
  assert sizes["header"] < 900


def test_a_network_without_layers_is_refused():
  with pytest.raises(ArtifactError, match="layers: expected at least one"):
    to_bytes(Artifact("nothing", {}, {}, {}))


def test_paths_that_run_through_a_layer_are_refused(sample):
  name, layer = next(iter(sample.layers.items()))
  below = f"{name}/kernel"
  inner = dataclasses.replace(layer, spec=dataclasses.replace(layer.spec, name=below))
  nested = dataclasses.replace(sample, layers={**sample.layers, below: inner})
  with pytest.raises(ArtifactError, match="runs through layer"):
    to_bytes(nested)
  tensors = {**sample.tensors, f"params/{below}/x": np.ones(2, np.float32)}
  with pytest.raises(ArtifactError, match="belongs to a quantized layer"):
    to_bytes(dataclasses.replace(sample, tensors=tensors))


def test_any_safetensors_reader_opens_it(sample_bytes):
  tensors = safetensors.numpy.load(sample_bytes)
  assert {n: t.dtype.name for n, t in tensors.items()} == {
    "codes": "uint8",
    "bits": "uint8",
    "float32": "float32",
  }


def test_bytes_do_not_depend_on_the_order_of_tensors_or_config(sample, sample_bytes):
  shuffled = dataclasses.replace(
    sample,
    tensors=dict(reversed(sample.tensors.items())),
    model_config=dict(reversed(sample.model_config.items())),
  )
  assert to_bytes(shuffled) == sample_bytes


def test_config_that_looks_like_a_digest_is_left_alone(sample):
  decoy = {"digest": "0" * 64, "x": '"digest":"' + "0" * 64}
  back = from_bytes(to_bytes(dataclasses.replace(sample, model_config=decoy)))
  assert back.model_config == decoy


def with_layer(sample, name, **fields):
  layers = dict(sample.layers) | {name: dataclasses.replace(sample.layers[name], **fields)}
  return dataclasses.replace(sample, layers=layers)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda s: dataclasses.replace(s, model_name=""), "model"),
    (lambda s: dataclasses.replace(s, model_config={"a": float("nan")}), "config"),
    (lambda s: dataclasses.replace(s, model_config={1: 2}), "config.*string keys"),
    (lambda s: dataclasses.replace(s, model_config={"a": object()}), "config.*JSON"),
    (lambda s: dataclasses.replace(s, model_config={"a": 10**30}), "digits"),
    (lambda s: with_layer(s, "head", beta=np.array(0, np.float32)), "'head' beta.*positive"),
    (lambda s: with_layer(s, "head", beta=np.array(1.0)), "'head' beta.*float32"),
    (lambda s: with_layer(s, "head", alpha=np.ones(4, np.float32)), r"'head' alpha.*\[3\]"),
    (lambda s: with_layer(s, "head", alpha=-np.ones(3, np.float32)), "'head' alpha.*positive"),
    (lambda s: with_layer(s, "head", bias=np.full(3, np.inf, np.float32)), "'head' bias.*finite"),
    (lambda s: with_layer(s, "head", weights=s.layers["stem"].weights), "'head' kernel"),
    (lambda s: dataclasses.replace(s, layers={"x": s.layers["head"]}), "spec has the name"),
    (lambda s: dataclasses.replace(s, tensors={"cache/x": np.ones(1, np.float32)}), "cache/x"),
    (lambda s: dataclasses.replace(s, tensors={"params/../x": np.ones(1, np.float32)}), "joined"),
    (
      lambda s: dataclasses.replace(s, tensors={"params/head/alpha": np.ones(3, np.float32)}),
      "belongs to a quantized layer",
    ),
    (
      lambda s: dataclasses.replace(
        s, tensors={"params/a": np.ones(1, np.float32), "params/a/b": np.ones(1, np.float32)}
      ),
      "runs through another",
    ),
    (lambda s: dataclasses.replace(s, tensors={"params/a": np.ones(1)}), "float32"),
  ],
)
def test_writer_refuses(sample, change, message, tmp_path):
  with pytest.raises(ArtifactError, match=message):
    write_artifact(tmp_path / "a.safetensors", change(sample))
  assert os.listdir(tmp_path) == []


def test_accumulator_that_can_overflow_is_refused_and_one_that_cannot_is_not():
  spec = LayerSpec("wide", (1, 1, 33026, 1), 1, Palette((8,)), True, None, 1, "dense")
  layout = ChannelLayout((8,) * 33026, Palette((8,)))
  codes = np.full(spec.kernel_shape, 255, np.uint8)
  scale = np.ones(1, np.float32)

  def artifact():
    layer = PackedLayer(spec, pack_weights(codes, layout), scale, scale[0].reshape(()))
    return Artifact("m", {}, {"wide": layer}, {})

  with pytest.raises(ArtifactError, match="'wide' codes: accumulator"):
    to_bytes(artifact())
  codes[0, 0, 0, 0] = 128  # level 1 instead of 255: the sum fits again
  same(from_bytes(to_bytes(artifact())), artifact())


def test_float32_bytes_is_the_size_of_the_file():
  tree = {"params": {"a": {"kernel": np.ones((3, 4))}, "b": np.ones(5)}, "batch_stats": {}}
  flat = {"params/a/kernel": np.ones((3, 4), np.float32), "params/b": np.ones(5, np.float32)}
  assert float32_bytes(tree) == len(safetensors.numpy.save(flat))
  data = safetensors.numpy.save(flat)
  assert len(data) == 8 + int.from_bytes(data[:8], "little") + 4 * 17


def test_writes_replace_and_report_bytes(sample, tmp_path):
  path = tmp_path / "a.safetensors"
  path.write_bytes(b"old")
  link = tmp_path / "link"
  link.symlink_to(path)
  assert write_artifact(link, sample) == path.stat().st_size
  assert link.is_symlink()
  same(read_artifact(path), sample)
  assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "link"]
  path.write_bytes(b"old")
  plain = tmp_path / "plain"
  plain.write_bytes(b"")
  write_artifact(path, sample)
  assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_keeps_the_old_file(sample, tmp_path, monkeypatch, step):
  path = tmp_path / "a.safetensors"
  path.write_bytes(b"old")

  def fail(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, step, fail)
  with pytest.raises(OSError, match="No space left"):
    write_artifact(path, sample)
  assert path.read_bytes() == b"old"
  assert os.listdir(tmp_path) == ["a.safetensors"]


def test_writes_where_nothing_can_be_written_raise_the_system_s_error(sample, tmp_path):
  with pytest.raises(FileNotFoundError):
    write_artifact(tmp_path / "none" / "a.safetensors", sample)
  (tmp_path / "file").write_bytes(b"old")
  with pytest.raises(NotADirectoryError):
    write_artifact(tmp_path / "file" / "a.safetensors", sample)
  (tmp_path / "folder").mkdir()
  with pytest.raises(IsADirectoryError):
    write_artifact(tmp_path / "folder", sample)
  assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
  assert (tmp_path / "file").read_bytes() == b"old"


def test_death_between_write_and_rename_keeps_the_old_file(golden, tmp_path):
  path = tmp_path / "a.safetensors"
  path.write_bytes(b"old")
  script = (
    "import os, sys; sys.path.insert(0, sys.argv[2]); import make_golden; from hetjax import pack\n"
    "os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
    "pack.write_artifact(sys.argv[1], make_golden.network())"
  )
  root = pathlib.Path(sys.modules["hetjax"].__file__).parents[1]
  environment = os.environ | {"PYTHONPATH": str(root)}
  folder = str(golden.PATH.parents[1])
  done = subprocess.run([sys.executable, "-c", script, str(path), folder], env=environment)
  assert done.returncode == -9
  assert path.read_bytes() == b"old"
  assert len(os.listdir(tmp_path)) == 2  # the temporary file of a killed process stays, whole


def test_missing_file_and_directory_raise_the_system_s_error(tmp_path):
  with pytest.raises(FileNotFoundError):
    read_artifact(tmp_path / "none")
  with pytest.raises(IsADirectoryError):
    read_artifact(tmp_path)


def test_error_names_the_file(tmp_path):
  path = tmp_path / "broken.safetensors"
  path.write_bytes(b"")
  with pytest.raises(ArtifactError, match=r"broken\.safetensors: file is truncated"):
    read_artifact(path)


def test_mapped_codes_stay_in_the_file(sample, tmp_path):
  path = tmp_path / "sample.safetensors"
  write_artifact(path, sample)
  mapped = map_artifact(path)
  same(mapped, sample)
  replaced = dataclasses.replace(sample, hetjax_version="other")
  write_artifact(path, replaced)  # another file of the same name
  same(mapped, sample)
  same(map_artifact(path), replaced)


def test_mapping_takes_no_memory_for_codes(tmp_path):
  channels, outputs = 2048, 2048
  layout = ChannelLayout((8,) * channels, Palette((8,)))
  spec = LayerSpec("head", (1, 1, channels, outputs), 1, Palette((8,)), False, None, 1)
  codes = np.zeros((1, 1, channels, outputs), np.uint8)
  ones = np.ones(outputs, np.float32)
  layer = PackedLayer(spec, pack_weights(codes, layout), ones, np.float32(1.0))
  path = tmp_path / "large.safetensors"
  write_artifact(path, Artifact("resnet", {}, {"head": layer}, {}))
  peaks = {}
  for read in (read_artifact, map_artifact):
    tracemalloc.start()
    artifact = read(path)
    peaks[read] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert artifact.layers["head"].weights.codes.size == codes.size
  assert peaks[read_artifact] > codes.size
  assert peaks[map_artifact] < codes.size / 10


@pytest.mark.parametrize("read", [read_artifact, map_artifact])
@pytest.mark.parametrize("damage", ["empty", "short", "long", "changed"])
def test_damaged_files_are_refused_however_they_are_read(sample_bytes, tmp_path, read, damage):
  changed = sample_bytes[:-1] + bytes([sample_bytes[-1] ^ 1])
  data = {"empty": b"", "short": sample_bytes[:-1], "long": sample_bytes + b"x", "changed": changed}
  path = tmp_path / "broken.safetensors"
  path.write_bytes(data[damage])
  message = {"empty": "truncated: expected 8", "short": "truncated", "long": "oversized"}
  with pytest.raises(
    ArtifactError, match=rf"broken\.safetensors: .*{message.get(damage, 'digest')}"
  ):
    read(path)


def test_header_is_compact_json(sample_bytes):
  size = int.from_bytes(sample_bytes[:8], "little")
  header = json.loads(sample_bytes[8 : 8 + size])
  text = header["__metadata__"]["hetjax"]
  assert text == json.dumps(json.loads(text), separators=(",", ":"))
