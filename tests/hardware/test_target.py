import json
import re
from pathlib import Path

import pytest

from hetjax.hardware import load_target, target_names
from hetjax.hardware.target import parse_target

GOOD = json.loads(load_target("cpu_avx512_generic").to_json())


def test_shipped_targets():
  assert target_names() == [
    "bits_only",
    "cpu_avx2_zen2",
    "cpu_avx2_zen3",
    "cpu_avx512_generic",
    *("gpu_a100", "gpu_h100", "gpu_h200", "gpu_l4", "gpu_rtx_4090"),
  ]
  for name in target_names():
    target = load_target(name)
    assert target.name == name and [v.bits for v in target.levels] == [1, 2, 4, 8]


@pytest.mark.parametrize("name", ["cpu_avx2_zen2", "cpu_avx2_zen3"])
def test_a_measured_cpu_states_a_small_error(name):
  target = load_target(name)
  error = re.search(r"mean absolute error ([\d.]+) % on (\d+) mixed layers", target.provenance)
  assert float(error[1]) <= 12 and int(error[2]) >= 50
  assert "measured by hetjax at commit" in target.provenance and "avx2" in target.description
  costs = [level.cycles_per_mac for level in target.levels]
  assert costs == sorted(costs) and target.cycles_per_output > 0 < target.cycles_per_position


def test_the_generic_cpu_states_the_measured_rates():
  target = load_target("cpu_avx512_generic")
  rates = [target.frequency_ghz / v.cycles_per_mac for v in target.levels]
  assert rates == pytest.approx([1100, 550, 240, 236], rel=1e-3)
  assert [v.granule for v in target.levels] == [32, 48, 16, 16]
  assert "uncalibrated" in target.provenance
  assert target.microseconds(3690) == pytest.approx(1.0)


def test_a_target_survives_its_own_json(tmp_path):
  target = load_target("cpu_avx512_generic")
  path = tmp_path / "mine.json"
  path.write_text(target.to_json())
  assert load_target(path) == target == load_target(str(path))
  assert hash(load_target(path)) == hash(target)


def test_unknown_names_and_levels():
  with pytest.raises(ValueError, match=r"one of \['bits_only', .*got 'cpu'"):
    load_target("cpu")
  with pytest.raises(FileNotFoundError):
    load_target(Path("nowhere/cpu"))
  one_level = parse_target(json.dumps(GOOD | {"levels": {"2": GOOD["levels"]["2"]}}), "x")
  with pytest.raises(ValueError, match=r"among the levels \[2\].*got 4"):
    one_level.level(4)


def level(**changes):
  return {"levels": GOOD["levels"] | {"2": GOOD["levels"]["2"] | changes}}


BAD_VALUES = [
  ({"schema": 3}, "schema must be 2, got 3"),
  ({"schema": True}, "schema must be 2, got True"),
  ({"name": ""}, "name must be a non-empty string"),
  ({"provenance": 3}, "provenance must be a non-empty string"),
  ({"extra": 1}, "unknown ['extra']"),
  ({"frequency_ghz": 0}, "frequency_ghz must be a finite positive"),
  ({"frequency_ghz": "3.69"}, "frequency_ghz must be a positive number"),
  ({"cycles_per_byte": -1}, "cycles_per_byte must be a finite non-negative"),
  ({"cycles_per_op": True}, "cycles_per_op must be a non-negative number"),
  ({"cycles_per_op": 10**400}, "cycles_per_op must be a finite"),
  ({"cycles_per_output": -0.5}, "cycles_per_output must be a finite non-negative"),
  ({"cycles_per_position": "1"}, "cycles_per_position must be a non-negative number"),
  ({"output_granule": 0}, "output_granule must be an integer"),
  ({"output_granule": 32.0}, "output_granule must be an integer"),
  ({"levels": {}}, "levels must map"),
  ({"levels": [1]}, "levels must map"),
  ({"levels": {"3": GOOD["levels"]["2"]}}, "levels must map"),
  ({"levels": {"2": 5}}, "levels.2 must be an object"),
  (level(granule=0), "levels.2.granule must be an integer"),
  (level(granule=1.5), "levels.2.granule must be an integer"),
  (level(granule=True), "levels.2.granule must be an integer"),
  (level(cycles_per_mac=0), "levels.2.cycles_per_mac must be a finite positive"),
  (level(cycles_per_mac=None), "levels.2.cycles_per_mac must be a positive number"),
  (level(more=1), "levels.2 must have the keys"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_VALUES)
def test_malformed_values_are_refused(changes, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    parse_target(json.dumps(GOOD | changes), "x")


@pytest.mark.parametrize("key", sorted(GOOD))
def test_missing_keys_are_refused(key):
  with pytest.raises(ValueError, match=re.escape(f"missing ['{key}']")):
    parse_target(json.dumps({k: v for k, v in GOOD.items() if k != key}), "x")


def test_files_of_schema_1_say_how_to_renew_them():
  new = ("output_granule", "cycles_per_output", "cycles_per_position")
  old = {key: value for key, value in GOOD.items() if key not in new} | {"schema": 1}
  with pytest.raises(ValueError, match="bench calibrate --out FILE.*set schema to 2 and add") as e:
    parse_target(json.dumps(old), "x")
  assert all(key in str(e.value) for key in new)
  # What it says to add makes it a target again.
  renewed = old | {"schema": 2} | dict(zip(new, (1, 0, 0), strict=True))
  assert parse_target(json.dumps(renewed), "x") == load_target("cpu_avx512_generic")


@pytest.mark.parametrize(
  "text",
  [
    b"",
    b"\xff\xfe",
    "{",
    "[" * 100_000,
    json.dumps(GOOD)[:-1] + ', "name": "twice"}',
    json.dumps(GOOD | {"cycles_per_op": float("nan")}),
    json.dumps(GOOD | {"cycles_per_op": float("inf")}),
  ],
  ids=["empty", "bytes", "cut", "deep", "repeated", "nan", "inf"],
)
def test_text_that_is_not_strict_json_is_refused(text):
  with pytest.raises(ValueError, match="target x: not valid JSON"):
    parse_target(text, "x")


def test_a_list_is_refused():
  with pytest.raises(ValueError, match="target x must be an object"):
    parse_target("[]", "x")
