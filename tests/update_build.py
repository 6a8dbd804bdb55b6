"""Rewrites the file lists of BUILD: `python -m tests.update_build` (or `make build-file`).

The lists of Python targets follow the tree; a room that has no target yet gets one without
dependencies. Dependencies and C++ targets stay as they were written by hand: dependencies are
decisions, and the architecture test tells which are missing.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.architecture import PYTHON_RULES, ROOMS, room_of, tree_files


def render(rule: str, values: dict[str, object]) -> str:
  """One rule in Bazel's usual layout."""
  lines = [f"{rule}("]
  for key, value in values.items():
    if isinstance(value, list) and len(value) > 1:
      lines += [f"    {key} = [", *(f'        "{v}",' for v in value), "    ],"]
    elif isinstance(value, list):
      lines.append(f"    {key} = [{', '.join(chr(34) + v + chr(34) for v in value)}],")
    else:
      text = f'"{value}"' if isinstance(value, str) else repr(value)
      lines.append(f"    {key} = {text},")
  return "\n".join([*lines, ")"])


def update(root: Path) -> str:
  """The new text of BUILD for the tree under `root`; other rules and the header are kept."""
  text = (root / "BUILD").read_text()
  by_room: dict[str, list[str]] = {}
  for path in tree_files(root, (".py",)):
    by_room.setdefault(room_of(path), []).append(path)

  rules: dict[str, tuple[str, dict]] = {}
  for statement in ast.parse(text).body:
    call = statement.value
    if isinstance(call, ast.Call) and call.func.id not in ("load", "package"):
      values = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
      rules[values["name"]] = (call.func.id, values)
  for room in by_room:
    is_test = room.endswith("_test") or room == "tests"
    rules.setdefault(room, ("py_test" if is_test else "py_library", {"name": room}))

  blocks = []
  for name, (rule, values) in sorted(rules.items(), key=lambda item: _place(item[0], rules)):
    if rule in PYTHON_RULES:
      if name not in by_room:
        continue
      rest = {k: v for k, v in values.items() if k not in ("name", "srcs")}
      values = {"name": name, "srcs": by_room[name], **rest}
    blocks.append(render(rule, values))
  header = text[: text.index(")\n", text.index("package(")) + 2]
  return header + "\n" + "\n\n".join(blocks) + "\n"


def _place(name: str, rules: dict) -> tuple:
  """Rooms bottom to top, each followed by its other targets (C++), then the tests."""
  if name in ROOMS:
    return (0, ROOMS.index(name), 0, 0)
  if rules[name][0] in PYTHON_RULES:
    return (1, 0, 0, name)
  owner = next((i for i, room in enumerate(ROOMS) if name.startswith(room)), len(ROOMS))
  return (0, owner, 1, list(rules).index(name))


def main() -> None:
  root = Path(__file__).parents[1]
  (root / "BUILD").write_text(update(root))


if __name__ == "__main__":
  main()
