"""Table 1 in the report is what `cia-adapt cost` counts."""

import pytest
from cia_adapt import config
from cia_adapt.results import cost
from cia_adapt.results.report import study
from cia_adapt.results.report.sections import costs
from cia_adapt.runs import files

from tests.adapt.results.report.run_folders import CLASSES, write_runs


def test_the_report_has_the_counts_of_cia_adapt_cost_beside_the_published_ones(tmp_path):
    write_runs(tmp_path, ["concat", "cia"], seeds=1)
    (one,) = study.read(files.find([tmp_path]), study.Wanted(), print)
    section = costs.section(one)
    table, modules = (shown.rows.set_index("method") for shown in section.tables)
    assert table.loc["cia", costs.PUBLISHED[0]] == 27.64 and table.loc["concat", costs.PUBLISHED[1]] == 53.46
    for name in ("concat", "cia"):
        chosen = config.load("uh", name, {})
        counted = cost.of_method(chosen.for_pair("", ""), ("rgb", "flow"), [len(CLASSES)], 1, chosen.setup.shared_features)
        assert table.loc[name, "M parameters with backbone"] == pytest.approx(counted.with_backbone.parameters / 1e6)
        assert table.loc[name, "GMac with backbone"] == pytest.approx(counted.with_backbone.macs / 1e9)
        predicting = modules.loc[name][modules.loc[name, "when"] != "training only"]
        assert predicting["parameters"].sum() == counted.with_backbone.parameters
