"""Writes docs/methods.md from the methods' TOMLs, the set-ups and the parts' docstrings: `python docs/make_methods.py`.

`tests/test_documents.py` compares the page with what this script makes of the code.
"""

import dataclasses
import functools
import inspect
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from cia_adapt import config, parts
from cia_adapt.config.schema import Method, Setup
from cia_extract.common import settings

PAGE = Path(__file__).with_name("methods.md")

HEAD = """# Methods

*Made by `python docs/make_methods.py` from the code. Edit the TOMLs and docstrings, not this page.*

A method is one TOML file in `adapt/cia_adapt/methods`. It names parts: a refinement, a pooling, a temporal part, a head,
objectives.
`cia-adapt methods` lists the methods. `cia-adapt methods cia` shows one with all its settings.

- `--method NAME` takes one. `--set part.option=value` changes a setting of a part.
- *Published* is the number of the paper's cell that the method stands for, or of another paper. It is never a result of this
  project.
- Methods named `-fl` are feature-level: the same objective over cached features, not the network that the published number is of.
- A later objective on top of CIA is `cia-` and its name (`cia-pseudo`, `cia-shot` for short). Other methods for images and
  video, and source-free ones, stand on CIA's modules with `--refinement mc --pooling sc`. `mec` and `rna` compare modalities
  and need a head for each, so they stand on CIA◇. Refinements and poolings (MMTM, TADA, `att`, `max`) take the place of MC or
  SC and cannot stand on both.
- *Reads maps* means that the method needs maps [1024, 7, 7]. The others read vectors [1024] and are much faster.
- Every method has a shared layer before its heads, as TA3N has. Every method with `adversarial` has discriminators. Both are
  [reconstructed](reconstruction.md).
"""

BESIDE = "Beside the shared layer and the discriminators, which are reconstructed in every method that has them.\n"
KINDS = {"refinements": "Refinements", "poolings": "Poolings", "temporal": "Temporal parts", "objectives": "Objectives"}
EVERYWHERE = ("the shared layer before the heads (TA3N's)", "the shared layer before the heads", "discriminators")
DEFAULTS = {("refinements", "none"), ("poolings", "avg"), ("temporal", "tsn")}


def page() -> str:
    """The whole page, as Markdown."""
    blocks = [HEAD]
    for title, members in config.grouped().items():
        rows = [row(config.load("uh", name, {}).method) for name in members]
        blocks += [f"## {title}\n", table(["method", "stands for", "published", "parts and own settings", "reads"], rows)]
    blocks += ["## Published by others on UCF-HMDB\n", published()]
    blocks.append("## Notes, and what is reconstructed\n\n" + BESIDE)
    blocks += filter(None, map(note, config.names("methods")))
    blocks += ["\n## Set-ups\n\n`--setup NAME` chooses one. Each setting has a flag of its name.\n", setups()]
    for kind, title in KINDS.items():
        blocks += [f"## {title}\n", *(part(kind, name) for name in parts.names(kind))]
    return "\n".join(blocks).rstrip() + "\n"


def published() -> str:
    """The table of what others publish, and its note."""
    rows, note = config.published()
    cells = [[row.work, row.features, f"{row.to_hmdb:.2f}", f"{row.to_ucf:.2f}", row.source] for row in rows]
    return table(["work", "features", "U→H", "H→U", "source"], cells) + f"\n{note}\n"


def row(method: Method) -> list[str]:
    published = ", ".join(f"{column} {value:.2f}" for column, value in method.published.items())
    composed = [name for kind, name in method.used_parts() if (kind, name) not in DEFAULTS] + [f"head {method.head}"]
    own = [f"{part}.{key}={shown(value)}" for part, values in method.options.items() for key, value in values.items()]
    read = "maps" if method.needs_maps else "vectors"
    return [f"`{method.name}`", method.paper.removeprefix("none; "), published, ", ".join([*composed, *own]), read]


def note(name: str) -> str:
    """One bullet: the comments at the head of the method's TOML after the first, its own set-up, and what is reconstructed."""
    text = Path(config.__file__).parents[1].joinpath("methods", f"{name}.toml").read_text(encoding="utf-8")
    head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    notes = [line.removeprefix("# ") for line in itertools.islice(head, 1, None)]
    chosen = config.load("uh", name, {})
    own = [f"{key} {shown(value)}" for key, value in vars(chosen.setup).items() if key != "name" and differs(name, key)]
    notes += [f"Its own set-up: {', '.join(own)}."] if own else []
    notes += [f"{pair}: {', '.join(f'{k}={v}' for k, v in values.items())}." for pair, values in chosen.pairs.items()]
    rest = [fact for fact in chosen.method.reconstructed.split("; ") if fact not in EVERYWHERE]
    notes += [f"Reconstructed: {'; '.join(rest)}."] if rest else []
    return f"- `{name}`: {' '.join(notes)}" if notes else ""


def differs(method: str, key: str) -> bool:
    """Whether the method sets this field of some set-up itself."""
    names = config.names("setups")
    return any(getattr(setup_of(name, method), key) != getattr(setup_of(name, "source-only"), key) for name in names)


@functools.cache
def setup_of(name: str, method: str) -> Setup:
    """A set-up as a method changes it."""
    return config.load(name, method, {}).setup


def setups() -> str:
    loaded = [setup_of(name, "source-only") for name in config.names("setups")]
    fields = [field.name for field in dataclasses.fields(Setup) if field.name != "name"]
    return table(
        ["setting", *(f"`{setup.name}`" for setup in loaded), "meaning"],
        [[f"`{name}`", *(shown(getattr(setup, name)) for setup in loaded), settings.docs(Setup)[name]] for name in fields],
    )


def part(kind: str, name: str) -> str:
    """A part's docstring as it stands in its file, and a table of its settings."""
    module = parts.find(kind, name)
    fields = dataclasses.fields(module.Options)
    rows = [[f"`{name}.{field.name}`", shown(field.default), settings.docs(module.Options)[field.name]] for field in fields]
    options = table(["setting", "default", "meaning"], rows) if rows else "No settings.\n"
    return f"### {name}\n\n```text\n{inspect.getdoc(module)}\n```\n\n{options}"


def shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join("| " + " | ".join(re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
        + "\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
