"""Bytes of files that no decoder likes: cut off, damaged, lying, huge when unpacked, or something else altogether.

Made from small drawn pictures and a seed; nothing is read.
"""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from integration_tests.raw_formats import (
    grey_tags,
    interlaced_png,
    png,
    rle_bmp,
    tar,
    tiff,
    tiled_tiff,
    webp_on_canvas,
)
from tests.helpers.image_bytes import encode
from tests.helpers.png_bytes import chunk

HUGE = 65_000
"""Pixels a side: 4 billion in all."""
CUT_AT = (0.02, 0.1, 0.3, 0.5, 0.8, 0.97)
"""Where files are cut off, as parts of them."""
FLIPS = (1, 5, 50)
"""Bits of a file that are turned round."""


def drawn(seed: int, side: int = 40) -> Image.Image:
    """Coloured noise, which no codec makes small."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def whole(image: Image.Image) -> dict[str, bytes]:
    """File name -> a good file, of every kind that is taken and can be told apart."""
    grey16 = Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16)) * 257)
    more = {"save_all": True, "append_images": [image.rotate(90), image.rotate(180)]}
    return {
        "baseline.jpg": encoded(image, "JPEG", quality=95),
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "grey.jpeg": encoded(image.convert("L"), "JPEG"),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "mpo.jpg": encoded(image, "MPO", **more),
        "plain.png": encoded(image, "PNG"),
        "alpha.png": encoded(image.convert("RGBA"), "PNG"),
        "palette.png": encoded(image.quantize(16), "PNG"),
        "grey16.png": encoded(grey16, "PNG"),
        "interlaced.png": interlaced_png(image),
        "animated.gif": encoded(image, "GIF", **more),
        "lossy.webp": encoded(image, "WEBP"),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "animated.webp": encoded(image, "WEBP", lossless=True, **more),
        "raw.tif": encoded(image, "TIFF"),
        "lzw.tiff": encoded(image, "TIFF", compression="tiff_lzw"),
        "jpeg.tiff": encoded(image, "TIFF", compression="jpeg"),
        "big.tiff": encoded(image, "TIFF", big_tiff=True),
        "tiled.tiff": tiled_tiff(image),
        "plain.bmp": encoded(image, "BMP"),
        "rle.bmp": rle_bmp(image),
        "photo.avif": encoded(image, "AVIF"),
        "photo.heic": encode(image, "HEIF"),
    }


def damaged(files: dict[str, bytes], seed: int) -> Iterator[tuple[str, bytes]]:
    """Each file cut off at several places, and with some bits turned round; names tell which."""
    draw = random.Random(seed)
    for name, raw in files.items():
        stem, _, suffix = name.partition(".")
        for part in CUT_AT:
            yield f"{stem}-cut-{round(100 * part):02}.{suffix}", raw[: int(len(raw) * part)]
        for count in FLIPS:
            flipped = bytearray(raw)
            for _ in range(count):
                flipped[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
            yield f"{stem}-flip-{count:02}.{suffix}", bytes(flipped)


def bombs() -> dict[str, bytes]:
    """Small files that ask for much memory, in every format."""
    gif = bytearray(encoded(Image.new("L", (8, 8)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    jpeg = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    bmp = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    bmp[18:26] = struct.pack("<ii", HUGE, HUGE)
    minus = bytearray(bmp)
    minus[18:26] = struct.pack("<ii", HUGE, -(2**31))
    strips = {**grey_tags(100, 100), 278: [1]}
    packed = zlib.compress(bytes(81_000_000), 9)
    return {
        "canvas.gif": bytes(gif),
        "header.jpg": bytes(jpeg),
        "header.bmp": bytes(bmp),
        "minus.bmp": bytes(minus),
        "header.png": png(HUGE, HUGE, b""),
        "real.png": png(30_000, 30_000, zlib.compress(bytes(30_000 * 3751), 9), depth=1),
        "text.png": png(8, 8, zlib.compress(bytes(72)), more=text_bomb(b"zTXt") * 9),
        "international.png": png(8, 8, zlib.compress(bytes(72)), more=text_bomb(b"iTXt") * 9),
        "profile.png": png(8, 8, zlib.compress(bytes(72)), more=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(10**8)))),
        "rows.png": png(8, 8, zlib.compress(bytes(10**8))),
        "canvas.webp": webp_on_canvas(16_383, 16_383),
        "within.webp": encoded(Image.new("RGBA", (5000, 5000)), "WEBP", lossless=True, method=0, quality=0),
        "within.png": encoded(Image.new("RGBA", (7000, 7000)), "PNG"),
        "header.tif": tiff({**grey_tags(HUGE, HUGE), 273: [8], 278: [1], 279: [8]}),
        "strips.tif": tiff({**strips, 273: [0xFFFFFFF0] * 100, 279: [0xFFFFFFF0] * 100}),
        "counts.tif": tiff({**strips, 273: [8] * 100, 279: [0] * 100}),
        "deflate.tif": tiff({**grey_tags(9000, 9000), 259: [8], 273: [8], 278: [9000], 279: [len(packed)]}, packed),
        "hidden.avif": with_hidden_giant(encoded(Image.new("RGB", (64, 64)), "AVIF")),
        "hidden.heic": with_hidden_giant(encode(Image.new("RGB", (64, 64)), "HEIF")),
        "gzipped.tif": gzip.compress(bytes(10**8)),
    }


def with_hidden_giant(raw: bytes) -> bytes:
    """An AVIF or HEIC that says of the image inside that it is larger than the picture."""
    place = raw.index(b"ispe") + 8
    return raw[:place] + struct.pack(">II", 30_000, 30_000) + raw[place + 8 :]


def slow() -> dict[str, bytes]:
    """Files within all limits that keep a decoder busy for minutes."""
    picture = encoded(Image.new("L", (9000, 9000)), "JPEG", progressive=True)
    last = picture.rindex(b"\xff\xda")
    return {"scans.jpg": picture[:-2] + picture[last:-2] * 4000 + picture[-2:]}


def with_odd_exif(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Good pixels, beside EXIF and profiles that are nonsense."""
    ifd = b"Exif\0\0MM\0*\0\0\0\x08"
    blocks = {
        "loop": ifd + struct.pack(">HHHIII", 1, 0x8769, 4, 1, 8, 8),
        "offset": ifd + struct.pack(">HHHIII", 1, 0x0112, 3, 1_000_000, 0xFFFFFFF0, 0xFFFFFFF0),
        "count": ifd + struct.pack(">H", 65_535),
        "orientation-9": ifd + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 9, 0, 0),
        "orientation-65535": ifd + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 65_535, 0, 0),
        "orientation-text": ifd + struct.pack(">HHHI4sI", 1, 0x0112, 2, 4, b"six\0", 0),
        "orientation-ratio": ifd + struct.pack(">HHHIIIII", 1, 0x0112, 5, 1, 26, 0, 6, 0),
        "no-header": b"Exif\0\0",
        "zeros": bytes(60_000),
        "thumbnail": ifd + struct.pack(">HI", 0, 8),
    }
    for name, block in blocks.items():
        yield f"exif-{name}.jpg", encoded(image, "JPEG", exif=block)
        yield f"exif-{name}.webp", encoded(image, "WEBP", lossless=True, exif=block)
    for name, profile in {"zeros": bytes(5000), "short": b"\0\0\0\x80acsp", "huge": b"\xff" * 200_000}.items():
        yield f"profile-{name}.jpg", encoded(image, "JPEG", icc_profile=profile)
        yield f"profile-{name}.png", encoded(image, "PNG", icc_profile=profile)
    for orientation in (0, 9, 300):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"exif-{orientation}.png", encoded(image, "PNG", exif=exif)


def loops() -> dict[str, bytes]:
    """Chains of blocks that never end, in files whose first picture is whole or missing."""
    pixels = {**grey_tags(4, 4), 273: [8], 278: [4], 279: [16]}
    return {
        "first.tif": tiff(pixels, bytes(16), again=True),
        "none.tif": struct.pack("<2sHIHI", b"II", 42, 8, 0, 8),
        "far.tif": struct.pack("<2sHI", b"II", 42, 0xFFFFFFF0),
        "sub.tif": tiff({**pixels, 330: [8], 34665: [8]}, bytes(16)),
    }


def disguised(image: Image.Image) -> dict[str, bytes]:
    """Something else under the name of a photo; first those that hold a photo all the same."""
    jpeg, inner = encoded(image, "JPEG"), tar({"photo.jpg": encoded(image, "JPEG"), "../../escaped.jpg": b"x"})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../../escaped.txt", bytes(10**7))
    for _ in range(8):
        inner = tar({"inner.tar": inner})
    return {
        "png.jpg": encoded(image, "PNG"),
        "webp.bmp": encoded(image, "WEBP"),
        "gif.tiff": encoded(image, "GIF"),
        "jpeg-and-zip.jpg": jpeg + archive.getvalue(),
        "jpeg-and-script.jpg": jpeg + b"<script>alert(1)</script>",
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "vector.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "document.jpg": b"%PDF-1.7\n1 0 obj <</Type /Catalog /OpenAction <</S /JavaScript>>>> endobj",
        "page.gif": b"<!doctype html><script>alert(1)</script>",
        "program.jpg": b"\x7fELF" + bytes(200),
        "shell.png": b"#!/bin/sh\nrm -rf /\n",
        "pickle.jpg": b"cos\nsystem\n(S'true'\ntR.",
        "tars.jpg": inner,
        "zip.jpg": archive.getvalue(),
        "ico.bmp": encoded(image.resize((16, 16)), "ICO"),
        "jpeg2000.jpg": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
        "zeros.jpg": bytes(4096),
        "ones.png": b"\xff" * 4096,
        "empty.jpg": b"",
        "one-byte.png": b"\x89",
        "only-magic.gif": b"GIF89a",
        "only-magic.jpg": b"\xff\xd8\xff",
        "only-magic.webp": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        "only-magic.tif": b"II*\0",
        "only-magic.bmp": b"BM",
    }


def text_bomb(kind: bytes) -> bytes:
    """10 MB of text in 10 kB, as a chunk of a PNG."""
    head = b"Comment\0\0" if kind == b"zTXt" else b"Comment\0\1\0\0\0"
    return chunk(kind, head + zlib.compress(bytes(10**7), 9))
