"""`cia-adapt figure`: pictures of finished runs for papers, as PNG, PDF or SVG."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from cia_extract.common import console, writes

if TYPE_CHECKING:
    from cia_adapt.results.figures import clip_maps

app = console.application(
    "Draw pictures of finished runs for papers. The suffix of --out chooses PNG, PDF or SVG.",
    "cia-adapt figure tsne runs/uh/source-only/hmdb-ucf/seed0 runs/uh/cia/hmdb-ucf/seed0",
    "cia-adapt figure gradcam runs/uh/cia/hmdb-ucf/seed0 --out gradcam.pdf",
)

Run = Annotated[Path, typer.Argument(help="The folder of a run.")]
Clip = Annotated[
    str | None,
    typer.Option(help="A validation clip of the target, by its id. [default: the one that SC changes most]"),
]
Root = Annotated[Path | None, typer.Option(help="Folder of the clips. [default: as at extraction]")]
Frames = Annotated[
    list[int],
    typer.Option("--frame", help="Draw only this one of the network's frames, counted from 1; repeat.", show_default=False),
]


@app.command()
def tsne(
    runs: Annotated[list[Path], typer.Argument(help="The folders of one run or more, drawn side by side.")],
    out: Annotated[Path, typer.Option(help="The picture; the coordinates lie beside it as .csv.")] = Path("tsne.png"),
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of t-SNE and of the choice of clips.")] = 0,
) -> None:
    """Draw the t-SNE of the clips' features. The source is blue, the target red. Shapes tell classes. Both domains have equally
    many clips.

    Examples:
        cia-adapt figure tsne runs/uh/source-only/hmdb-ucf/seed0 runs/uh/cia/hmdb-ucf/seed0
        cia-adapt figure tsne runs/uh/cia/hmdb-ucf/seed0 --out tsne.pdf
    """
    from cia_adapt.results.figures import drawing, two_runs
    from cia_adapt.runs import files

    drawing.check_out(out)
    folders = [files.find_one(path) for path in runs]
    pictures = [two_runs.place(folder, seed, console.say) for folder in folders]
    drawing.save(two_runs.draw(pictures), out)
    table = out.with_suffix(".csv")
    with writes.translated(f"--out {out}", "choose another file"):
        writes.text(table, two_runs.as_csv(folders, pictures))
    console.out(f"figure: {out.resolve()}, coordinates: {table.name}")


@app.command()
def consensus(
    run: Run,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("consensus.png"),
    clip: Clip = None,
    frame: Frames = [],  # noqa: B006
    root: Root = None,
) -> None:
    """Draw SC's consensus maps of one clip. They lie over the frames that the network saw.

    Examples:
        cia-adapt figure consensus runs/uh/cia/hmdb-ucf/seed0
        cia-adapt figure consensus runs/uh/cia/hmdb-ucf/seed0 --frame 1 --frame 3 --out consensus.pdf
    """
    from cia_adapt.results.figures import clip_maps

    _draw("consensus", run, out, clip_maps.Wanted(clip, root, frame))


@app.command()
def gradcam(
    run: Run,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("gradcam.png"),
    clip: Clip = None,
    target_class: Annotated[
        str | None, typer.Option("--class", help="Evidence for this class, or label=class. [default: the predicted one]")
    ] = None,
    frame: Frames = [],  # noqa: B006
    root: Root = None,
) -> None:
    """Draw the Grad-CAM of one clip. The panels are those of the paper's figure 2: rgb, refined rgb, flow, refined flow, fused
    after SC, consensus map.

    Examples:
        cia-adapt figure gradcam runs/uh/cia/hmdb-ucf/seed0
        cia-adapt figure gradcam runs/uh/cia/hmdb-ucf/seed0 --class golf --out gradcam.svg
    """
    from cia_adapt.results.figures import clip_maps

    _draw("grad_cam", run, out, clip_maps.Wanted(clip, root, frame, target_class))


def _draw(kind: str, run: Path, out: Path, wanted: "clip_maps.Wanted") -> None:
    from cia_adapt.results.figures import clip_maps, drawing, opened
    from cia_adapt.runs import files

    drawing.check_out(out)
    picture = {"consensus": clip_maps.consensus, "grad_cam": clip_maps.grad_cam}[kind](
        opened(files.find_one(run)), wanted, console.say
    )
    drawing.save(picture.draw(), out)
    console.out(f"figure: {out.resolve()}, {picture.title}")
