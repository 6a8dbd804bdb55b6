"""Hand-made damage to artifacts, digest corrected, is refused by the check meant for it."""

import struct

import pytest

from hetjax.pack import ArtifactError, from_bytes
from tests.pack.damage import Parts


def change_meta(**fields):
  return lambda p: p.meta.update(fields)


def change_layer(layer, **fields):
  return lambda p: p.layer(layer).update(fields)


def change_tensor(name, **fields):
  def change(p):
    def container(header):
      header[name].update(fields)
      return header

    p.container = container

  return change


def change_container(**fields):
  def change(p):
    p.container = lambda header: header | fields

  return change


def replace_text(level, old, new):
  def change(p):
    def edit(text):
      assert old in text
      return text.replace(old, new, 1)

    setattr(p, level, edit)

  return change


def set_raw(edit):
  return lambda p: setattr(p, "raw", edit)


def set_float(at, value):
  def change(p):
    p.tensors["float32"][4 * at : 4 * at + 4] = struct.pack("<f", value)

  return change


def or_byte(name, at, mask):
  def change(p):
    assert not p.tensors[name][at] & mask
    p.tensors[name][at] |= mask

  return change


def drop(key):
  return lambda p: p.meta.pop(key)


def take_gain(p):
  return p.meta["tensors"]["params"].pop("gain")


def nested(depth):
  value = 1
  for _ in range(depth):
    value = [value]
  return value


def first_layer_twice(p):
  p.meta["layers"].append(dict(p.meta["layers"][0]))


def resize(name, by):
  def change(p):
    value = p.tensors[name]
    p.tensors[name] = value + bytes(by) if by > 0 else value[:by]

  return change


# The float32 stream: stem alpha 0..3, beta 4; block/conv alpha 5..8, beta 9; head alpha 10..12,
# beta 13, bias 14..16; then the other leaves.
CASES = {
  "header length beyond file": (
    set_raw(lambda r: struct.pack("<Q", len(r)) + r[8:]), "truncated: header needs"),
  "header length huge": (set_raw(lambda r: b"\xff" * 8 + r[8:]), "header length must be at most"),
  "header length zero": (set_raw(lambda r: bytes(8) + r[8:]), "not JSON"),
  "header cut": (
    set_raw(lambda r: struct.pack("<Q", struct.unpack("<Q", r[:8])[0] - 1) + r[8:]), "not JSON"),
  "header too long by one": (
    set_raw(lambda r: struct.pack("<Q", struct.unpack("<Q", r[:8])[0] + 1) + r[8:]), "not JSON"),
  "trailing byte": (set_raw(lambda r: r + b"\0"), "oversized"),
  "truncated data": (set_raw(lambda r: r[:-1]), "truncated: tensor 'codes'"),
  "header not UTF-8": (set_raw(lambda r: r[:12] + b"\xff" + r[13:]), "not UTF-8 at offset 12"),
  "header a list": (lambda p: setattr(p, "container", lambda h: [h]), "expected a JSON object"),
  "header key twice": (
    replace_text("header_text", '"bits":', '"codes":{},"bits":'), "unique, got 'codes' twice"),
  "no metadata": (
    lambda p: setattr(p, "container", lambda h: {k: h[k] for k in p.tensors}), "__metadata__"),
  "metadata not an object": (change_container(__metadata__="x"), "__metadata__"),
  "metadata extra key": (
    replace_text("header_text", '"__metadata__":{', '"__metadata__":{"x":"y",'), "one key"),
  "metadata not a string": (change_container(__metadata__={"hetjax": 1}), "must be a string"),
  "metadata not JSON": (replace_text("text", "{", "{{"), "metadata: not JSON"),
  "metadata a list": (lambda p: setattr(p, "text", lambda t: f"[{t}]"), "metadata: expected a"),
  "tensor missing": (
    lambda p: setattr(p, "container", lambda h: {k: h[k] for k in h if k != "bits"}),
    "tensors must be"),
  "tensor unknown": (
    change_container(more={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}),
    "tensors must be"),
  "tensor without shape": (
    change_container(bits={"dtype": "U8", "data_offsets": [0, 4]}), "'bits': expected dtype"),
  "tensor of another dtype": (change_tensor("codes", dtype="I8"), "'codes': expected dtype U8"),
  "tensor dtype a list": (change_tensor("codes", dtype=[]), "'codes': expected dtype U8"),
  "tensor shape wrong": (change_tensor("codes", shape=[128]), "'codes': shape"),
  "tensor shape two-dimensional": (change_tensor("codes", shape=[1, 129]), "'codes': expected one"),
  "tensor shape huge": (change_tensor("codes", shape=[10**18 - 1]), "'codes': shape"),
  "tensor shape beyond 64 bits": (change_tensor("codes", shape=[10**30]), "18 digits"),
  "tensor shape true": (change_tensor("bits", shape=[True]), "'bits': expected one size"),
  "tensor offsets negative": (change_tensor("bits", data_offsets=[-4, 0]), "'bits': expected one"),
  "tensor offsets float": (change_tensor("bits", data_offsets=[136.0, 140]), "'bits': expected"),
  "tensor offsets decrease": (change_tensor("bits", data_offsets=[140, 136]), "not decrease"),
  "tensor offsets beyond file": (
    change_tensor("codes", shape=[10**6], data_offsets=[140, 140 + 10**6]), "truncated: tensor"),
  "tensors overlap": (change_tensor("bits", data_offsets=[132, 136]), "overlaps"),
  "tensors leave a gap": (
    change_tensor("bits", shape=[3], data_offsets=[137, 140]), "leaves a gap"),
  "tensors overlap by one": (
    change_tensor("bits", shape=[5], data_offsets=[135, 140]), "overlaps"),
  "tensors end early": (
    change_tensor("codes", shape=[128], data_offsets=[140, 268]), "oversized"),
  "version missing": (drop("version"), "version: expected an integer"),
  "version too new": (change_meta(version=3), "version 3.*too new"),
  "version zero": (change_meta(version=0), "version: expected"),
  "version true": (change_meta(version=True), "version: expected"),
  "version a string": (change_meta(version="1"), "version: expected"),
  "key missing": (drop("model"), r"keys missing \['model'\]"),
  "key unknown": (change_meta(extra=1), r"unknown \['extra'\]"),
  "key twice": (replace_text("text", '"model":', '"model":"x","model":'), "unique"),
  "digest missing": (drop("digest"), r"missing \['digest'\]"),
  "digest wrong": (change_meta(digest="0" * 63 + "g"), "64 lower-case"),
  "digest a number": (change_meta(digest=7), "64 lower-case"),
  "digest upper case": (change_meta(digest="A" * 64), "64 lower-case"),
  "digest escaped": (
    lambda p: (p.meta.update(digest="a" * 64), replace_text("text", "aaa", "\\u0061aa")(p)),
    "once in the header, got them 0"),
  "model not a string": (change_meta(model=["x"]), "model: expected"),
  "model with control characters": (change_meta(model="a\nb"), "model: expected"),
  "hetjax empty": (change_meta(hetjax=""), "hetjax: expected"),
  "config a list": (change_meta(config=[]), "config: expected"),
  "config NaN": (replace_text("text", '"slope":0.5', '"slope":NaN'), "finite, got NaN"),
  "config infinite": (replace_text("text", '"slope":0.5', '"slope":-Infinity'), "finite"),
  "config overflows": (replace_text("text", '"slope":0.5', '"slope":1e999'), "finite, got 1e999"),
  "config integer of 5000 digits": (
    replace_text("text", '"slope":0.5', '"slope":' + "9" * 5000), "18 digits"),
  "config deep": (change_meta(config={"a": nested(40)}), "nested deeper"),
  "config absurdly deep": (
    replace_text("text", '"slope":0.5', '"slope":' + "[" * 200_000), "nested deeper|not JSON"),
  "palette empty": (change_meta(palette=[]), "palette: palette levels"),
  "palette of four": (change_meta(palette=[1, 2, 4, 8]), "palette: palette levels"),
  "palette decreasing": (change_meta(palette=[4, 2]), "increase strictly"),
  "palette with 3": (change_meta(palette=[1, 3]), "among"),
  "palette a number": (change_meta(palette=4), "palette: expected a list"),
  "palette of booleans": (change_meta(palette=[True, 2]), "palette: expected an integer"),
  "layers an object": (change_meta(layers={}), "layers: expected a list"),
  "layer a list": (lambda p: p.meta["layers"].insert(0, []), r"layers\[0\]: expected"),
  "layer name twice": (first_layer_twice, "unique, got 'stem' twice"),
  "layer name climbs": (change_layer("stem", name="../stem"), r"layers\[0\] name"),
  "layer name absolute": (change_layer("stem", name="/stem"), r"layers\[0\] name"),
  "layer name empty": (change_layer("stem", name=""), r"layers\[0\] name"),
  "layer name surrogate": (change_layer("stem", name="\ud800"), r"layers\[0\] name"),
  "layer name a number": (change_layer("stem", name=3), r"layers\[0\] name"),
  "layer key unknown": (change_layer("stem", stride=2), "unknown"),
  "layer without kernel": (lambda p: p.layer("stem").pop("kernel"), "missing"),
  "kernel of three": (change_layer("stem", kernel=[3, 3, 3]), "'stem' kernel: expected four"),
  "kernel zero": (change_layer("stem", kernel=[3, 3, 0, 4]), "'stem' kernel: expected an int"),
  "kernel negative": (change_layer("stem", kernel=[-3, -3, 3, 4]), "'stem' kernel"),
  "kernel float": (change_layer("stem", kernel=[3.0, 3, 3, 4]), "'stem' kernel"),
  "kernel huge": (change_layer("stem", kernel=[10**17] * 4), "'stem'"),
  "kernel of 2^60 taps": (change_layer("stem", kernel=[2**30, 2**29, 3, 4]), "'stem' kernel.*left"),
  "kernel with too many channels": (change_layer("stem", kernel=[1, 1, 2**21, 1]), "up to 1048576"),
  "kernel larger": (change_layer("stem", kernel=[3, 3, 4, 4]), "codes"),
  "kernel smaller": (change_layer("stem", kernel=[3, 3, 2, 4]), "codes"),
  "groups zero": (change_layer("block/conv", groups=0), "'block/conv' groups"),
  "groups do not divide": (change_layer("block/conv", groups=3), "'block/conv' groups"),
  "groups huge": (change_layer("block/conv", groups=10**17), "'block/conv' groups"),
  "groups lost": (lambda p: p.layer("block/conv").pop("groups"), "bits|codes"),
  "signed a number": (change_layer("stem", signed=1), "'stem' signed"),
  "pinned elsewhere": (change_layer("stem", pinned=4), "'stem' pinned"),
  "pinned with many levels": (change_layer("head", pinned=4), "'head' pinned"),
  "positions zero": (change_layer("stem", positions=0), "'stem' positions"),
  "kind unknown": (change_layer("stem", kind="pool"), "'stem' kind"),
  "kind a list": (change_layer("stem", kind=[]), "'stem' kind"),
  "dense with taps": (change_layer("stem", kind="dense"), "'stem' kind"),
  "bias a number": (change_layer("head", bias=1), "'head' bias"),
  "bias lost": (lambda p: p.layer("head").pop("bias"), "'float32': expected 31 entries"),
  "bias gained": (change_layer("stem", bias=True), "float32|beta|alpha"),
  "tensors a list": (change_meta(tensors=[]), "tensors: expected"),
  "tensors in another collection": (
    lambda p: p.meta["tensors"].update(cache=p.meta["tensors"].pop("params")), "'cache/gain'"),
  "tensor path with a slash": (
    lambda p: p.meta["tensors"]["params"].update({"a/b": [4]}), "must not contain '/'"),
  "tensor path climbs": (
    lambda p: p.meta["tensors"]["params"].update({"..": [4]}), "tensors: key"),
  "tensor shape zero": (
    lambda p: p.meta["tensors"]["params"].update(gain=[0]), "'params/gain': expected an int"),
  "tensor shape product huge": (
    lambda p: p.meta["tensors"]["params"].update(gain=[10**17] * 8), "'params/gain': needs 1000"),
  "tensor rank nine": (
    lambda p: p.meta["tensors"]["params"].update(gain=[1] * 9), "'params/gain': expected a list"),
  "tensor shape a string": (
    lambda p: p.meta["tensors"]["params"].update(gain="4"), "'params/gain': expected a list"),
  "tensor folder empty": (
    lambda p: p.meta["tensors"]["params"].update(none={}), "under 'params/none'"),
  "tensor of a layer": (
    lambda p: p.meta["tensors"]["params"].update(head={"k": take_gain(p)}),
    "belongs to a quantized"),
  "collection a leaf": (
    lambda p: p.meta.update(tensors={"params": [17]}), "'params': expected a path"),
  "tensor forgotten": (
    lambda p: p.meta["tensors"]["params"].pop("gain"), "'float32': expected 33 entries"),
  "codes short": (resize("codes", -1), "'head' codes: needs"),
  "codes long": (resize("codes", 1), "'codes': expected 129 entries in all, got 130"),
  "bits short": (resize("bits", -1), "'head' bits: needs"),
  "bits long": (resize("bits", 1), "'bits': expected 4 entries in all, got 5"),
  "floats short": (resize("float32", -4), "needs 4 entries of tensor 'float32'"),
  "floats long": (resize("float32", 4), "'float32': expected 34 entries"),
  "floats ragged": (resize("float32", 1), "'float32': shape"),
  "level index 3": (or_byte("bits", 0, 0b1100), "'block/conv' bits: expected level"),
  "bits pad": (or_byte("bits", 3, 0b100), "'head' bits: expected zero pad bits in byte 3"),
  "codes pad": (or_byte("codes", 128, 0b100), "'head' codes: expected zero pad bits.*byte 8"),
  "codes pad in the middle": (or_byte("codes", 123, 0b100), "'head' codes.*byte 3"),
  "alpha zero": (set_float(0, 0.0), "'stem' alpha: expected positive"),
  "alpha negative": (set_float(6, -1.0), "'block/conv' alpha: .*at 1"),
  "alpha NaN": (set_float(10, float("nan")), "'head' alpha"),
  "beta zero": (set_float(4, 0.0), "'stem' beta"),
  "beta infinite": (set_float(9, float("inf")), "'block/conv' beta"),
  "beta without a reciprocal": (set_float(13, 1e-40), "'head' beta"),
  "bias NaN": (set_float(15, float("nan")), "'head' bias.*at 1"),
  "norm infinite": (set_float(20, float("-inf")), "batch_stats/stem_norm/mean"),
}  # fmt: skip

# Of a file of version 2. Its gain is the number 3 without data.
HALF_CASES = {
  "half in version 1": (change_meta(version=1), "keys unknown \\['half'\\]"),
  "half lost": (lambda p: p.tensors.pop("float16"), "expected a tensor 'float16'"),
  "half long": (resize("float16", 2), "'float16': expected .* entries in all"),
  "half short": (resize("float16", -2), "of tensor 'float16'"),
  "half ragged": (resize("float16", 1), "'float16': shape"),
  "half of another type": (change_tensor("float16", dtype="BF16"), "dtype F16"),
  "half NaN": (
    lambda p: p.tensors["float16"].__setitem__(slice(0, 2), b"\xff\x7f"), "'stem' alpha"),
  "half not a boolean": (change_layer("stem", half=1), "'stem' half: expected true or false"),
  "half layer in float32": (change_layer("stem", half=False), "of tensor 'float32'"),
  "constant not half precision": (
    lambda p: p.meta["tensors"]["params"].update(gain=[[], 0.1]), "'params/gain': expected a num"),
  "constant infinite": (
    lambda p: p.meta["tensors"]["params"].update(gain=[[], 1e6]), "'params/gain': expected a num"),
  "constant a string": (
    lambda p: p.meta["tensors"]["params"].update(gain=[[], "3"]), "'params/gain': expected a num"),
  "constant true": (
    lambda p: p.meta["tensors"]["params"].update(gain=[[], True]), "'params/gain': expected a num"),
  "constants without end": (
    lambda p: p.meta["tensors"]["params"].update(gain=[[1 << 40], 3.0]), "constants in all"),
  "sizes within sizes": (
    lambda p: p.meta["tensors"]["params"].update(gain=[[], 3.0, 3.0]), "'params/gain': expected"),
}  # fmt: skip


@pytest.mark.parametrize("name", HALF_CASES)
def test_damage_to_half_precision_is_refused_where_it_is(half_bytes, name):
  change, message = HALF_CASES[name]
  parts = Parts(half_bytes)
  assert from_bytes(parts.build()).layers
  change(parts)
  with pytest.raises(ArtifactError, match=message):
    from_bytes(parts.build(), "file.safetensors")


def test_version_2_without_half_precision_is_refused(sample_bytes):
  parts = Parts(sample_bytes)
  parts.meta["version"] = 2
  with pytest.raises(ArtifactError, match="expected 1 without half precision, got 2"):
    from_bytes(parts.build())


@pytest.mark.parametrize("name", CASES)
def test_hand_made_corruption_is_refused_where_it_is(sample_bytes, name):
  change, message = CASES[name]
  parts = Parts(sample_bytes)
  change(parts)
  with pytest.raises(ArtifactError, match=message) as caught:
    from_bytes(parts.build(), "file.safetensors")
  assert type(caught.value) is ArtifactError
  assert str(caught.value).startswith("file.safetensors: ")
  assert len(str(caught.value)) < 1000


def test_taking_apart_and_building_alone_is_accepted(sample, sample_bytes):
  back = from_bytes(Parts(sample_bytes).build())
  assert list(back.layers) == list(sample.layers)


def test_damage_to_the_payload_is_called_so(sample_bytes):
  with pytest.raises(ArtifactError, match=r"digest: expected .* the file is damaged"):
    from_bytes(sample_bytes[:-1] + bytes([sample_bytes[-1] ^ 1]))
