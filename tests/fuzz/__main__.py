"""``make fuzz``: random calls of every operator and loss, by the hundred thousand.

    make fuzz                             100,000 cases of each function
    make fuzz MINUTES=5                   as many as fit
    make fuzz CASES=1000 ONLY="upsample argmax" SEED=7
    python -m tests.fuzz --only upsample --seed 7 --case 123 --show     one of them again

FCN_EXT_CPU_CAPABILITY=plain, avx2 or avx512 chooses the instructions, as always.
"""

from __future__ import annotations

import argparse
import math
import secrets
import sys
import time

from fcn_ext import _host

from .judge import Fault
from .registry import FUNCTIONS
from .run import run_case, show_case
from .workers import Finding, batches, cores, run_batches

COMMAND = "python -m tests.fuzz"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    names = options.only or list(FUNCTIONS)
    unknown = [name for name in names if name not in FUNCTIONS]
    if unknown:
        print(f"--only: no function is called {unknown[0]}; there are {', '.join(FUNCTIONS)}")
        return 2
    if wrong := _wrong(options):
        print(wrong)
        return 2
    if options.case is not None:
        return _one_case(names[0], seed, options.case, options.show)
    is_endless = options.minutes is not None and options.cases is None
    cases = None if is_endless else (options.cases if options.cases is not None else 100_000)
    minutes = math.inf if options.minutes is None else options.minutes
    how_many = "as many cases as fit" if cases is None else f"{cases:,} cases each"
    capability = _host.cpu_capability()
    print(f"seed {seed}: {how_many}, {len(names)} functions, {capability}", flush=True)
    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        where = f"--only {finding.name} --seed {finding.seed} --case {finding.number}"
        print(f"FAULT {finding.text}\n  again: {COMMAND} {where}", flush=True)

    start = time.monotonic()
    until = start + 60 * minutes
    done = run_batches(batches(names, seed, cases), run_case, options.jobs, until, tell)
    for name in names:
        faults = sum(finding.name == name for finding in found)
        print(f"{name:28} {done.get(name, 0):9,} cases {faults:4} faults")
    spent = time.monotonic() - start
    print(f"{sum(done.values()):,} cases, {len(found)} faults, {spent:.0f} s, seed {seed}")
    return 1 if found else 0


def _wrong(options: argparse.Namespace) -> str:
    """What is wrong with the numbers of a call; "" where nothing is."""
    for name in ("cases", "minutes", "jobs"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            return f"--{name} must be > 0, got {value}"
    if options.case is None:
        return ""
    if options.case < 0:
        return f"--case must be >= 0, got {options.case}"
    if options.seed is None or len(options.only or ()) != 1:
        return "--case is one of --seed SEED and --only FUNCTION; give both"
    return ""


def _one_case(name: str, seed: int, number: int, show: bool) -> int:
    if show:
        show_case(name, seed, number)
    try:
        run_case(name, seed, number)
    except Fault as fault:
        print(f"FAULT {fault}")
        if fault.__cause__ is not None:
            raise
        return 1
    print(f"case {number} of {name} with seed {seed} is right")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(COMMAND, description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--cases", type=int, help="of each function; default 100,000")
    parser.add_argument("--minutes", type=float, help="after which no new batch is begun")
    parser.add_argument("--seed", type=int, help="default a random one")
    parser.add_argument("--only", nargs="+", metavar="FUNCTION")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes; default all cores")
    parser.add_argument("--case", type=int, help="one case of --only with --seed")
    parser.add_argument("--show", action="store_true", help="print the arguments of --case")
    return parser


if __name__ == "__main__":
    sys.exit(main())
