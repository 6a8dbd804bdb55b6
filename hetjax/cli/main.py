"""Argument parsing and dispatch of the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hetjax.cli import bench, doctor, inspect, run
from hetjax.ops import IMPLEMENTATIONS


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog="python -m hetjax", description=__doc__)
  commands = parser.add_subparsers(dest="command", required=True)
  json_help = "also write what is printed to this JSON file, with versions and machine"

  p = commands.add_parser("doctor", help="what this machine can run, and why not the rest")
  p.add_argument("--json", metavar="PATH", help=json_help)

  p = commands.add_parser("inspect", help="bits per layer and sizes of a packed network")
  p.add_argument("artifact", help="a packed network file")
  p.add_argument("--json", metavar="PATH", help=json_help)

  p = commands.add_parser("run", help="accuracy and latency of a packed network on test images")
  p.add_argument("artifact", help="a packed network file")
  p.add_argument("--data", required=True, help="name of the data set, e.g. digits")
  p.add_argument("--implementation", choices=IMPLEMENTATIONS, help="of the packed operations")
  p.add_argument("--json", metavar="PATH", help=json_help)

  bench.add_arguments(commands.add_parser("bench", help="speed beside other engines, and limits"))
  return parser


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs one command.

  Args:
    arguments: The command line without the program's name; None takes it from `sys.argv`.

  Returns:
    Exit status: 0, or 1 with one line on standard error for a bad file or argument.
  """
  args = _parser().parse_args(arguments)
  try:
    if args.command == "doctor":
      doctor.main(args.json)
    elif args.command == "inspect":
      inspect.main(args.artifact, args.json)
    elif args.command == "bench":
      bench.main(args)
    else:
      run.main(args.artifact, args.data, args.implementation, args.json)
  except (ValueError, OSError, RuntimeError) as error:  # the last: what cannot run here
    message = " ".join(str(error).split())
    print(f"hetjax {args.command}: {message}", file=sys.stderr)
    return 1
  return 0
