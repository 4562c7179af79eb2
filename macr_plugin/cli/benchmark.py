"""``macr benchmark``: networks compared for quality, speed and memory."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``macr benchmark``.

    Args:
        commands: What the command is added to.
    """
    parser = commands.add_parser(
        "benchmark",
        help="compare networks for quality, speed and memory",
        description="Compare networks for quality, speed and memory, and write a report. A run that was killed is "
        "followed by one that goes on.",
    )
    parser.add_argument("-opt", type=Path, required=True, metavar="YAML", help="such as options/benchmark_demo.yml")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the report (default: results/NAME)")
    parser.add_argument(
        "--import",
        type=Path,
        action="append",
        default=[],
        dest="imports",
        metavar="FILE",
        help="Python file that registers a network of yours; may be given several times",
    )
    training = parser.add_argument_group("train every network from scratch before it is measured")
    length = training.add_mutually_exclusive_group()
    length.add_argument("--train-iters", type=int, metavar="N", help="steps")
    length.add_argument("--train-budget", metavar="TIME", help="time for each, such as 600s or 2h")
    training.add_argument(
        "--seeds", type=int, nargs="+", default=[0], metavar="N", help="one training for each (default: 0)"
    )
    parser.set_defaults(run=_benchmark)


def _benchmark(arguments: argparse.Namespace) -> None:
    from macr_plugin.benchmark.runner import benchmark
    from macr_plugin.benchmark.training import parse_seconds

    budget = None if arguments.train_budget is None else parse_seconds(arguments.train_budget)
    out = benchmark(arguments.opt, arguments.out, arguments.imports, arguments.train_iters, budget, arguments.seeds)
    print(f"Written: {out / 'report.html'}")
