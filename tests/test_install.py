"""What is installed: declared versions fit, and fresh installations work (`--install`)."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

import hetjax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD_TOOLS = re.compile(
  r"(.*-)?(cc|c\+\+|c89|c99|gcc|g\+\+|clang|clang\+\+|icx|icpx|nvcc|cmake|ninja|make|gmake)"
  r"(-[\d.]+)?"
)


def test_version_is_stated_once_and_the_same():
  assert PROJECT["project"]["version"] == hetjax.__version__


def test_packages_of_the_wheel_exist():
  for package in PROJECT["tool"]["scikit-build"]["wheel"]["packages"]:
    assert (ROOT / package / "__init__.py").is_file(), package


def test_pins_satisfy_the_declared_bounds():
  from packaging.requirements import Requirement

  pins = {}
  for line in (ROOT / "requirements.txt").read_text().splitlines():
    if line and not line.startswith("#"):
      pin = Requirement(line)
      if pin.marker is None or pin.marker.evaluate():
        assert len(pin.specifier) == 1 and str(pin.specifier).startswith("=="), line
        assert pin.name.lower() not in pins, f"{pin.name} is pinned twice"
        pins[pin.name.lower()] = str(pin.specifier).removeprefix("==")
  extras = PROJECT["project"]["optional-dependencies"]
  for text in PROJECT["project"]["dependencies"] + extras["test"]:
    requirement = Requirement(text)
    assert requirement.specifier.contains(pins[requirement.name.lower()]), text


def test_no_index_hosts_in_requirements():
  assert "://" not in (ROOT / "requirements.txt").read_text()


def run(*command, cwd, **environment):
  """Runs a command away from the checkout; its output, or a failure that shows it."""
  base = {
    k: v
    for k, v in os.environ.items()
    if k not in ("PYTHONPATH", "CC", "CXX", "HETJAX_CPU_LIBRARY")
  }
  done = subprocess.run(
    [str(c) for c in command],
    cwd=cwd,
    env=base | environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}"
  return done.stdout


def checkout(target):
  """A copy of the sources without anything built."""
  ignored = (".git", ".venv*", "build", "dist", "demo", "runs", "*.so", "__pycache__", ".*_cache")
  shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*ignored))
  return target


def fresh_environment(path):
  venv.create(path, with_pip=True)
  return path / "bin/python"


def path_without_build_tools(directory):
  """A directory with links to every program on PATH except compilers and build tools."""
  directory.mkdir()
  for entry in os.environ["PATH"].split(os.pathsep):
    for program in sorted(Path(entry).iterdir()) if Path(entry).is_dir() else ():
      link = directory / program.name
      if not BUILD_TOOLS.fullmatch(program.name) and not link.is_symlink():
        link.symlink_to(program)
  return str(directory)


LIST_LIBRARIES = (
  "import hetjax, pathlib; print(*pathlib.Path(hetjax.__file__).parent.rglob('*.so'))"
)
PACKED_CONVOLUTION = """
import jax.numpy as jnp, numpy as np
from hetjax.core import Palette
from hetjax.ops import packed_conv, quantize_pack
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import pack_weights
import hetjax.ops
layout = ChannelLayout((1, 2, 4, 2), Palette())
codes = np.zeros((3, 3, 4, 8), np.uint8)
x = jnp.asarray(np.linspace(-2, 2, 100, dtype=np.float32).reshape(1, 5, 5, 4))
a = quantize_pack(x, jnp.float32(1), layout=layout, signed=True)
weights = hetjax.ops.prepare_weights(pack_weights(codes, layout))
t = packed_conv(a, weights, signed=True, padding="SAME")
reference = packed_conv(
  a, pack_weights(codes, layout), signed=True, padding="SAME", implementation="reference")
assert t.shape == (1, 5, 5, 8) and t.dtype == jnp.int32 and np.any(t)
np.testing.assert_array_equal(t, reference)
print(hetjax.__file__)
"""


@pytest.mark.install
def test_a_wheel_works_from_an_empty_directory(tmp_path):
  source = checkout(tmp_path / "source")
  run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, ".", cwd=source)
  (wheel,) = tmp_path.glob("hetjax-*.whl")
  empty = tmp_path / "empty"
  empty.mkdir()
  python = fresh_environment(tmp_path / "environment")
  run(python, "-m", "pip", "install", "-c", ROOT / "requirements.txt", wheel, cwd=empty)
  output = run(python, "-m", "hetjax", "doctor", cwd=empty)
  assert re.search(r"^reference +yes", output, re.M), output
  if shutil.which("c++"):
    assert re.search(r"^xla_cpu +yes", output, re.M), output
  where = run(python, "-c", PACKED_CONVOLUTION, cwd=empty)
  assert str(tmp_path / "environment") in where
  targets = run(
    python,
    "-c",
    "import hetjax.hardware as h; h.load_target('bits_only'); import experiments",
    cwd=empty,
  )
  assert targets == ""


@pytest.mark.install
def test_without_a_compiler_the_reference_remains(tmp_path):
  """Installs from source with no compiler in sight; doctor explains; the contract suite passes."""
  source = checkout(tmp_path / "source")
  python = fresh_environment(tmp_path / "environment")
  path = path_without_build_tools(tmp_path / "programs")
  assert shutil.which("c++", path=path) is None and shutil.which("cmake", path=path) is None
  pins = ROOT / "requirements.txt"
  run(python, "-m", "pip", "install", "-c", pins, f"{source}[test]", cwd=tmp_path, PATH=path)
  suite = tmp_path / "suite"
  suite.mkdir()
  shutil.copytree(ROOT / "tests", suite / "tests")
  shutil.copy(ROOT / "pyproject.toml", suite)
  found = run(
    python,
    "-c",
    "import hetjax, pathlib; print(*pathlib.Path(hetjax.__file__).parent.rglob('*.so'))",
    cwd=suite,
    PATH=path,
  )
  assert found.strip() == ""
  report = run(python, "-m", "hetjax", "doctor", cwd=suite, PATH=path)
  assert re.search(r"xla_cpu.*\b(no|not|missing|unavailable)\b", report), report
  run(python, "-c", PACKED_CONVOLUTION, cwd=suite, PATH=path)
  output = run(python, "-m", "pytest", "-q", "tests/contract", cwd=suite, PATH=path)
  print(output[-500:])
  assert re.search(r"\d+ passed", output)


@pytest.mark.install
def test_make_setup_without_a_compiler_says_so(tmp_path):
  """The development environment, too, comes up as far as it can."""
  source = checkout(tmp_path / "source")
  path = path_without_build_tools(tmp_path / "programs")
  output = run(shutil.which("make"), "setup", f"PYTHON={sys.executable}", cwd=source, PATH=path)
  assert "no C++ compiler found" in output
  again = run(shutil.which("make"), "setup", cwd=source, PATH=path)
  assert "setting up" not in again and "pip" not in again
  assert "no C++ compiler found" in again  # it looks again, in case there is one by now
  run(source / ".venv/bin/python", "-c", PACKED_CONVOLUTION, cwd=source, PATH=path)
