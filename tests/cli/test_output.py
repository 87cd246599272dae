"""Tables on stdout hold what labels and paths say, and obey none of it."""

from __future__ import annotations

import pytest

from milvus_fghash.cli.terminal.output import show_record, show_table

EVIL = "\x1b]0;owned\a\u202e\x9b[red]"
SHOWN = r"\x1b]0;owned\x07\u202e\x9b[red]"


def test_nothing_of_a_label_reaches_a_terminal_raw(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([{"label": EVIL, "paths": [EVIL], "meta": {EVIL: {EVIL: EVIL}}}], f"a note\nof {EVIL}")
    show_record({"label": EVIL, "reasons": {EVIL: 1}}, EVIL)
    shown = capsys.readouterr().out
    assert all(line.isprintable() for line in shown.split("\n"))
    assert shown.count(SHOWN) == 9
    assert f"a note\nof {SHOWN}\n" in shown
