"""The command line of stage two, put together. Heavy imports stay inside the commands, so that --help is instant."""

from cia_extract.common import console

import cia_adapt.cli.cost as cost
import cia_adapt.cli.features as features
import cia_adapt.cli.figure as figure
import cia_adapt.cli.predictions as predictions
import cia_adapt.cli.results as results
import cia_adapt.cli.search as search
import cia_adapt.cli.train as train

app = console.application(
    "Train light heads over extracted features and evaluate them across domains. Finished runs are kept and reused.",
    "cia-adapt --features feats.h5 --method cia --seeds 5",
    "cia-adapt sweep --features feats.h5 --method table3 --seeds 10",
)
for part in (train, search, results, predictions, cost, features):
    part.register(app)
app.add_typer(figure.app, name="figure")
