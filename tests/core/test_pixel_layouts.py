"""Each layout of pixels that a file may have, beside what a person would see, worked out without Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageChops

from milvus_fghash.core.images import open_rgb, upright_rgb
from milvus_fghash.errors import ImageRejected
from tests.helpers import png_bytes
from tests.helpers.image_bytes import encode, pixels_of, reason_of
from tests.helpers.png_bytes import png
from tests.helpers.tiff_bytes import tiff

Values = NDArray[Any]
GREY = np.linspace(0, 1, 24).reshape(4, 6, 1)
"""Black to white: a negative is another picture."""
COLOURS, ALPHA, INKS = (np.random.default_rng(count).random((4, 6, count)) for count in (3, 1, 4))
EACH_ORDER = pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
EACH_PACKING = pytest.mark.parametrize("packed", [False, True], ids=["plain", "deflate"])
Order = Literal["<", ">"]


def stored(seen: Values, bits: int) -> Values:
    return np.round(seen * ((1 << bits) - 1)).astype(np.uint32)


def on_white(seen: Values, alpha: Values) -> Values:
    return seen * alpha + 1 - alpha


def shows(data: bytes, seen: Values, apart: float = 1.0) -> None:
    """``seen`` is what a person sees, from 0 to 1; ``apart`` is in steps of 8 bits."""
    expected = np.broadcast_to(seen, (*seen.shape[:2], 3)) * 255
    assert np.abs(pixels_of(data) - expected).max() <= apart


@EACH_ORDER
@EACH_PACKING
@pytest.mark.parametrize("white_is_zero", [False, True], ids=["black-is-0", "white-is-0"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_grey_tiff(bits: int, white_is_zero: bool, packed: bool, order: Order) -> None:
    seen = np.round(stored(GREY, bits)) / ((1 << bits) - 1)
    held = stored(1 - seen if white_is_zero else seen, bits)
    data = tiff(held, bits=bits, photometric=0 if white_is_zero else 1, order=order, packed=packed)
    shows(data, seen, 0.51)
    assert (np.asarray(upright_rgb(Image.open(io.BytesIO(data)))) == pixels_of(data)).all()


@EACH_ORDER
@EACH_PACKING
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", [(), (0,), (1,), (2,)], ids=["none", "unspecified", "associated", "alpha"])
def test_colour_tiff(extra: tuple[int, ...], bits: int, packed: bool, order: Order) -> None:
    held = COLOURS * ALPHA if extra == (1,) else COLOURS
    samples = stored(np.concatenate([held, ALPHA], axis=2) if extra else held, bits)
    seen = on_white(COLOURS, ALPHA) if extra in {(1,), (2,)} else COLOURS
    shows(tiff(samples, bits=bits, photometric=2, order=order, packed=packed, extra=extra), seen, 3)


@EACH_ORDER
@EACH_PACKING
@pytest.mark.parametrize("extra", [0, 1, 2], ids=["unspecified", "associated", "alpha"])
def test_grey_tiff_with_alpha(extra: int, packed: bool, order: Order) -> None:
    samples = stored(np.concatenate([GREY * ALPHA if extra == 1 else GREY, ALPHA], axis=2), 8)
    data = tiff(samples, bits=8, photometric=1, order=order, packed=packed, extra=[extra])
    shows(data, on_white(GREY, ALPHA) if extra else GREY, 2)


@EACH_ORDER
@EACH_PACKING
@pytest.mark.parametrize("bits", [8, 16])
def test_cmyk_tiff(bits: int, packed: bool, order: Order) -> None:
    data = tiff(stored(INKS, bits), bits=bits, photometric=5, order=order, packed=packed)
    shows(data, (1 - INKS[..., :3]) * (1 - INKS[..., 3:]), 2)


@EACH_PACKING
def test_ycbcr_tiff(packed: bool) -> None:
    inside = 0.2 + 0.6 * COLOURS  # none of it outside of what RGB can show
    red, green, blue = np.moveaxis(inside, 2, 0)
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    coded = np.stack([light, (blue - light) / 1.772 + 128 / 255, (red - light) / 1.402 + 128 / 255], axis=2)
    data = tiff(stored(coded, 8), bits=8, photometric=6, packed=packed, more=[(530, [1, 1])])
    shows(data, inside, 3)


@EACH_ORDER
@EACH_PACKING
@pytest.mark.parametrize("step", [257, 1], ids=["palette-of-16-bits", "palette-of-8-bits"])
@pytest.mark.parametrize(("bits", "alpha"), [(1, False), (2, False), (4, False), (8, False), (8, True)])
def test_palette_tiff(bits: int, alpha: bool, step: int, packed: bool, order: Order) -> None:
    drawn = np.random.default_rng(bits)
    colours = drawn.integers(0, 256, (1 << bits, 3))
    places = drawn.integers(0, 1 << bits, (4, 6, 1))
    samples = np.concatenate([places, stored(ALPHA, 8)], axis=2) if alpha else places
    palette = [int(value) * step for value in colours.T.ravel()]
    extra = [2] if alpha else []
    data = tiff(samples, bits=bits, photometric=3, order=order, packed=packed, palette=palette, extra=extra)
    seen = colours[places[..., 0]] / 255
    shows(data, on_white(seen, ALPHA) if alpha else seen)


PLANES: list[tuple[Values, dict[str, Any], str]] = [
    (COLOURS, {"bits": 8, "photometric": 2}, "both"),
    (COLOURS, {"bits": 16, "photometric": 2}, "packed"),
    (INKS, {"bits": 8, "photometric": 5}, "both"),
    (INKS, {"bits": 16, "photometric": 5}, "packed"),
    (np.concatenate([COLOURS, ALPHA], axis=2), {"bits": 8, "photometric": 2, "extra": [2]}, "both"),
    (np.concatenate([COLOURS, ALPHA], axis=2), {"bits": 8, "photometric": 2, "extra": [1]}, "packed"),
    (np.concatenate([COLOURS, ALPHA], axis=2), {"bits": 16, "photometric": 2, "extra": [2]}, "packed"),
    (np.concatenate([GREY, ALPHA], axis=2), {"bits": 8, "photometric": 1, "extra": [2]}, "none"),
    *((GREY, {"bits": bits, "photometric": 1}, "both") for bits in (1, 8)),
    *((GREY, {"bits": bits, "photometric": 1}, "packed") for bits in (2, 4, 12, 16)),
    *((GREY, {"bits": bits, "photometric": 0}, "packed") for bits in (1, 2, 4, 8, 12, 16)),
]
"""What has its samples in planes, and whether it can be read when it is plain and when it is compressed."""


@pytest.mark.parametrize(("samples", "layout", "read"), PLANES)
@EACH_PACKING
@EACH_ORDER
def test_samples_in_planes_are_read_rightly_or_not_at_all(
    samples: Values, layout: dict[str, Any], read: str, packed: bool, order: Order
) -> None:
    held = stored(samples, layout["bits"])
    planes = tiff(held, **layout, packed=packed, planes=True, order=order)
    if read == "both" or (read == "packed" and packed):
        assert (pixels_of(planes) == pixels_of(tiff(held, **layout, packed=packed, order=order))).all()
    else:
        with pytest.raises(ImageRejected, match="planar samples") as caught:
            open_rgb(planes)
        assert caught.value.reason == "format"


LOST = {
    "no-photometric": (tiff(stored(GREY, 8), bits=8, photometric=None), "black or white"),
    "no-photometric-16": (tiff(stored(GREY, 16), bits=16, photometric=None), "black or white"),
    "signed-8": (tiff(np.full((2, 2, 1), -1), bits=8, photometric=1, sample_format=2), "below 0"),
    "signed-16": (tiff(np.full((2, 2, 1), -1), bits=16, photometric=1, sample_format=2), "below 0"),
    "32-bit": (tiff(stored(GREY, 32), bits=32, photometric=1), "beyond 16 bits"),
    "32-bit-big": (tiff(stored(GREY, 32), bits=32, photometric=1, order=">"), "black is zero of 32 bits"),
    "float": (tiff(GREY.astype(np.float32), bits=32, photometric=1, sample_format=3), "floating-point"),
    "float-colour": (tiff(COLOURS, bits=32, photometric=2, sample_format=3), "RGB of 32, 32, 32 floating-point"),
    "grey-alpha-16": (tiff(stored(INKS[..., :2], 16), bits=16, photometric=1, extra=[2]), "16, 16 bits"),
    "ycbcr-16": (tiff(stored(COLOURS, 16), bits=16, photometric=6), "YCbCr of 16, 16, 16 bits"),
    "ycbcr-subsampled": (tiff(stored(COLOURS, 8), bits=8, photometric=6, more=[(530, [2, 2])]), "subsampled"),
    "lab": (tiff(stored(COLOURS, 8), bits=8, photometric=8), "CIELab"),
    "lab-16": (tiff(stored(COLOURS, 16), bits=16, photometric=8), "CIELab of 16, 16, 16 bits"),
}


@pytest.mark.parametrize("name", LOST)
def test_layouts_that_are_rejected_say_what_they_are(name: str) -> None:
    data, words = LOST[name]
    with pytest.raises(ImageRejected, match=words) as caught:
        open_rgb(data)
    assert caught.value.reason == "format"


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_png_and_each_transparent_value(bits: int) -> None:
    top = (1 << bits) - 1
    held = stored(GREY, bits)
    shows(png(held, bits, png_bytes.GREY), held / top, 0.51)
    for value in {0, 1, int(held[2, 3, 0]), top}:
        seen = np.where(held == value, 1, held / top)
        shows(png(held, bits, png_bytes.GREY, value.to_bytes(2)), seen, 0.51)


@pytest.mark.parametrize("bits", [8, 16])
def test_colour_png_with_a_transparent_colour_or_alpha(bits: int) -> None:
    held = stored(COLOURS, bits)
    seen = COLOURS.copy()
    seen[1, 2] = 1
    shows(png(held, bits, png_bytes.RGB, held[1, 2].astype(">u2").tobytes()), seen)
    with_alpha = np.concatenate([held, stored(ALPHA, bits)], axis=2)
    shows(png(with_alpha, bits, png_bytes.RGB_ALPHA), on_white(COLOURS, ALPHA), 2)
    shows(png(with_alpha[..., [0, 3]], bits, png_bytes.GREY_ALPHA), on_white(COLOURS[..., :1], ALPHA), 2)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_png_with_alpha_of_some_colours(bits: int) -> None:
    drawn = np.random.default_rng(bits)
    colours = drawn.integers(0, 256, (1 << bits, 3), dtype=np.uint8)
    alpha = np.append(drawn.integers(0, 256, (1 << bits) - 1, dtype=np.uint8), np.uint8(255))
    places = drawn.integers(0, 1 << bits, (4, 6, 1))
    data = png(places, bits, png_bytes.PALETTE, alpha[:-1].tobytes(), colours.tobytes())
    shows(data, on_white(colours[places[..., 0]] / 255, alpha[places] / 255))


def test_a_transparent_value_of_an_open_image_stays_as_it_was() -> None:
    image = Image.open(io.BytesIO(png(stored(GREY, 4), 4, png_bytes.GREY, (5).to_bytes(2))))
    upright_rgb(image)
    assert image.info["transparency"] == 5


def _ycck(inks: Image.Image) -> bytes:
    """Photoshop's form: the inks but black as YCbCr. Pillow inverts what it writes, and these must not be."""
    *colours, black = inks.split()
    coded = ImageChops.invert(Image.merge("RGB", colours).convert("YCbCr"))
    data = encode(Image.merge("CMYK", [*coded.split(), black]), "JPEG", quality=100, subsampling=0)
    adobe = data.index(b"Adobe") + 11
    assert data[adobe] == 0
    return data[:adobe] + b"\2" + data[adobe + 1 :]


@pytest.mark.parametrize(
    "write",
    [lambda inks: encode(inks, "JPEG", quality=100, subsampling=0), _ycck],
    ids=["cmyk", "ycck"],
)
def test_jpeg_of_four_inks(write: Callable[[Image.Image], bytes]) -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[...] = (200, 40, 90, 30)
    light = (1 - inks[..., :3] / 255) * (1 - inks[..., 3:] / 255)
    shows(write(Image.fromarray(inks, "CMYK")), light, 4)


MODES = {
    "1": (0.0, 1.0),
    "L": (0.4,),
    "LA": (0.4, 0.5),
    "La": (0.2, 0.5),
    "P": None,
    "PA": None,
    "RGB": (0.2, 0.4, 0.8),
    "RGBA": (0.2, 0.4, 0.8, 0.5),
    "RGBa": (0.1, 0.2, 0.4, 0.5),
    "RGBX": (0.2, 0.4, 0.8, 0.5),
    "CMYK": (0.8, 0.6, 0.2, 0.0),
    "YCbCr": None,
    "HSV": (220 / 360, 0.75, 0.8),
    "I;16": None,
    "I;16L": None,
    "I;16B": None,
    "I;16N": None,
    "I": None,
}


@pytest.mark.parametrize("mode", MODES)
def test_an_open_image_of_any_mode(mode: str) -> None:
    """What a program may hand over in place of a file."""
    blue, half, grey = (51, 102, 204), (153, 178, 230), (102, 102, 102)
    if mode.startswith("I"):
        image, seen = Image.new(mode, (2, 2), 102 * 257), grey
    elif mode in {"P", "PA"}:
        image, seen = Image.new("RGB", (2, 2), blue).convert("P", palette=Image.Palette.ADAPTIVE).convert(mode), blue
    elif mode == "YCbCr":
        image, seen = Image.new("RGB", (2, 2), blue).convert(mode), blue
    else:
        values = MODES[mode] or ()
        raw = bytes(round(value * 255) for value in values)
        image = Image.new("1", (2, 2), 1) if mode == "1" else Image.frombytes(mode, (1, 1), raw)
        seen = {"1": (255,) * 3, "L": grey, "LA": (178,) * 3, "La": (178,) * 3, "RGBA": half, "RGBa": half}.get(
            mode, blue
        )
    assert np.asarray(upright_rgb(image))[0, 0].astype(int).tolist() == pytest.approx(seen, abs=2)


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_an_open_image_of_a_mode_that_has_no_one_meaning(mode: str) -> None:
    with pytest.raises(ImageRejected) as caught:
        upright_rgb(Image.new(mode, (2, 2)))
    assert caught.value.reason == "format"


def test_bmp_gif_and_webp() -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 51, 102, 204])
    blue = np.broadcast_to(np.array([0.2, 0.4, 0.8]), (8, 8, 3))
    for data in (
        encode(palette, "BMP"),
        encode(palette.convert("RGB"), "BMP"),
        encode(palette.convert("RGBA"), "BMP"),
        encode(palette, "GIF"),
        encode(palette.convert("RGB"), "WEBP", lossless=True),
    ):
        shows(data, blue)
    shows(encode(Image.new("1", (8, 8), 1), "BMP"), np.ones((8, 8, 1)))
    shows(encode(Image.new("L", (8, 8), 51), "BMP"), np.full((8, 8, 1), 0.2))
    shows(encode(palette, "GIF", transparency=1), np.ones((8, 8, 1)))
    shows(encode(Image.new("RGBA", (8, 8), (51, 102, 204, 0)), "WEBP", lossless=True), np.ones((8, 8, 1)))


def test_a_damaged_tiff_header_is_no_layout() -> None:
    whole = tiff(stored(GREY, 16), bits=16, photometric=2)
    with pytest.raises(ImageRejected, match="layout"):
        open_rgb(whole)
    for cut in (4, 8, 12, 40):
        assert reason_of(whole[:cut]) == "format"
