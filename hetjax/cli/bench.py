"""`python -m hetjax bench`: hetjax, other engines and the machine's limits side by side."""

from __future__ import annotations

import argparse

from hetjax.bench import command
from hetjax.bench.suite import BENCHMARKS


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
    p = benchmarks.add_parser(name, help=benchmark.title)
    p.add_argument("--threads", type=_threads, default=[1, 2], help="numbers of threads: 1,2")
    p.add_argument("--seconds", type=float, default=2.0, help="per problem, all engines together")
    p.add_argument("--only", type=_list, help="problems whose names contain one of these texts")
    p.add_argument("--mixes", type=_list, help="mixes whose names contain one of these texts")
    p.add_argument("--peers", type=_list, help="peers by parts of names; '' for none")
    p.add_argument("--isa", choices=("avx2",), help="hold engines that can be told to this")
    p.add_argument("--json", metavar="PATH", help="also write the rows, with versions and machine")
    p.add_argument("--plot", metavar="PATH", help="also plot, as .svg, .png or .pdf")
    p.add_argument("--markdown", metavar="PATH", help="also rewrite the marked table of this page")


def main(args: argparse.Namespace) -> None:
  """Runs what was parsed."""
  command.main(
    args.benchmark,
    threads=args.threads,
    options={k: getattr(args, k) for k in ("seconds", "only", "mixes", "peers")},
    isa=args.isa,
    json_path=args.json,
    plot_path=args.plot,
    markdown_path=args.markdown,
  )
