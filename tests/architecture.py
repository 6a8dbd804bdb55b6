"""Compares the imports of a tree with its rooms and with the dependencies declared in BUILD.

A room is a directory of the house; `ROOMS` lists them from the ground floor up. A file may import
from its own room, and from rooms below it that its target in BUILD declares.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOMS = (
  "package",
  "core",
  "data",
  "hardware",
  "pack",
  "report",
  "pallas_kernels",
  "xla_cpu",
  "ops",
  "codesign",
  "nn",
  "models",
  "runtime",
  "learn",
  "bench",
  "front",
  "experiments",
)
ROOTS = ("hetjax", "pallas_kernels", "experiments", "tests", "examples")
PYTHON_RULES = ("py_library", "py_binary", "py_test")
CPP_RULES = ("cc_library", "cc_binary", "cc_test")
CPP_SUFFIXES = (".cc", ".h", ".inc")
_IGNORED = {"build", "__pycache__"}


@dataclasses.dataclass(frozen=True)
class Target:
  """One rule of BUILD.

  Attributes:
    rule: Its kind, such as "py_library".
    name: Its name; dependencies are written ":name".
    files: Paths in srcs, hdrs and data.
    deps: Names of the targets it declares as dependencies.
  """

  rule: str
  name: str
  files: tuple[str, ...]
  deps: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Import:
  """One imported module of the tree, or of elsewhere.

  Attributes:
    module: Dotted name as far as it is a module.
    line: Where it stands.
    at_load: Whether it runs when the file is imported (not in a function, not for types only).
  """

  module: str
  line: int
  at_load: bool


def parse_build(text: str) -> dict[str, Target]:
  """The targets of a BUILD file by name.

  Raises:
    ValueError: the text is not a list of plain rules, or a name is repeated.
  """
  targets = {}
  for statement in ast.parse(text).body:
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Constant):
      continue
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
      raise ValueError(f"BUILD line {statement.lineno} must be a call of a rule")
    if call.func.id in ("load", "package"):
      continue
    if call.args or any(k.arg is None for k in call.keywords):
      raise ValueError(f"BUILD line {statement.lineno} must have named arguments only")
    values = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    entries = [f for key in ("srcs", "hdrs", "data") for f in values.get(key, ())]
    files = [f for f in entries if not f.startswith(":")]
    labels = [f for f in entries if f.startswith(":")] + values.get("deps", [])
    deps = [label.removeprefix(":") for label in labels]
    if values["name"] in targets:
      raise ValueError(f"BUILD line {statement.lineno} repeats the name {values['name']!r}")
    targets[values["name"]] = Target(call.func.id, values["name"], tuple(files), tuple(deps))
  return targets


def room_of(path: str) -> str:
  """The room, or the group of tests, that a file belongs to: also its target's name in BUILD.

  Tests are grouped by directory; those directly in tests/ form "tests".
  """
  parts = PurePosixPath(path).parts
  if parts[0] == "tests":
    return "tests" if len(parts) == 2 else f"{parts[1]}_test"
  if parts[0] != "hetjax":
    return parts[0]
  if len(parts) == 2:
    return "package" if parts[1] == "__init__.py" else "front"
  return "front" if parts[1] == "cli" else parts[1]


def tree_files(root: Path, suffixes: tuple[str, ...]) -> list[str]:
  """Files of the tree with one of these suffixes, as sorted paths relative to `root`."""
  found = []
  for top in ROOTS:
    for path in (root / top).rglob("*"):
      relative = path.relative_to(root)
      if path.suffix in suffixes and not _IGNORED & set(relative.parts):
        found.append(relative.as_posix())
  return sorted(found)


def module_of(path: str) -> str:
  """Dotted name of a Python file; a package's is that of its directory."""
  parts = PurePosixPath(path).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: str, text: str, modules: set[str]) -> Iterator[Import]:
  """All imports of a file, those inside functions included.

  Args:
    path: Its path, for relative imports.
    text: Its contents.
    modules: Names of the tree's modules: `from a import b` means the module a.b if there is one.
  """
  package = module_of(path).split(".")
  if PurePosixPath(path).name != "__init__.py":
    package = package[:-1]

  def visit(node: ast.AST, at_load: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield Import(alias.name, node.lineno, at_load)
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        parents = package[: len(package) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
      for alias in node.names:
        full = f"{base}.{alias.name}"
        yield Import(full if full in modules else base, node.lineno, at_load)
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
      for child in node.body:
        yield from visit(child, False)
      for child in node.orelse:
        yield from visit(child, at_load)
      return
    inner = at_load and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
      yield from visit(child, inner)

  yield from visit(ast.parse(text, path), True)


def violations(root: Path, rooms: tuple[str, ...] = ROOMS) -> list[str]:
  """Everything in which the tree under `root` breaks the rules, one sentence each."""
  targets = parse_build((root / "BUILD").read_text())
  files = tree_files(root, (".py",))
  path_of = {module_of(f): f for f in files}
  found = list(_unlisted(targets, files, tree_files(root, CPP_SUFFIXES), root))
  found += _bad_targets(targets, rooms)
  edges: dict[str, set[str]] = {}
  for path in files:
    room = room_of(path)
    deps = targets[room].deps if room in targets else ()
    edges[path] = set()
    for item in imports_of(path, (root / path).read_text(), set(path_of)):
      if item.module.split(".")[0] not in ROOTS:
        continue
      where = f"{path}:{item.line}: import of {item.module}"
      imported = path_of.get(item.module)
      if imported is None:
        found.append(f"{where}: no such module in the tree")
        continue
      if item.at_load:
        edges[path].add(imported)
      other = room_of(imported)
      if other == room:
        continue
      if room in rooms and (other not in rooms or rooms.index(other) > rooms.index(room)):
        found.append(f"{where}: {room} may not import from {other}, which is above it")
      elif other not in deps:
        found.append(f"{where}: target {room} of BUILD does not declare :{other}")
  found += [f"imports in a circle: {' -> '.join(circle)}" for circle in _circles(edges)]
  return found


def third_party(root: Path) -> dict[str, set[str]]:
  """Top-level names of imported modules that are neither the tree's nor Python's -> files."""
  names: dict[str, set[str]] = {}
  files = tree_files(root, (".py",))
  for path in files:
    for item in imports_of(path, (root / path).read_text(), set()):
      top = item.module.split(".")[0]
      if top not in ROOTS and top not in sys.stdlib_module_names:
        names.setdefault(top, set()).add(path)
  return names


def _unlisted(targets, python_files, cpp_files, root) -> Iterator[str]:
  """Files in no target or in the wrong one, and entries without a file."""
  listed: dict[str, list[Target]] = {}
  for target in targets.values():
    for file in target.files:
      listed.setdefault(file, []).append(target)
      if not (root / file).is_file():
        yield f"BUILD: target {target.name} lists {file}, which does not exist"
  for path in python_files:
    names = [t.name for t in listed.get(path, ()) if t.rule in PYTHON_RULES]
    if names != [room_of(path)]:
      yield f"BUILD: {path} must be listed once, in target {room_of(path)}, got {names}"
  for path in cpp_files:
    count = sum(t.rule in CPP_RULES for t in listed.get(path, ()))
    if count != 1:
      yield f"BUILD: {path} must be listed in one C++ target, got {count}"


def _bad_targets(targets, rooms) -> Iterator[str]:
  """Dependencies of BUILD itself that name nothing or point upwards."""
  for target in targets.values():
    for dep in target.deps:
      if dep not in targets:
        yield f"BUILD: target {target.name} depends on :{dep}, which does not exist"
      elif target.name in rooms and dep in rooms and rooms.index(dep) >= rooms.index(target.name):
        yield f"BUILD: target {target.name} depends on :{dep}, which is not below it"


def _circles(edges: dict[str, set[str]]) -> list[list[str]]:
  """One circle of imports for each file on which a depth-first search meets its own path."""
  circles, done = [], set()

  def visit(path: str, trail: list[str]) -> None:
    if path in trail:
      circles.append([*trail[trail.index(path) :], path])
      return
    if path in done:
      return
    for other in sorted(edges[path] - {path}):
      visit(other, [*trail, path])
    done.add(path)

  for path in sorted(edges):
    visit(path, [])
  return circles
