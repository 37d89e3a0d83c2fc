"""The two domains: the ranges from which every clip draws how it looks, moves and sounds."""

from dataclasses import dataclass

from cia_extract.datasets.demo.figure import Colour

Range = tuple[float, float]

Paints = tuple[Colour, Colour]
"""Colours of a prop and of its straps or cords, as differences from grey whose luma (0.299 R + 0.587 G + 0.114 B,
BT.601) is zero: any two props in such colours are the same picture in grey, so flow cannot tell them apart."""

PLAIN: Paints = ((10.0, 0.0, -26.0), (10.0, 0.0, -26.0))
"""Colours of ball and ladder in both domains."""


@dataclass(frozen=True)
class Domain:
    """A domain's parameters. Ranges are (low, high), drawn uniformly once per clip; pixels are those of the 320x240 frame."""

    stature_px: Range
    """Height of a person who stands upright."""
    floor_px: Range
    """Row on which the feet stand."""
    offset_px: float
    """Largest horizontal distance of the action from the middle of the frame."""
    speed: Range
    """Pace of the actions; 1 = the usual pace."""
    wardrobe: tuple[Colour, ...]
    paints: dict[str, Paints]
    """Class -> colours of its prop; PLAIN for the others."""
    clutter: bool
    """Textured background with objects, instead of a plain one."""
    passers: tuple[int, int]
    """Number of people and things that move through the background (inclusive)."""
    pan_px: float
    """Largest drift of the camera over the clip, each way."""
    shake_px: Range
    """Standard deviation of the hand-held camera's motion."""
    gain: Range
    """Exposure: 1 = colours as they are."""
    cast: tuple[Colour, ...]
    """Colours of the light, as factors of R, G and B; one is drawn."""
    vignette: Range
    """Share of the light lost in the corners."""
    blur_px: Range
    """Standard deviation of the lens blur; 0 = none."""
    noise: Range
    """Standard deviation of the sensor noise in 8-bit levels."""
    crf: tuple[int, int]
    """x264's constant rate factor (inclusive): higher = stronger compression."""
    sound_kbit: int
    """AAC bit rate in kbit/s."""
    snr_db: Range
    """Loudness of the action's sounds over the background noise."""


STUDIO = Domain(
    stature_px=(138.0, 154.0),
    floor_px=(212.0, 222.0),
    offset_px=14.0,
    speed=(0.8, 1.0),
    wardrobe=((200, 60, 60), (60, 110, 200), (70, 170, 100), (230, 190, 70), (225, 225, 225), (60, 60, 80)),
    paints={
        "lift_crate": ((46.0, -10.0, -69.0), (46.0, -10.0, -69.0)),  # brown
        "lift_suitcase": ((-62.0, 35.0, -18.0), (30.0, 4.0, -99.0)),  # green, ochre straps
        "chop_wood": ((52.0, -17.0, -49.0), (30.0, -4.0, -58.0)),  # red-brown
        "beat_drum": ((-20.0, -16.0, 135.0), (70.0, -40.0, 22.0)),  # blue, red cords
    },
    clutter=False,
    passers=(0, 0),
    pan_px=0.0,
    shake_px=(0.0, 0.0),
    gain=(0.95, 1.08),
    cast=((1.0, 1.0, 1.0),),
    vignette=(0.0, 0.1),
    blur_px=(0.0, 0.0),
    noise=(0.5, 1.5),
    crf=(20, 23),
    sound_kbit=64,
    snr_db=(30.0, 40.0),
)

STREET = Domain(
    stature_px=(116.0, 132.0),
    floor_px=(198.0, 216.0),
    offset_px=18.0,
    speed=(1.2, 1.5),
    wardrobe=((70, 74, 84), (96, 84, 72), (52, 64, 96), (120, 116, 108), (92, 44, 48), (64, 84, 64)),
    paints={
        "lift_crate": ((60.0, -20.0, -54.0), (60.0, -20.0, -54.0)),  # orange
        "lift_suitcase": ((-55.0, 12.0, 83.0), (0.0, 0.0, 0.0)),  # teal, grey straps
        "chop_wood": ((35.0, -2.0, -81.0), (30.0, -4.0, -58.0)),  # yellow-brown
        "beat_drum": ((45.0, -45.0, 113.0), (-40.0, 20.0, 2.0)),  # violet, green cords
    },
    clutter=True,
    passers=(0, 2),
    pan_px=4.0,
    shake_px=(0.15, 0.45),
    gain=(0.65, 0.85),
    cast=((1.12, 0.99, 0.80), (1.08, 1.0, 0.88)),
    vignette=(0.2, 0.4),
    blur_px=(0.3, 0.7),
    noise=(2.0, 3.5),
    crf=(27, 31),
    sound_kbit=32,
    snr_db=(0.0, 8.0),
)

PARAMETERS: dict[str, Domain] = {"studio": STUDIO, "street": STREET}
