# SPDX-License-Identifier: Apache-2.0
"""isoflop plan | run | next | status | retry | export | fit | compare | report | ...: thin calls.

Imports nothing heavy: ``plan`` and ``status`` answer without JAX.
"""

import argparse
import errno
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from experiments.adaptive import next_runs, until
from experiments.checks.compile import command as check_command
from experiments.checks.coordinates import command as coordinate_command
from experiments.checks.learning_rate import command as lr_command
from experiments.cli.load_study import load_study, study_names
from experiments.cli.plan import plan_table
from experiments.cli.run import run as run_study
from experiments.cost import accuracy, display, planned_cost
from experiments.cost import options as cost_options
from experiments.executors.local import DiskError
from experiments.files.storage import DISK_ERRORS
from experiments.fit_tables import command as fit_command
from experiments.fit_tables import options as table_options
from experiments.fit_tables import reproduce
from experiments.ledger.claims import MAX_ATTEMPTS
from experiments.ledger.ledger import Ledger, missing_points
from experiments.machine.jax_setup import prepare_to_fit
from experiments.operations import doctor, export, gc, retry, status
from experiments.plan.plan import Plan, plan
from experiments.plan.point import Point
from experiments.report import missing_runs
from experiments.speed import calibration
from experiments.study.overrides import override
from experiments.study.study import Study
from experiments.train import engines, run_points
from model.data.manifest import Manifest
from model.data.source import source_to_dict
from model.field_checks import one_line

EXIT_FAILED, EXIT_USAGE, EXIT_DISK, EXIT_PREEMPTED, EXIT_INTERRUPTED = 1, 2, 74, 75, 130


class _Parser(argparse.ArgumentParser):
    """One line for a user's mistake."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"isoflop: {message} (see {self.prog} --help)\n")


def main(arguments: list[str] | None = None) -> None:
    is_terminal = sys.stdout.isatty()
    # No markup: names, paths and messages may hold brackets.
    console = Console(
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
        width=None if is_terminal else 160,
    )
    try:
        options = _options(arguments)
        options.command(options, console)
    except KeyboardInterrupt:
        _end("stopped. Finished runs are kept; the same command goes on.", EXIT_INTERRUPTED)
    except run_points.Preempted:
        _end("asked to stop. Finished runs are kept; the same command goes on.", EXIT_PREEMPTED)
    except run_points.RunsFailed as error:
        _end(str(error), EXIT_FAILED)
    except DiskError as error:
        _end(f"{error} Free space there; finished runs are kept.", EXIT_DISK)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = EXIT_DISK if error.errno in DISK_ERRORS else EXIT_USAGE
        what = f"{error.filename}: " if error.filename else ""
        way_out = "Free space there; finished runs are kept." if is_full else "Check the path."
        _end(f"{what}{error.strerror}. {way_out}", code)
    except ValueError as error:
        _end(str(error), EXIT_USAGE)
    except Exception as error:
        # FitError lives in scaling/, which is not imported for the sake of this line.
        if type(error).__name__ != "FitError":
            raise
        _end(str(error), EXIT_USAGE)


def _end(message: str, code: int) -> NoReturn:
    line = one_line(" ".join(message.split()), most=2000)
    print(f"isoflop: {line}", file=sys.stderr)
    sys.exit(code)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    """Parsed arguments; overrides may stand before or after flags, which argparse alone refuses."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    unknown = [text for text in rest if text.startswith("-")]
    if unknown:
        parser.error(f"unknown option {unknown[0]}")
    options.overrides = [*options.overrides, *rest]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="isoflop", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, command: Callable[[Any, Console], None], text: str) -> _Parser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("study", help=f"a name ({', '.join(study_names())}) or a Python file")
        sub.add_argument("overrides", nargs="*", help="field=value, for instance seeds=0,1")
        sub.add_argument("--results", type=Path, default=Path("results"), help="folder of results")
        sub.set_defaults(command=command)
        return sub

    add("data", _data, "read the source once and write its manifest and tokens")
    swept = "sweep the recipe's learning rate, print how many nats it is from the best"
    for name, command, text, more in (
        (
            *("plan", _plan, "print the grid and its cost; trains nothing"),
            (cost_options.add_options,),
        ),
        (
            *("run", _run, "train what is missing, fit, forecast, report; may be interrupted"),
            (_add_training, missing_runs.add_option, until.add_options, cost_options.add_options),
        ),
        ("lr-check", _lr_check, swept, (_add_training, lr_command.add_options)),
    ):
        sub = add(name, command, text)
        sub.add_argument("--workers", type=int, default=None, help="processes (one per core)")
        for add_more in more:
            add_more(sub)
    text = "which runs would narrow the answer most, for so many FLOPs; trains nothing"
    next_runs.add_options(add("next", _next, text))
    text = "what is done, running, preempted, diverged, failed or waiting, and what it cost"
    status.add_arguments(add("status", _status, text))
    text = "let failed runs be tried again: all of them, or those whose ids follow"
    status.add_limits(add("retry", _retry, text))
    text = "show what nobody needs any more: checkpoints of finished runs, files of killed writes"
    gc.add_arguments(add("gc", _gc, text))
    export.add_arguments(
        add("export", _export, "one table of all runs, or metrics for other tools")
    )
    add("doctor", _doctor, "verify every file of a study; name what is damaged and the way out")
    sub = add("fit", _fit, "fit all approaches to a study's runs, or a law to a TABLE of runs")
    table_options.add_options(sub)
    table_options.add_outputs(sub)
    missing_runs.add_option(sub)
    for name, arguments, text in (
        ("compare", fit_command.add_compare, "rank laws by hold-out; or compute of B over A"),
        ("optimum", fit_command.add_optimum, "N*, D* and L* at training budgets"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        arguments(sub)
        sub.set_defaults(command=_of_table, body=getattr(fit_command, name))
    missing_runs.add_option(add("plot", _plot, "draw the figures"))
    missing_runs.add_option(add("report", _report, "write figures and report.html"))
    text = "compile every program, train nothing: does it fit, what does it move, how long"
    check_command.add_options(add("check", _check, text))
    text = "measure this machine's speed on the study's networks, and print the plan with it"
    cost_options.add_options(add("calibrate", _calibrate, text))
    text = "sizes of activations and of their updates against width and depth"
    coordinate_command.add_options(add("coordinate-check", _coordinate_check, text))
    text = "published numbers computed again, beside ours"
    sub = commands.add_parser("reproduce", help=text, description=text)
    reproduce.add_arguments(sub)
    sub.set_defaults(command=_reproduce)
    return parser


def _add_training(sub: argparse.ArgumentParser) -> None:
    """Options of a command that trains."""
    sub.add_argument("--checkpoint-seconds", type=float, default=60.0, metavar="S")
    text = "silence after which another host may take a run over"
    sub.add_argument("--lease-seconds", type=float, default=120.0, metavar="S", help=text)
    text = "failures without progress after which a run waits for `isoflop retry`"
    sub.add_argument("--max-attempts", type=int, default=MAX_ATTEMPTS, metavar="N", help=text)
    text = "runs of one shape trained together on a device (as was measured to be best)"
    sub.add_argument("--pack", type=int, default=None, metavar="N", help=text)
    engines.add_options(sub)


def _open(options: Any) -> tuple[Study, Ledger]:
    study = override(load_study(options.study), options.overrides)
    return study, Ledger(options.results, study.name)


def _manifest(study: Study, ledger: Ledger, console: Console, *, again: bool = False) -> Manifest:
    """The manifest of the study's data, written when it is missing."""
    if ledger.manifest.exists() and not again:
        manifest = Manifest.read(ledger.manifest)
        if manifest.source != source_to_dict(study.data):
            raise ValueError(
                f"{ledger.manifest} describes other data than the study asks for. "
                "`isoflop data STUDY` prepares these; finished runs stay."
            )
        return manifest
    from model.data.prepare import prepare

    with ledger.lock():  # Of two runners one prepares, the other waits and reads.
        if ledger.manifest.exists() and not again:
            return _manifest(study, ledger, console)
        console.print(f"reading {study.data.kind} data into {ledger.data} ...")
        ledger.data.mkdir(parents=True, exist_ok=True)
        manifest = prepare(study.data, ledger.data)
        manifest.write(ledger.manifest)
    return manifest


def _data(options: Any, console: Console) -> None:
    study, ledger = _open(options)
    manifest = _manifest(study, ledger, console, again=True)
    if manifest.n_train_tokens is None:
        console.print(f"unlimited tokens, true entropy {manifest.entropy_nats:.5f} nats per token")
    else:
        console.print(
            f"{manifest.n_documents} documents, {manifest.n_train_tokens:,} training and "
            f"{manifest.n_validation_tokens:,} validation tokens"
        )
    for note in manifest.notes:
        console.print(f"- {note}")
    console.print(f"fingerprint {manifest.fingerprint}\nmanifest {ledger.manifest}")


def _planned(study: Study, ledger: Ledger, console: Console) -> tuple[Plan, Manifest]:
    manifest = _manifest(study, ledger, console)
    return plan(study, manifest), manifest


def _plan(options: Any, console: Console) -> None:
    study, ledger = _open(options)
    planned, _ = _planned(study, ledger, console)
    expected = cost_options.estimate(options, study, ledger, planned)
    points, speed = planned.points, expected.speed
    measured = None if speed is None else accuracy.accuracy(ledger, points, speed)
    console.print(plan_table(planned, is_branched=study.trunks))
    console.print(display.cost_table(planned, expected, measured))
    for line in next_runs.marks(ledger):
        console.print(line)
    cost_options.refuse_above(options.max_cost, expected)


def _run(options: Any, console: Console) -> None:
    signal.signal(signal.SIGTERM, _on_sigterm)
    until.check_options(options)
    study, ledger = _open(options)
    grid, manifest = _planned(study, ledger, console)
    for refusal in grid.refused:
        console.print(f"left out: {refusal.reason}")
    expected = cost_options.estimate(options, study, ledger, grid)
    if options.max_cost is not None and missing_points(ledger, grid.points):
        cost_options.refuse_above(options.max_cost, expected)
    for line in planned_cost.remember(ledger, grid.points, expected):
        console.print(line)
    run_study(options, study, ledger, manifest, list(grid.points), console)


def _on_sigterm(number: int, frame: Any) -> NoReturn:
    raise run_points.Preempted


def _status(options: Any, console: Console) -> None:
    status.status(options, *_open(options), console)


def _retry(options: Any, console: Console) -> None:
    ids = [word for word in options.overrides if "=" not in word]
    options.overrides = [word for word in options.overrides if "=" in word]
    _, ledger = _open(options)
    retry.retry(options, ids, ledger, console)


def _gc(options: Any, console: Console) -> None:
    _, ledger = _open(options)
    gc.gc(options, ledger, console)


def _export(options: Any, console: Console) -> None:
    _, ledger = _open(options)
    export.export(options, ledger, console)


def _doctor(options: Any, console: Console) -> None:
    _, ledger = _open(options)
    if doctor.doctor(options.study, ledger, console):
        sys.exit(EXIT_FAILED)


def _built(options: Any) -> tuple[Study, Ledger, list[Point], Any]:
    """A study with the report of its finished runs."""
    study, ledger = _open(options)
    prepare_to_fit()
    from experiments.report import report

    points = ledger.read_plan()
    if not any(ledger.has_result(point.id) for point in points):
        raise ValueError(f"{ledger.folder} has no finished run. `isoflop run` trains them.")
    built = report.build(ledger, study, points, allow_missing=options.allow_missing)
    return study, ledger, points, built


def _of_table(options: Any, console: Console) -> None:
    prepare_to_fit()
    options.body(options, console)


def _fit(options: Any, console: Console) -> None:
    if fit_command.is_table(options):
        prepare_to_fit()
        return fit_command.fit(options, console)
    study, ledger, _, built = _built(options)
    from experiments.report import report

    report.print_answer(console, study, ledger, built)


def _plot(options: Any, console: Console) -> None:
    _, ledger, _, built = _built(options)
    from experiments.report import report

    for path in report.draw(ledger, built).values():
        console.print(str(path))


def _report(options: Any, console: Console) -> None:
    study, ledger, points, built = _built(options)
    from experiments.report import report

    report.write(ledger, study, points, built)
    console.print(str(ledger.report))


def _reproduce(options: Any, console: Console) -> None:
    prepare_to_fit()
    reproduce.reproduce(options, console)


def _check(options: Any, console: Console) -> None:
    study, ledger = _open(options)
    planned, _ = _planned(study, ledger, console)
    if not check_command.check(options, study, ledger, planned, console):
        sys.exit(EXIT_FAILED)


def _calibrate(options: Any, console: Console) -> None:
    study, ledger = _open(options)
    planned, _ = _planned(study, ledger, console)
    from experiments.speed.calibrate import calibrate

    # Asked before: measuring pins this process to the cores of one worker.
    options.n_devices = options.n_devices or cost_options.devices_at_once(options, study, planned)
    calibration.store(options.results, calibrate(study, planned, options.results, console))
    _plan(options, console)


def _next(options: Any, console: Console) -> None:
    study, ledger = _open(options)
    manifest = _manifest(study, ledger, console)
    prepare_to_fit()
    next_runs.propose_next(options, study, ledger, manifest, console)


def _lr_check(options: Any, console: Console) -> None:
    signal.signal(signal.SIGTERM, _on_sigterm)
    study, _ = _open(options)
    ledger = Ledger(options.results, lr_command.sweep_name(study))
    manifest = _manifest(study, ledger, console)
    lr_command.lr_check(options, study, ledger, manifest, console)


def _coordinate_check(options: Any, console: Console) -> None:
    study, ledger = _open(options)
    manifest = _manifest(study, ledger, console)
    coordinate_command.coordinate_check(options, study, ledger, manifest, console)


if __name__ == "__main__":
    main()
