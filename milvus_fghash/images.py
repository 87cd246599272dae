"""Photo file -> RGB pixels, written once for training, the export check, evaluation and serving."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Preprocessing(BaseModel):
    """From a decoded RGB photo to the pixels a network takes. Part of every bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[int, Field(ge=8, le=2048)] = 224
    """Side of the square crop the network sees, in pixels."""
    resize: Annotated[int, Field(ge=8, le=4096)] = 256
    """Length of the shorter side before the centre crop (or of both sides with `stretch`)."""
    resize_mode: Literal["shorter_side", "stretch"] = "shorter_side"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @model_validator(mode="after")
    def _crop_must_fit(self) -> Self:
        if self.resize < self.size:
            raise ValueError(f"resize must be at least size ({self.size}), or the crop would not fit")
        return self
