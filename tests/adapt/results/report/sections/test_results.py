"""What stands below the accuracies of a report."""

import json

from cia_adapt.results.report import study
from cia_adapt.results.report.sections import results
from cia_adapt.runs import files

from tests.adapt.results.report.run_folders import write_runs


def test_below_them_stands_what_training_saw_of_the_target_and_who_trained_the_backbone(tmp_path):
    told = "trained with the method, from rgb file:tuned.safetensors (fine-tuned on the labels of hmdb (…))"
    _, folder = write_runs(tmp_path, ["concat", "cia"], [("ucf", "hmdb")], seeds=1)
    result = json.loads((folder / "result.json").read_text()) | {"backbone": told, "target_val_clips_adapted_to": 24}
    (folder / "result.json").write_text(json.dumps(result))
    (one,) = study.read(files.find([tmp_path]), study.Wanted(), print)
    note = results.section(one).tables[0].note
    assert f"; transductive: cia adapted to the target's test clips, without their labels; backbone of cia: {told};" in note
    assert "backbone of concat" not in note and "a bound, not a result" not in note
