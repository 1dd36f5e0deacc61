# SPDX-License-Identifier: Apache-2.0
import re

from experiments.cli import main

LICENCE = "Permission is granted to everyone, for any purpose and without a fee. "


def test_what_both_splits_hold_word_for_word_is_told_of_large_data_when_asked(
    mine_file, monkeypatch, capsys
):
    """Every document begins with the same 70 letters; the rest is its own."""
    monkeypatch.chdir(mine_file.parent)
    folder = mine_file.parent / "texts"
    folder.mkdir()
    assert len(LICENCE) == 70
    for i in range(60):
        (folder / f"{i}.txt").write_text(LICENCE + chr(48 + i) * 600)
    texts = 'TextFiles(paths=("texts",), validation_fraction=0.2)'
    study = mine_file.read_text().replace("data=zipf", f"data={texts}")
    mine_file.write_text("from model.data.source import TextFiles\n" + study)
    main.main(["data", "mine.py"])
    told = capsys.readouterr().out
    (small,) = re.findall(r"([\d.]+)% of the validation bytes", told)
    monkeypatch.setattr("experiments.cli.data._SMALL", 40_000)
    main.main(["data", "mine.py"])
    told = capsys.readouterr().out
    assert "lie in a string" not in told
    assert "--overlap says" in told
    said = "each file, or what NULs part it into."
    assert f"- Documents: {said}" in told
    main.main(["plan", "mine.py"])
    assert capsys.readouterr().out.startswith(f"60 documents: {said}\n")
    main.main(["data", "mine.py", "--overlap"])
    (share,) = re.findall(r"([\d.]+)% of the validation bytes", capsys.readouterr().out)
    assert share == small
    # A document: 70 letters and the token that ends it in common, 600 letters of its own.
    assert abs(float(share) - 100 * 71 / 671) < 0.06


def test_each_source_is_a_row_by_split_and_samples_are_shown_escaped(
    mine_file, monkeypatch, capsys
):
    monkeypatch.chdir(mine_file.parent)
    for name in ("one", "two"):
        (mine_file.parent / name).mkdir()
        for i in range(60):
            (mine_file.parent / name / f"{i}.txt").write_text(f"{name} \x1b[31m {i} " * 9)
    parts = ", ".join(
        f'Part(name="{name}", weight=1.0, '
        f'source=TextFiles(paths=("{name}",), validation_fraction=0.3))'
        for name in ("one", "two")
    )
    study = mine_file.read_text().replace("data=zipf", f"data=Mixture(parts=({parts}))")
    mine_file.write_text("from model.data.source import Mixture, Part, TextFiles\n" + study)
    main.main(["data", "mine.py", "--show", "2"])
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.startswith(("one ", "two "))]
    assert [row[:2] for row in rows] == [
        [name, split] for name in ("one", "two") for split in ("train", "validation")
    ]
    for first, second in (rows[:2], rows[2:]):
        assert int(first[2]) + int(second[2]) == 60
        n_bytes = [int(row[3].replace(",", "")) for row in (first, second)]
        n_tokens = [int(row[4].replace(",", "")) for row in (first, second)]
        assert [t - b for t, b in zip(n_tokens, n_bytes, strict=True)] == [
            int(first[2]),
            int(second[2]),
        ], "a document's end is a token"
    shown = [line for line in out.splitlines() if " at token " in line]
    assert len(shown) == 8
    assert all(r"\x1b[31m" in line and "\x1b" not in line for line in shown)
    assert "one: 50.0% of the training windows" in out
