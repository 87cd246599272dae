"""A parametric drawing of a bird: its kind determines its looks, chance its pose.

The bird faces right in its own coordinates: x right, y down, the body about 1 long, (0, 0) in its middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]
Colour = tuple[int, int, int]

CAPS: dict[str, Colour] = {"red": (205, 30, 35), "black": (22, 20, 24), "yellow": (245, 205, 40)}
_COATS: tuple[Colour, ...] = ((150, 112, 78), (128, 134, 142), (128, 138, 92), (104, 128, 158), (172, 150, 118))
_DARK: Colour = (28, 24, 24)
_BILL: Colour = (70, 58, 48)
_PALE: Colour = (244, 240, 226)
_OVERSAMPLING = 3
_SPOTS = np.array([(0.29, -0.09), (0.2, -0.04), (0.32, 0), (0.24, 0.05), (0.14, 0.07), (0.19, 0.14), (0.08, 0.15)])
_WING_UPPER = [(0.13, -0.05), (0.02, -0.13), (-0.14, -0.10), (-0.34, 0.02)]
_WING = np.array([*_WING_UPPER, (-0.58, 0.17), (-0.34, 0.17), (-0.10, 0.15), (0.06, 0.09)])


@dataclass(frozen=True)
class Kind:
    """The five small parts that distinguish the classes. Everything else varies within each class."""

    cap: str
    """A key of `CAPS`."""
    barred_wing: bool
    spotted_breast: bool
    long_tail: bool
    thick_bill: bool

    @property
    def name(self) -> str:
        """
        >>> Kind("red", True, False, True, False).name
        'red-cap_barred-wing_plain-breast_long-tail_thin-bill'
        """
        return "_".join(
            [
                f"{self.cap}-cap",
                "barred-wing" if self.barred_wing else "plain-wing",
                "spotted-breast" if self.spotted_breast else "plain-breast",
                "long-tail" if self.long_tail else "short-tail",
                "thick-bill" if self.thick_bill else "thin-bill",
            ]
        )


def draw_bird(kind: Kind, size: int, rng: np.random.Generator) -> Image.Image:
    """A bird on its perch, sometimes behind a twig or leaf: (size, size) RGBA, transparent around it, antialiased."""
    side = size * _OVERSAMPLING
    layer = Image.new("RGBA", (side, side))
    pen = _Pen(ImageDraw.Draw(layer), *_random_pose(side, rng))
    coat = _vary(_COATS[rng.integers(len(_COATS))], 16, rng)
    _perch(pen, rng)
    _body(pen, kind, coat, rng)
    _head(pen.turned(rng.uniform(-0.35, 0.25), pivot=(0.26, -0.14)), kind, coat)
    _foreground(pen, rng)
    return layer.resize((size, size), Image.Resampling.BOX)


@dataclass(frozen=True)
class _Pen:
    """Draws points of the bird's coordinates: pixels = points @ turn + shift."""

    draw: ImageDraw.ImageDraw
    turn: Points
    """(2, 2): rotation, scale and flip."""
    shift: Points
    """(2,): where (0, 0) lies in the picture."""

    def polygon(self, points: Points, colour: Colour) -> None:
        pixels = points @ self.turn + self.shift
        self.draw.polygon([(x, y) for x, y in pixels.tolist()], fill=colour)

    def line(self, points: Points, width: float, colour: Colour) -> None:
        pixels = points @ self.turn + self.shift
        unit = float(np.hypot(*self.turn[0]))
        self.draw.line([(x, y) for x, y in pixels.tolist()], fill=colour, width=max(round(width * unit), 1))

    def turned(self, angle: float, pivot: tuple[float, float]) -> _Pen:
        """A pen whose points are first rotated about ``pivot``."""
        about = np.array(pivot)
        rotation = _rotation(angle)
        return _Pen(self.draw, rotation @ self.turn, self.shift + (about - about @ rotation) @ self.turn)


def _random_pose(side: int, rng: np.random.Generator) -> tuple[Points, Points]:
    unit = side * rng.uniform(0.44, 0.58)
    flip = np.diag([rng.choice([-1.0, 1.0]), 1.0])
    turn = _rotation(rng.uniform(-0.35, 0.35)) * unit @ flip
    centre = side * (0.5 + rng.uniform(-0.07, 0.07, 2))
    return turn, centre - np.array([0.02, -0.02]) @ turn


def _body(pen: _Pen, kind: Kind, coat: Colour, rng: np.random.Generator) -> None:
    wing_colour = _darker(coat, 0.66)
    tail_end = -0.92 if kind.long_tail else -0.62
    spread = rng.uniform(0.05, 0.08)
    pen.polygon(
        np.array([(-0.28, 0.0), (tail_end, 0.20 - spread), (tail_end, 0.20 + spread), (-0.26, 0.17)]), wing_colour
    )
    for foot in (0.0, 0.12):
        pen.line(np.array([(foot, 0.2), (foot - 0.02, 0.42)]), 0.025, _BILL)
    pen.polygon(_ellipse(0.0, 0.05, 0.43, 0.25, 0.25), coat)
    pen.polygon(_ellipse(0.24, -0.10, 0.22, 0.17, -0.9), coat)
    breast = _vary(_PALE, 8, rng)
    pen.polygon(_ellipse(0.20, 0.05, 0.25, 0.14, -0.75), breast)
    spots = _SPOTS + rng.uniform(-0.012, 0.012, _SPOTS.shape)  # drawn from rng for every kind: the rest must not differ
    if kind.spotted_breast:
        for x, y in spots:
            pen.polygon(_ellipse(x, y, 0.034, 0.026, -0.8, corners=10), _DARK)
    pen.polygon(_WING, wing_colour)
    for start in (0.25, 0.5, 0.75):  # feathers
        pen.line(
            np.array([(0.06 - 0.2 * start, 0.0 + 0.1 * start), (-0.46, 0.12 + 0.05 * start)]), 0.012, _darker(coat, 0.5)
        )
    if kind.barred_wing:
        pen.polygon(np.array([(0.00, -0.115), (0.055, -0.10), (-0.02, 0.135), (-0.08, 0.135)]), _PALE)
        pen.polygon(np.array([(-0.14, -0.075), (-0.09, -0.09), (-0.16, 0.14), (-0.215, 0.14)]), _PALE)


def _head(pen: _Pen, kind: Kind, coat: Colour) -> None:
    x, y, radius = 0.40, -0.27, 0.17
    depth = 0.075 if kind.thick_bill else 0.026
    length = 0.20 if kind.thick_bill else 0.25
    base = x + radius * 0.88
    pen.polygon(np.array([(base, y - depth), (base + length, y + 0.045), (base, y + depth + 0.03)]), _BILL)
    pen.polygon(_ellipse(x, y, radius, radius), coat)
    arc = np.linspace(1.02 * pi, 1.93 * pi, 16)
    crown = np.stack([x + 1.06 * radius * np.cos(arc), y + 1.06 * radius * np.sin(arc)], axis=1)
    pen.polygon(crown, CAPS[kind.cap])
    pen.polygon(_ellipse(x + 0.06, y + 0.005, 0.035, 0.035, corners=12), _DARK)
    pen.polygon(_ellipse(x + 0.07, y - 0.008, 0.011, 0.011, corners=8), (255, 255, 255))


def _perch(pen: _Pen, rng: np.random.Generator) -> None:
    bark = _vary((88, 70, 54), 22, rng)
    left, right = rng.uniform(0.36, 0.52, 2)
    pen.line(np.array([(-2.0, left), (0.05, 0.43), (2.0, right)]), rng.uniform(0.05, 0.12), bark)


def _foreground(pen: _Pen, rng: np.random.Generator) -> None:
    """Up to two leaves or thin twigs that may cover a part of the bird."""
    for _ in range(rng.integers(0, 3)):
        x, y = rng.uniform(-0.6, 0.6, 2)
        colour = _vary((84, 112, 58) if rng.random() < 0.6 else (96, 78, 60), 30, rng)
        angle = rng.uniform(0, pi)
        if rng.random() < 0.5:
            pen.polygon(_ellipse(x, y, rng.uniform(0.07, 0.13), 0.035, angle), colour)
        else:
            reach = np.array([cos(angle), sin(angle)]) * 1.5
            pen.line(np.array([(x, y), (x, y)]) + np.stack([-reach, reach]), 0.022, colour)


def _ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0, corners: int = 32) -> Points:
    around = np.linspace(0, 2 * pi, corners, endpoint=False)
    return np.stack([rx * np.cos(around), ry * np.sin(around)], axis=1) @ _rotation(tilt).T + (x, y)


def _rotation(angle: float) -> Points:
    return np.array([(cos(angle), -sin(angle)), (sin(angle), cos(angle))])


def _vary(colour: Colour, by: int, rng: np.random.Generator) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.integers(-by, by + 1, 3), 0, 255).tolist()
    return red, green, blue


def _darker(colour: Colour, factor: float) -> Colour:
    red, green, blue = (round(channel * factor) for channel in colour)
    return red, green, blue
