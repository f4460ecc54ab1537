"""What is varied in training images; :mod:`mien.data.augment` does it. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AugmentConfig:
    """What is varied. Zero switches a part off; ranges are uniform.

    Attributes:
        flip: probability of mirroring left and right.
        rotation: largest angle in degrees, both ways.
        scale: largest relative change of size, both ways (0.15: 0.85 to 1.15).
        stretch: largest relative change of the width alone, on top of ``scale``.
        shift: largest shift as a fraction of the side, both axes.
        brightness: largest relative change of brightness (pixels times 1 ± b).
        contrast: largest relative change of contrast about the image's mean.
        erasing: probability of covering a rectangle with grey noise (Zhong et al. 2017).
        erasing_area: largest share of the image that the rectangle covers.
        crop: pixels of random crop: pad by reflection, then cut at a random place.
        fill: what lies outside the image: "reflect" or "border" or "zeros".
        resized_crop: smallest share of the image's area that a random-resized crop keeps
            (Szegedy et al. 2015; aspect 3:4 to 4:3, wholly inside the image); 0 = off.
        alternating: mirror every image in every other epoch (Jordan 2024) instead of at random:
            ``augment`` is then told which.
        interpolation: "bilinear" or "bicubic". Bilinear sampling halves the finest detail, which
            the images that are scored still have (Touvron et al. 2019 on such a mismatch);
            bicubic keeps three quarters of it for four times the time of the augmentation.
        degraded: share of the images that :mod:`mien.data.degrade` makes as poor as photos from
            life are; all others get its milder framing and light. After all of the above.
    """

    flip: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erasing: float = 0.0
    erasing_area: float = 0.2
    crop: int = 0
    fill: str = "border"
    resized_crop: float = 0.0
    alternating: bool = False
    interpolation: str = "bilinear"
    degraded: float = 0.0

    @property
    def geometric(self) -> bool:
        parts = (self.flip, self.rotation, self.scale, self.stretch, self.shift, self.crop)
        return any((*parts, self.resized_crop, self.alternating))
