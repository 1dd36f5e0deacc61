# SPDX-License-Identifier: Apache-2.0
import re

from experiments.cli import main

LICENCE = "Permission is granted to everyone, for any purpose and without a fee. "


def test_what_both_splits_hold_word_for_word_is_told_when_asked(mine_file, monkeypatch, capsys):
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
    assert "lie in a string" not in told
    said = "each file, or what NULs part it into."
    assert f"- Documents: {said}" in told
    main.main(["plan", "mine.py"])
    assert capsys.readouterr().out.startswith(f"60 documents: {said}\n")
    main.main(["data", "mine.py", "--overlap"])
    (share,) = re.findall(r"([\d.]+)% of the validation tokens", capsys.readouterr().out)
    # A document: 70 letters and the token that ends it in common, 600 letters of its own.
    assert abs(float(share) - 100 * 71 / 671) < 0.06
