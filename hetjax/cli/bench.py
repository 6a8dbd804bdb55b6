"""`python -m hetjax bench`: hetjax, other engines and the machine's limits side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from hetjax.bench import command
from hetjax.bench.suite import BENCHMARKS

_VARIANTS = {"sweep": "layers", "profile": "networks"}  # asked for by an option of the other


def _list(text: str) -> list[str]:
  return [part.strip() for part in text.split(",") if part.strip()]


def _threads(text: str) -> list[int]:
  try:
    return [int(part) for part in _list(text)]
  except ValueError:
    raise argparse.ArgumentTypeError(f"must be numbers such as 1,2, got {text!r}") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the benchmarks and their options."""
  benchmarks = parser.add_subparsers(dest="benchmark", required=True)
  for name, benchmark in BENCHMARKS.items():
    if name in _VARIANTS:
      continue
    p = benchmarks.add_parser(name, help=benchmark.title)
    calibrate = name == "calibrate"
    p.add_argument(
      "--threads",
      type=_threads,
      default=[1] if calibrate else [1, 2],
      help="number of threads" if calibrate else "numbers of threads, one process each: 1,2",
    )
    p.add_argument("--seconds", type=float, help=f"per problem, {benchmark.seconds} if not given")
    if benchmark.problems:
      p.add_argument("--only", type=_list, help="problems whose names contain one of these texts")
    if benchmark.problems and name != "training":
      p.add_argument("--mixes", type=_list, help="mixes whose names contain one of these texts")
      p.add_argument("--peers", type=_list, help="peers by parts of their names; '' for none")
    for variant in (v for v, base in _VARIANTS.items() if base == name):
      p.add_argument(f"--{variant}", action="store_true", help=BENCHMARKS[variant].title)
    if calibrate:
      p.add_argument("--out", metavar="PATH", required=True, help="the target, as JSON")
    p.add_argument("--isa", choices=("avx2",), help="hold engines that can be told to this")
    p.add_argument("--json", metavar="PATH", help="also write the rows, with versions and machine")
    p.add_argument("--plot", metavar="PATH", help="also plot, as .svg, .png or .pdf")
    p.add_argument("--markdown", metavar="PATH", help="also rewrite the marked table of this page")


def main(args: argparse.Namespace) -> None:
  """Runs what was parsed.

  Raises:
    ValueError: an option does not fit.
    RuntimeError: a measurement failed.
  """
  benchmark = args.benchmark
  for variant, base in _VARIANTS.items():
    if benchmark == base and getattr(args, variant):
      benchmark = variant
  options = {k: getattr(args, k, None) for k in ("seconds", "only", "mixes", "peers")}
  target = getattr(args, "out", None)
  if target:
    options["name"] = Path(target).stem
    if len(args.threads) != 1:
      raise ValueError(f"threads must be one number to calibrate, got {args.threads}")
  command.main(
    benchmark,
    threads=args.threads,
    options=options,
    isa=args.isa,
    json_path=args.json,
    plot_path=args.plot,
    markdown_path=args.markdown,
    target_path=target,
  )
