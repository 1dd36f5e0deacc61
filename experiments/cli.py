# SPDX-License-Identifier: Apache-2.0
"""isoflop plan | run | next | status | retry | export | fit | compare | report | ...: thin calls.

Imports nothing heavy: ``plan`` and ``status`` answer without JAX.
"""

import argparse
import errno
import importlib
import importlib.util
import pkgutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from experiments import (
    calibration,
    coordinate_check,
    cost_accuracy,
    cost_display,
    cost_options,
    cost_record,
    display,
    doctor,
    engines,
    export,
    fit_table,
    leftovers,
    lr_check,
    missing,
    next_runs,
    pipeline,
    reproduce,
    retry,
    status,
    studies,
    table_options,
    until,
)
from experiments.check import command as check_command
from experiments.claims import MAX_ATTEMPTS
from experiments.executors.local import DiskError
from experiments.fitting import prepare_to_fit
from experiments.ledger import Ledger
from experiments.overrides import override
from experiments.plan import Plan, plan
from experiments.point import Point
from experiments.runner import missing_points
from experiments.storage import DISK_ERRORS
from experiments.study import Study
from model.data.manifest import Manifest
from model.data.source import source_to_dict
from model.ranges import one_line

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
    except pipeline.Preempted:
        _end("asked to stop. Finished runs are kept; the same command goes on.", EXIT_PREEMPTED)
    except pipeline.RunsFailed as error:
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
        sub.add_argument("study", help=f"a name ({', '.join(_names())}) or a Python file")
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
            (_add_training, missing.add_option, until.add_options, cost_options.add_options),
        ),
        ("lr-check", _lr_check, swept, (_add_training, lr_check.add_options)),
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
    leftovers.add_arguments(add("gc", _gc, text))
    export.add_arguments(
        add("export", _export, "one table of all runs, or metrics for other tools")
    )
    add("doctor", _doctor, "verify every file of a study; name what is damaged and the way out")
    sub = add("fit", _fit, "fit all approaches to a study's runs, or a law to a TABLE of runs")
    table_options.add_options(sub)
    table_options.add_outputs(sub)
    missing.add_option(sub)
    for name, arguments, text in (
        ("compare", fit_table.add_compare, "rank laws by hold-out; or compute of B over A"),
        ("optimum", fit_table.add_optimum, "N*, D* and L* at training budgets"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        arguments(sub)
        sub.set_defaults(command=_of_table, body=getattr(fit_table, name))
    missing.add_option(add("plot", _plot, "draw the figures"))
    missing.add_option(add("report", _report, "write figures and report.html"))
    text = "compile every program, train nothing: does it fit, what does it move, how long"
    check_command.add_options(add("check", _check, text))
    text = "measure this machine's speed on the study's networks, and print the plan with it"
    cost_options.add_options(add("calibrate", _calibrate, text))
    text = "sizes of activations and of their updates against width and depth"
    coordinate_check.add_options(add("coordinate-check", _coordinate_check, text))
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


def _names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(studies.__path__))


def load_study(name: str) -> Study:
    """The STUDY of a module in experiments/studies, or of a Python file.

    Raises:
      ValueError: if there is none.
    """
    if name in _names():
        module = importlib.import_module(f"experiments.studies.{name}")
    elif name.endswith(".py") and Path(name).is_file():
        spec = importlib.util.spec_from_file_location("study_file", name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        except Exception as error:
            raise ValueError(f"{name}: {type(error).__name__}: {error}") from None
    else:
        raise ValueError(
            f"unknown study {name!r}: known are {', '.join(_names())}, or give the path of a "
            "Python file that defines STUDY."
        )
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise ValueError(f"{name}: defines no STUDY of type experiments.study.Study.")
    return study


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
    accuracy = None if speed is None else cost_accuracy.accuracy(ledger, points, speed)
    console.print(display.plan_table(planned, is_branched=study.trunks))
    console.print(cost_display.cost_table(planned, expected, accuracy))
    for line in next_runs.marks(ledger):
        console.print(line)
    cost_options.refuse_above(options.max_cost, expected)


def _run(options: Any, console: Console) -> None:
    signal.signal(signal.SIGTERM, _on_sigterm)
    until.check_options(options)
    study, ledger = _open(options)
    planned, manifest = _planned(study, ledger, console)
    for refusal in planned.refused:
        console.print(f"left out: {refusal.reason}")
    expected = cost_options.estimate(options, study, ledger, planned)
    if options.max_cost is not None and missing_points(ledger, planned.points):
        cost_options.refuse_above(options.max_cost, expected)
    for line in cost_record.remember(ledger, planned.points, expected):
        console.print(line)
    pipeline.run(options, study, ledger, manifest, list(planned.points), console)


def _on_sigterm(number: int, frame: Any) -> NoReturn:
    raise pipeline.Preempted


def _status(options: Any, console: Console) -> None:
    status.status(options, *_open(options), console)


def _retry(options: Any, console: Console) -> None:
    ids = [word for word in options.overrides if "=" not in word]
    options.overrides = [word for word in options.overrides if "=" in word]
    _, ledger = _open(options)
    retry.retry(options, ids, ledger, console)


def _gc(options: Any, console: Console) -> None:
    _, ledger = _open(options)
    leftovers.gc(options, ledger, console)


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
    from experiments import report

    points = ledger.read_plan()
    if not any(ledger.has_result(point.id) for point in points):
        raise ValueError(f"{ledger.folder} has no finished run. `isoflop run` trains them.")
    built = report.build(ledger, study, points, allow_missing=options.allow_missing)
    return study, ledger, points, built


def _of_table(options: Any, console: Console) -> None:
    prepare_to_fit()
    options.body(options, console)


def _fit(options: Any, console: Console) -> None:
    if fit_table.is_table(options):
        prepare_to_fit()
        return fit_table.fit(options, console)
    study, ledger, _, built = _built(options)
    from experiments import report

    report.print_answer(console, study, ledger, built)


def _plot(options: Any, console: Console) -> None:
    _, ledger, _, built = _built(options)
    from experiments import report

    for path in report.draw(ledger, built).values():
        console.print(str(path))


def _report(options: Any, console: Console) -> None:
    study, ledger, points, built = _built(options)
    from experiments import report

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
    from experiments.calibrate import calibrate

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
    ledger = Ledger(options.results, lr_check.sweep_name(study))
    manifest = _manifest(study, ledger, console)
    lr_check.lr_check(options, study, ledger, manifest, console)


def _coordinate_check(options: Any, console: Console) -> None:
    study, ledger = _open(options)
    manifest = _manifest(study, ledger, console)
    coordinate_check.coordinate_check(options, study, ledger, manifest, console)


if __name__ == "__main__":
    main()
