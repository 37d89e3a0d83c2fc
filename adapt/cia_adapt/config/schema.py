"""What a run is made of: a set-up (benchmark, optimiser, schedule) and a method (a row of the paper's tables)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from cia_adapt import parts


@dataclass(frozen=True)
class Setup:
    """Benchmark protocol and optimisation, shared by all methods that are compared."""

    name: str
    segments: Annotated[int, Meta(ge=1, le=1000)] = 5
    """Frames used of each clip; training shifts them at random within their segments, evaluation takes the centres."""
    epochs: Annotated[int, Meta(ge=1, le=100_000)] = 30
    """Passes over the source's training clips."""
    source_epochs: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Number of epochs in which a source-free method trains on the source, before it trains on the target's clips alone; 0: half
    of the epochs. Other methods train on the source throughout.
    """
    batch: Annotated[int, Meta(ge=2, le=1_000_000)] = 128
    """Source clips a step; the target's batch is proportional, so that both are passed once an epoch."""
    optimiser: Literal["adam", "sgd"] = "adam"
    """adam, or sgd with Nesterov momentum 0.9."""
    lr: Annotated[float, Meta(ge=1e-12, le=1e3)] = 3e-3
    """Learning rate at the start."""
    lr_decay: bool = True
    """Multiply the rate by (1 + 10p)^-0.75, p the share of steps done."""
    warm_up: Annotated[float, Meta(ge=0, le=0.9)] = 0.0
    """Share of the steps over which the rate grows to its value evenly; 0: it starts there."""
    weight_decay: Annotated[float, Meta(ge=0, le=1e3)] = 1e-4
    """Weight of the L2 penalty."""
    dropout: Annotated[float, Meta(ge=0, le=0.99)] = 0.5
    """Share of features that dropout sets to 0, of frames and of clips."""
    clip_norm: Annotated[float, Meta(ge=0, le=1e9)] = 20.0
    """Largest norm of the gradient; 0 for no limit."""
    balanced: bool = False
    """Draw source clips so that every class is as likely."""
    labels: str = "label"
    """Columns to predict, with commas between: label, or label,noun for EPIC-KITCHENS-100's verbs and nouns."""
    train_split: str = "train"
    """Split of the clips that train; all: every clip; source=NAME,target=NAME: by domain. Of the target no label is read."""
    val_split: str = "val"
    """Split of the clips that are evaluated, in both domains; written as --train-split. target=all tests on every target clip."""
    test_classes: Literal["all", "shared"] = "all"
    """Test clips of the target that count: all, where a class that training lacks is wrong; or shared: those whose every label
    training has.
    """
    shared_features: Annotated[int, Meta(ge=0, le=65536)] = 512
    """Width of the trainable layer between pooling and temporal part, in all methods alike; 0 for none."""
    normalise: bool = False
    """Centre and scale the features of each frame and modality before the shared layer, and its own before their ReLU."""
    initialise: Literal["random", "data"] = "random"
    """How the shared layer starts: random, or data, which scales and shifts each unit to mean 0 and standard deviation 1 over the
    source's training clips.
    """
    reversal: Annotated[float, Meta(ge=1e-6, le=1e3)] = 1.0
    """Factor of λ and β of every reversed gradient in all methods alike, but for those that --set gives."""
    smoothing: Annotated[float, Meta(ge=0, le=0.99)] = 0.0
    """Label smoothing ε of the classification loss."""
    average: Annotated[float, Meta(ge=0, le=0.99999)] = 0.0
    """Decay a step of an exponential moving average of the weights, which is evaluated instead of them; 0: no average."""
    select: Literal["source_val", "entropy", "im", "snd", "bnm", "ami", "dev", "last"] = "source_val"
    """Rule that picks the epoch `selected`, without target labels: accuracy on the source's val clips, a validator, or last."""
    input: Literal["features", "clips"] = "features"
    """What training reads: features of a feature file, or clips (--clips), with whose frames the backbone is trained too."""
    backbone: Literal["i3d", "tbn"] = "i3d"
    """With clips, the network. i3d: one map of all --segments frames of a clip; tbn: one map of each frame."""
    backbone_lr: Annotated[float, Meta(ge=0, le=1e3)] = 0.0
    """With clips, the backbone's learning rate at the start; 0: that of everything else."""
    batch_norm: Literal["train", "frozen", "synchronised"] = "train"
    """Batch normalisation of the backbone. train: statistics of the batch, both domains together; frozen: those of the weights,
    scale and offset are trained; synchronised: of the batches of all processes (GPUs).
    """
    freeze_until: str = ""
    """The backbone's last layer that is not trained, for example Mixed_4f; those before it are not either. Empty: all are."""
    short_side: Annotated[int, Meta(ge=32, le=2160)] = 256
    """With clips, the shorter side of the scaled frames, px."""
    width: Annotated[int, Meta(ge=32, le=4096)] = 256
    """With clips, the width of the cached frames, px: wider ones are cut at both sides, narrower ones repeat their edge."""
    crop: Annotated[int, Meta(ge=32, le=2160)] = 224
    """With clips, the side of the square that the backbone sees, px; the centre in evaluation."""
    jitter: bool = True
    """With clips, train on crops of random size and place; else on the centre."""
    flip: bool = False
    """With clips, mirror half of the training clips. Leave it off where left and right mean something."""
    test_clips: Annotated[int, Meta(ge=1, le=100)] = 1
    """With clips, equidistant samplings of --segments frames that evaluation averages over; training draws its frames from all.
    """
    accumulate: Annotated[int, Meta(ge=1, le=10_000)] = 1
    """Batches whose mean gradient makes one step. Losses that compare clips, and batch normalisation, see one batch."""

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of `labels`, one by one."""
        return tuple(column.strip() for column in self.labels.split(","))


@dataclass(frozen=True)
class Method:
    """The parts of a method, which is one row of the paper's tables.

    `searched` is what `cia-adapt search` writes into its winner: {"trial": "7 of 30", "by": validators, "settings": which were
    searched}, with commas between; empty for all other methods.
    """

    name: str
    paper: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    reconstructed: str = ""
    searched: Mapping[str, str] = field(default_factory=dict)
    refinement: str = "none"
    """Exchange between modalities before pooling: REFINEMENTS."""
    pooling: str = "avg"
    """Over the 7×7 cells: POOLINGS."""
    temporal: str = "tsn"
    """From frames to clips: TEMPORAL."""
    head: Literal["concat", "average", "sum", "blend"] = "concat"
    """concat: one classifier on concatenated modalities (★); average: one each, softmaxes averaged (◇); sum: logits summed;
    blend: both.
    """
    objectives: tuple[str, ...] = ()
    """Losses beside the source's cross-entropy, with commas between, or none: OBJECTIVES."""
    supervision: Literal["source", "target"] = "source"
    """Domain whose labels train: source, or target, which is no adaptation but its bound, as in target-only."""
    lambda_class: Annotated[float, Meta(ge=0, le=1e6)] = 1.0
    """λ_y, weight of the classification loss."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def needs_maps(self) -> bool:
        """Gates of channels commute with averaging, so that under `avg` the stored vectors say all."""
        needs: bool = parts.find("poolings", self.pooling).NEEDS_MAPS
        return needs

    @property
    def needs_target(self) -> bool:
        """Whether training looks at the target's clips at all."""
        return any(parts.needs_target(name, self.option(name)) for name in self.objectives)

    def option(self, part: str) -> Mapping[str, Any]:
        """What the method says of a part's settings; the others have the part's defaults."""
        return self.options.get(part, {})

    def used_parts(self) -> list[tuple[str, str]]:
        """(kind, name) of every part."""
        chosen = [("refinements", self.refinement), ("poolings", self.pooling), ("temporal", self.temporal)]
        return chosen + [("objectives", name) for name in self.objectives]
