"""ModelInfo: what a classifier file says about itself, carried in the ONNX metadata.

Nothing is ever inferred from a file's name. The whole record is one JSON object under the metadata
key ``mien``; a file without that key is not mien's and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mien.emotions import Emotion
from mien.errors import ModelError

METADATA_KEY = "mien"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ModelInfo:
    """Everything that inference needs to know of a classifier, and everything a user should.

    The network takes ``images``: float32 (N, channels, input_size, input_size), pixel values
    ``(p / 255 - mean) / std``, and gives ``logits``: float32 (N, len(labels)). Probabilities are
    ``softmax(logits / temperature)``.

    Attributes:
        name: short name, e.g. "mien_distilled".
        labels: the classes in output order.
        input_size: side of the square input in pixels.
        channels: 1 (grey) or 3 (grey repeated).
        mean, std: standardisation on the 0..1 scale.
        crop_scale: side of the crop over the side of FER2013's frame of the same face
            (``mien.preprocess.face_square``); 1 for a model trained on FER2013.
        crop_shift_y: shift of the crop's centre downwards, as a fraction of that frame.
        temperature: softmax temperature fitted on the validation split (1 = none).
        architecture, recipe, seed: what was trained and how.
        training_data, protocol, licence: what it was trained on and what that permits.
        parameters, multiply_adds: size of the float network (per face).
        precision: "float32" or "int8".
        scores: measured figures, e.g. {"PublicTest": {"accuracy": .71, "n": 3589}}.
        created_with: version of mien that wrote the file.
    """

    name: str
    labels: tuple[Emotion, ...]
    input_size: int = 48
    channels: int = 1
    mean: float = 0.0
    std: float = 1.0
    crop_scale: float = 1.0
    crop_shift_y: float = 0.0
    temperature: float = 1.0
    architecture: str = ""
    recipe: str = ""
    seed: int | None = None
    training_data: str = ""
    protocol: str = ""
    licence: str = ""
    parameters: int = 0
    multiply_adds: int = 0
    precision: str = "float32"
    scores: Mapping[str, Any] = field(default_factory=dict)
    created_with: str = ""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(Emotion(label) for label in self.labels))
        if len(set(self.labels)) != len(self.labels) or len(self.labels) < 2:
            raise ModelError(f"Model {self.name!r} needs at least two distinct labels.")
        if self.channels not in (1, 3):
            raise ModelError(f"Model {self.name!r} has {self.channels} channels; expected 1 or 3.")
        if self.input_size < 8 or self.std <= 0 or self.temperature <= 0 or self.crop_scale <= 0:
            raise ModelError(
                f"Model {self.name!r} has an impossible input size, std, temperature or crop."
            )

    def to_metadata(self) -> dict[str, str]:
        """The ONNX ``metadata_props`` entries that describe this model."""
        record = asdict(self)
        record["labels"] = [label.value for label in self.labels]
        record["scores"] = dict(self.scores)
        return {METADATA_KEY: json.dumps(record, sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str = "the model") -> ModelInfo:
        """Read the record back. ``source`` names the file in error messages.

        Raises:
            ModelError: the record is missing, damaged, of a newer format or impossible.
        """
        if METADATA_KEY not in metadata:
            raise ModelError(
                f"{source} is not a mien model: its ONNX metadata has no {METADATA_KEY!r} record; "
                "make one with `mien export`."
            )
        try:
            record = json.loads(metadata[METADATA_KEY])
            version = int(record.get("format_version", 0))
            if version > FORMAT_VERSION:
                raise ModelError(
                    f"{source} was written by a newer mien (format {version}); upgrade mien."
                )
            known = {f.name for f in fields(cls)}
            return cls(**{k: v for k, v in record.items() if k in known})
        except ModelError as error:
            raise ModelError(f"{source}: {error}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{source} carries a damaged mien record: {error}") from error
