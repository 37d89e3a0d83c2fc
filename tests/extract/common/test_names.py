"""Names that come from files: where they may lead, what they may do to a terminal, a spreadsheet, a figure."""

import csv
import io
import itertools
import sys

import pytest
from cia_extract.common import console, entry, names, spreadsheets
from cia_extract.common.errors import CiaError, DataError, UsageError

LEADING_OUT = ("../../x", "/etc/x", "a/b", "a\\b", "", "  ", ".", "..", ".x", "-rf")
HOSTILE = (*LEADING_OUT, "a\0b", "a\nb", "\x1b[2J", "\x9b2J", "\u202eabc", "\ud800")
ESCAPES = ("\x1b[2J", "\x1b]0;x\x07", "a\rb", "\u202eabc", "\x9b31m", "\ud800")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leads_elsewhere_or_is_empty_becomes_no_path(name):
    with pytest.raises(DataError, match="cannot become the name of a file or folder; rename it") as error:
        names.check(name, "feats.h5: domain")
    assert str(error.value).isprintable()


def test_ordinary_names_stay_usable_in_every_script():
    for name in ("ucf101", "P01_01", "D1 → kitchen", "日本語", "a-b.c", "Ünïcode", "[red]", "$\\frac$".replace("\\", "")):
        assert names.check(name, "domain") == name


def test_the_longest_file_name_counts_bytes_and_what_is_added():
    assert names.check("ü" * 127, "domain", added=1)
    with pytest.raises(UsageError, match="longer than 254 bytes"):
        names.check("ü" * 127 + "x", "domain", added=1, error=UsageError)


@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_commands_the_terminal(name, capsys):
    console.say(f"clip {name} failed")
    console.print_fields({name: {name: [name, name]}, "x": name})
    console.out(f"{name}: done")
    with console.Progress(1, name, every_s=0) as progress:
        progress.line(name)
        progress.step(name)
    told = capsys.readouterr()
    assert all(line.isprintable() for line in (told.out + told.err).split("\n"))
    assert "failed" in told.err and "done" in told.out


def test_a_bar_on_a_terminal_shows_a_name_that_looks_like_markup(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with console.Progress(2, "[red]x[/red] \x1b]0;evil\x07") as progress:
        progress.step("[bold]y[/nothing] :smile:")
        progress.line("[red]z[/red]\x1b[2J")
    text = screen.getvalue()
    assert "[red]x[/red]" in text and "[red]z[/red]" in text and "\x1b]0;evil" not in text and "\x1b[2J" not in text


def test_an_error_is_one_line_whatever_the_name(capsys):
    def app(**_):
        raise CiaError("clip 'a\nb\x1b[2J\r' is damaged")

    with pytest.raises(SystemExit):
        entry.run(lambda: app, "cia-test")
    assert capsys.readouterr().err == "cia-test: clip 'a\\nb\\x1b[2J\\r' is damaged\n"


FORMULAS = ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''=1", "-", "-inf"]


@pytest.mark.parametrize("text", [*FORMULAS, "'tis", "run", "", "-1.5", "+3e-4"])
def test_a_spreadsheet_runs_no_cell_and_reading_gives_the_text_back(text):
    cell = spreadsheets.cell(text)
    assert spreadsheets.plain(cell) == text
    try:
        float(text)
    except ValueError:
        assert not cell or cell[0] not in "=+-@\t\r"
    if text in ("-1.5", "+3e-4"):
        assert cell == text


CONTROLS = ["\x1b[2J", "a\nb", "a\tb\x1c\x85", "\u202egpj", "\udc80", "\\\x1b", "\\\\\x1b", "\x1bx1b", "\\x1b\x1b"]
CONTROLS += [r"\x1b", r"\\x1b", r"\\\u202e"]


@pytest.mark.parametrize("text", [*CONTROLS, "'\t=1", "=\x1b"])
def test_a_cell_commands_no_terminal_and_reading_gives_the_text_back(text):
    cell = spreadsheets.cell(text)
    assert cell.isprintable() and spreadsheets.plain(cell) == text


def test_every_text_of_these_characters_is_read_back_and_no_two_are_written_alike():
    texts = ["".join(letters) for letters in itertools.product(["\\", "\x1b", "\u202e", "x1b", "u202e", "'", "="], repeat=4)]
    cells = [spreadsheets.cell(text) for text in texts]
    assert [spreadsheets.plain(cell) for cell in cells] == texts and len(set(cells)) == len(set(texts))


def test_what_reads_like_an_escape_is_one_only_where_it_stands_for_a_character_that_is_escaped():
    for code in range(0x10000):
        text = f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
        assert (spreadsheets.plain(text) != text) == bool(names.UNPRINTABLE.match(chr(code))), text
    for path in (r"C:\videos\xy1", r"dir\new\run", r"a\\b", r"u\u00e9"):
        assert spreadsheets.cell(path) == spreadsheets.plain(path) == path


def test_cells_go_through_csv():
    buffer = io.StringIO()
    csv.writer(buffer).writerow(map(spreadsheets.cell, ["=1", "-2"]))
    assert buffer.getvalue() == "'=1,-2\r\n"
