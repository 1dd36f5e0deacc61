# SPDX-License-Identifier: Apache-2.0
"""make bench-preparing: how fast text becomes tokens, in how much memory.

The text that comes with the package, again and again, each document with a number before it, as
JSON lines. It is prepared as bytes and with a BPE of 8,192, each in a process of its own; beside it
`encode_batch` of the package `tokenizers` does nothing but encode a part of the same documents.
Writes preparing.{json,md} below results/benchmarks/.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.benchmarks.record import facts, made_by, write
from experiments.files import markdown
from model.data.prepare import prepare, training_texts
from model.data.source import PepsText, TextFiles
from model.data.tokenizer import HuggingFaceTokenizer, TrainedBPE

SEPARATOR, BATCH = "<|endoftext|>", 256
SYSTEMS = {"bytes": "bytes", "bpe": "BPE 8,192", "encode_batch": "encode_batch alone"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--encoded", type=int, default=200, help="of them by encode_batch")
    parser.add_argument("--as", dest="system", choices=SYSTEMS, help="one of them, below --work")
    parser.add_argument("--work", type=Path, help="of --as")
    options = parser.parse_args()
    if options.system:
        print(json.dumps(measured(options.system, options.work, options.encoded)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(PepsText(validation_fraction=0.05, tokenizer=TrainedBPE(vocab_size=8192)), work)
        size = write_text(work / "text.jsonl", options.megabytes * 10**6)
        asked = ["--encoded", str(options.encoded), "--work", folder, "--as"]
        command = [sys.executable, "-m", "experiments.benchmarks.preparing", *asked]
        rows = {
            system: json.loads(subprocess.check_output([*command, system])) for system in SYSTEMS
        }
    record = facts("make bench-preparing") | {"bytes": size, "systems": rows}
    write("preparing", record, page(record))
    print(page(record))


def write_text(path: Path, n_bytes: int) -> int:
    """JSON lines of so many bytes of text; how many it came to."""
    texts = [text.decode() for text in training_texts(PepsText(validation_fraction=0.05))]
    written = number = 0
    with path.open("w", encoding="utf-8") as file:
        while written < n_bytes:
            text = f"{number}\n{texts[number % len(texts)]}"
            file.write(json.dumps({"text": text}) + "\n")
            written += len(text.encode())
            number += 1
    return written


def measured(system: str, work: Path, megabytes: int) -> dict[str, float]:
    """Bytes of text, seconds, CPU seconds and peak memory in GiB of one system."""
    began = time.perf_counter()
    if system == "encode_batch":
        n_bytes = encoded(work, megabytes * 10**6)
    else:
        tokenizer = HuggingFaceTokenizer(path=str(work / "tokenizer.json"), separator=SEPARATOR)
        source = TextFiles(
            paths=(str(work / "text.jsonl"),),
            validation_fraction=0.01,
            tokenizer=tokenizer if system == "bpe" else None,
        )
        n_bytes = prepare(source, work / system).n_bytes or 0
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "bytes": n_bytes,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_gib": used.ru_maxrss / 2**20,
    }


def encoded(work: Path, n_bytes: int) -> int:
    """What `tokenizers` does with the beginning of the text, tokens thrown away."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    texts, done = _texts(work / "text.jsonl"), 0
    while done < n_bytes and (batch := list(itertools.islice(texts, BATCH))):
        tokenizer.encode_batch(batch, add_special_tokens=False)
        done += sum(len(text.encode()) for text in batch)
    return done


def _texts(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line)["text"] for line in file)


def page(record: dict[str, Any]) -> str:
    """preparing.md."""
    rows, systems = [], record["systems"]
    for system, name in SYSTEMS.items():
        one = systems[system]
        megabytes = one["bytes"] / 1e6
        rows.append(
            [
                *(name, f"{megabytes:.0f}", f"{one['seconds']:.1f}", f"{one['cpu_seconds']:.1f}"),
                *(f"{megabytes / one['seconds']:.1f}", f"{one['peak_gib']:.2f}"),
            ]
        )
    speed = {system: one["bytes"] / one["seconds"] for system, one in systems.items()}
    heads = ("", "MB of text", "seconds", "CPU seconds", "MB per second", "peak memory, GiB")
    return "\n".join(
        [
            "# Text to tokens",
            "",
            f"{made_by(record)} The package's text again and again, each document with a number "
            "before it, as JSON lines; the tokenizer is trained on it before. Preparing reads, "
            "splits, encodes and writes; `encode_batch` only encodes.",
            "",
            *markdown.table(heads, rows),
            "",
            f"Preparing with the BPE is {speed['bpe'] / speed['encode_batch']:.2f} times as fast "
            "as `encode_batch` alone.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
