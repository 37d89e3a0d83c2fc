"""`cia-adapt methods`; the other commands of `cli/results.py` are tested with the runs they show."""

from cia_adapt import config

from tests.adapt.cli.test_application import cia_adapt


def test_methods_lists_every_method_below_its_group_and_what_others_publish():
    run = cia_adapt("methods")
    assert run.returncode == 0
    places = [run.stdout.index(heading) for heading in config.grouped()]
    assert places == sorted(places)
    assert all(f" {name} " in run.stdout for name in config.names("methods"))
    assert "TranSVAE (2022)" in run.stdout and "98.95" in run.stdout
    assert "Nearly all pick the epoch that is best on the target's labels" in run.stdout
