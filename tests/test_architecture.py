"""The tree obeys BUILD, and a tree that does not is found out."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.architecture import ROOMS, parse_build, third_party, tree_files, violations
from tests.update_build import update

ROOT = Path(__file__).parents[1]

HOUSE = {
  "hetjax/__init__.py": "",
  "hetjax/core/__init__.py": "from hetjax.core.palette import P\n",
  "hetjax/core/palette.py": "P = 1\n",
  "hetjax/pack/__init__.py": "",
  "hetjax/pack/layout.py": "import numpy\nfrom hetjax.core import P, palette\n",
  "hetjax/ops/__init__.py": "from hetjax.pack.layout import P\n",
  "hetjax/xla_cpu/core/api.cc": "",
  "tests/pack/test_layout.py": "from hetjax.pack import layout\n",
}
RULES = """
load("@rules_python//python:defs.bzl", "py_library")

package(default_visibility = ["//visibility:public"])

py_library(name = "package", srcs = ["hetjax/__init__.py"])
py_library(name = "core", srcs = ["hetjax/core/__init__.py", "hetjax/core/palette.py"])
py_library(
    name = "pack",
    srcs = ["hetjax/pack/__init__.py", "hetjax/pack/layout.py"],
    deps = [":core"],
)
py_library(name = "ops", srcs = ["hetjax/ops/__init__.py"], deps = [":pack"])
cc_library(name = "xla_cpu_core", srcs = ["hetjax/xla_cpu/core/api.cc"])
py_test(name = "pack_test", srcs = ["tests/pack/test_layout.py"], deps = [":pack"])
"""


@pytest.fixture
def house(tmp_path):
  """A small tree without fault."""
  for name, text in HOUSE.items():
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  (tmp_path / "BUILD").write_text(RULES)
  assert violations(tmp_path) == []
  return tmp_path


def test_the_tree_obeys_its_rules():
  assert violations(ROOT) == []


def test_build_lists_are_what_the_script_writes():
  assert (ROOT / "BUILD").read_text() == update(ROOT), "run `make build-file`"


def test_shipped_json_is_listed():
  listed = {f for t in parse_build((ROOT / "BUILD").read_text()).values() for f in t.files}
  shipped = {
    f for f in tree_files(ROOT, (".json",)) if f.startswith(("hetjax/", "pallas_kernels/"))
  }
  assert shipped <= listed


def test_every_import_from_outside_is_declared():
  """Packages are named in pyproject.toml; those of extras stay out of what must always run."""
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

  def names(requirements):
    return {re.match(r"[\w-]+", r).group().lower().replace("-", "_") for r in requirements}

  required = names(project["dependencies"])
  extras = {key: names(value) for key, value in project["optional-dependencies"].items()}
  distribution = {"absl": "absl_py", "orbax": "orbax_checkpoint", "sklearn": "scikit_learn"}
  for module, files in third_party(ROOT).items():
    for file in files:
      allowed = set(required)
      if file.startswith("tests/"):
        allowed |= extras["test"]
      if file.startswith(("hetjax/bench/", "tests/bench/", "experiments/")):
        allowed |= extras["peers"]
      if file.startswith(("pallas_kernels/", "tests/pallas_kernels/")):
        allowed |= extras["gpu"]
      assert distribution.get(module, module) in allowed, f"{file} imports {module}"


PLANTED = [
  ("hetjax/core/palette.py", "import hetjax.ops\n", "core may not import from ops"),
  ("hetjax/core/palette.py", "def f():\n  from ..pack import layout\n", "core may not import from"),
  (
    "hetjax/core/palette.py",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  from hetjax.ops import P\n",
    "core may not import from ops",
  ),
  ("hetjax/ops/__init__.py", "import hetjax.core\n", "target ops of BUILD does not declare :core"),
  ("hetjax/ops/__init__.py", "from tests.pack import test_layout\n", "ops may not import from"),
  ("hetjax/ops/__init__.py", "import hetjax.opps\n", "no such module"),
  ("tests/pack/test_layout.py", "import hetjax.ops\n", "pack_test of BUILD does not declare :ops"),
  ("hetjax/core/palette.py", "import hetjax.core\n", "in a circle"),
  ("hetjax/core/new.py", "", "hetjax/core/new.py must be listed once, in target core"),
  ("hetjax/attic/new.py", "", "hetjax/attic/new.py must be listed once, in target attic"),
  ("hetjax/xla_cpu/core/new.h", "", "new.h must be listed in one C++ target"),
]


@pytest.mark.parametrize(("path", "text", "message"), PLANTED)
def test_planted_violations_are_found(house, path, text, message):
  (house / path).parent.mkdir(exist_ok=True)
  (house / path).write_text(text)
  assert any(message in v for v in violations(house)), violations(house)


BROKEN_RULES = [
  ('deps = [":core"]', 'deps = [":ops"]', "depends on :ops, which is not below it"),
  ('deps = [":core"]', 'deps = [":cellar"]', "depends on :cellar, which does not exist"),
  ('"hetjax/core/palette.py"', '"hetjax/core/gone.py"', "gone.py, which does not exist"),
  ('"hetjax/ops/__init__.py"', '"hetjax/core/palette.py"', "palette.py must be listed once"),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN_RULES)
def test_broken_rules_are_found(house, old, new, message):
  (house / "BUILD").write_text(RULES.replace(old, new))
  assert any(message in v for v in violations(house)), violations(house)


@pytest.mark.parametrize(
  "text", ["x = 1", "py_library('core')", "for a in b: pass", 'f(name = "a")\nf(name = "a")']
)
def test_build_must_be_plain_rules(text):
  with pytest.raises(ValueError, match="BUILD line"):
    parse_build(text)


def test_a_violation_planted_in_a_copy_of_this_tree_is_found(tmp_path):
  for top in ("hetjax", "experiments", "tests", "pallas_kernels", "examples"):
    if (ROOT / top).is_dir():
      shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("*.so"))
  shutil.copy(ROOT / "BUILD", tmp_path)
  assert violations(tmp_path) == []
  palette = tmp_path / "hetjax/core/palette.py"
  palette.write_text(palette.read_text() + "\nimport hetjax.nn\n")
  found = violations(tmp_path)
  assert any("core may not import from nn" in v for v in found)
  assert any("in a circle" in v for v in found)


def test_the_script_lists_new_files_and_keeps_what_people_wrote(house):
  (house / "hetjax/core/new.py").write_text("")
  (house / "hetjax/data").mkdir()
  (house / "hetjax/data/__init__.py").write_text("")
  assert violations(house)
  text = update(house)
  (house / "BUILD").write_text(text)
  assert violations(house) == []
  assert update(house) == text
  targets = parse_build(text)
  assert "hetjax/core/new.py" in targets["core"].files and targets["pack"].deps == ("core",)
  assert list(targets) == ["package", "core", "data", "pack", "xla_cpu_core", "ops", "pack_test"]
  assert [r for r in ROOMS if r in targets] == ["package", "core", "data", "pack", "ops"]
