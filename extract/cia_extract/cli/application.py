"""`cia-extract`: the command line of stage one. Heavy imports stay inside the commands, so that --help is instant."""

from typing import TYPE_CHECKING

import typer

import cia_extract.cli.datasets as datasets
import cia_extract.cli.features as features
import cia_extract.cli.options as options
import cia_extract.cli.preview as preview
import cia_extract.cli.requests as requests
import cia_extract.cli.weights as weights_cli
from cia_extract.common import console, flags
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.version import __version__

if TYPE_CHECKING:
    from cia_extract.extraction import Settings, Summary

app = console.application(
    "Turn action clips into one HDF5 file of I3D or TBN features (RGB, flow, audio). A second run of the same command continues.",
    "cia-extract --dataset demo --flow dis",
    "cia-extract --dataset indoor --root clips/indoor --out feats.h5 --dry-run",
)
app.add_typer(weights_cli.app, name="weights")
features.register(app)
datasets.register(app)
preview.register(app)


@app.callback(invoke_without_command=True)
@flags.command
def extract(
    context: typer.Context,
    clips: options.Clips,
    preprocessing: options.Preprocessing,
    computing: options.Computing,
    output: options.Output,
) -> None:
    """The command itself; its help is the application's."""
    if context.invoked_subcommand:
        return
    if output.version:
        print(f"cia-extract {__version__}")
        return
    if not clips.dataset:
        raise UsageError("--dataset is missing; try: cia-extract --dataset demo")
    settings, left_out = requests.settings(clips, preprocessing, computing, output)
    if output.dry_run:
        from cia_extract.extraction import dry_run

        planned = dry_run.plan(settings, console.say)
        console.print_json(planned) if output.as_json else console.print_fields(planned)
    else:
        _report(settings, requests.run(settings, computing), output.as_json, left_out)
    if left_out:
        raise DataError(left_out)


def _report(settings: "Settings", summary: "Summary", as_json: bool, left_out: str) -> None:
    """Print the summary; exit code 3 when clips failed."""
    if as_json:
        console.print_json(vars(summary) | {"out": str(settings.out), "dataset": settings.dataset})
    else:
        s = summary.seconds
        network = f"network {s['network']:.0f} s for {summary.windows} windows, it waited {s['waiting']:.0f} s"
        console.out(
            f"{settings.dataset}: {summary.done} of {summary.clips} clips done, {len(summary.failed)} failed, in {settings.out} "
            f"({summary.extracted_now} now, {s['wall']:.0f} s; {network}; "
            f"decode {s['decode']:.0f} s and flow {s['flow']:.0f} s over {settings.workers} workers)"
        )
        if summary.elsewhere:
            console.out(f"  {summary.elsewhere} clips are in work in other processes")
        for modality, outcomes in summary.outcomes.items():
            console.out(f"  {modality}: {', '.join(f'{count} {name}' for name, count in outcomes.items())}")
        if summary.damaged:
            clip, why = next(iter(summary.damaged.items()))
            more = f", …; cia-extract info {settings.out} names all" if len(summary.damaged) > 1 else ""
            what = (
                "1 clip is damaged and was" if len(summary.damaged) == 1 else f"{len(summary.damaged)} clips are damaged and were"
            )
            console.out(f"  {what} used all the same: {clip} ({why}){more}")
    if summary.failed:
        from cia_extract.features import failures_path

        clip, why = next(iter(summary.failed.items()))
        raise DataError(
            f"{len(summary.failed)} of {summary.clips} clips failed: {clip} ({why})"
            f"{', …' if len(summary.failed) > 1 else ''}; all are listed in {failures_path(settings.out)}; "
            f"mend them and add --retry-failed{'; ' if left_out else ''}{left_out}"
        )
