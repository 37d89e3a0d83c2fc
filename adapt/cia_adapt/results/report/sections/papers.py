"""Tables 2 and 3 of the supplement with our numbers in them, as `cia-adapt table` prints them."""

import pandas as pd

from cia_adapt.results.report.section import Section, Table
from cia_adapt.results.report.study import Study
from cia_adapt.results.table import definition, paper_table


def section(study: Study) -> Section | None:
    """Each table of which a method was run; None where none was."""
    tables = [
        _table(number, study) for number in ("3", "2") if set(study.methods) & {row[2] for row in definition(number)["rows"]}
    ]
    if not tables:
        return None
    return Section(
        "The paper's tables",
        ["Our runs in the layout of the supplement's tables. The published columns are never ours."],
        tables=tables,
    )


def _table(number: str, study: Study) -> Table:
    grid = paper_table(number, study.groups, "selected", study.baseline)
    published = [name for name in grid.header if name.endswith(" published")]
    rows = pd.DataFrame(grid.rows, columns=list(grid.header))
    return Table(f"table{number}", grid.title, rows, ". ".join(grid.notes) + ".", muted=published)
