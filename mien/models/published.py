"""The files in which torchvision and timm publish ImageNet weights of the paper's seven backbones.

The end of a file's name is the start of its SHA-256: PyTorch's hub checks it, and timm's script
that writes its files puts it there. Nothing more of the hash is documented, so nothing more is
stated here. Licences are those of timm's table, which knows most of torchvision's files too;
torchvision states none, only that its models "may have their own licenses".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFile:
    """One file.

    Attributes:
        backbone: registry name.
        file: its name.
        publisher: "torchvision" or "timm".
        licence: SPDX identifier in lower case; "" where none is stated.
    """

    backbone: str
    file: str
    publisher: str
    licence: str

    @property
    def prefix(self) -> str:
        """The first digits of its SHA-256, in hexadecimal."""
        return self.file.removesuffix(".pth").rpartition("-")[2]


_TV, _TIMM = "torchvision", "timm"
# fmt: off
#: By file name; of each backbone, first what a folder of files is searched for first.
PUBLISHED = {file.file: file for file in (
    PublishedFile("inceptionresnetv2", "inception_resnet_v2-940b1cd6.pth", _TIMM, "apache-2.0"),
    PublishedFile("inceptionv3", "inception_v3_google-0cc3c7bd.pth", _TV, ""),
    PublishedFile("inceptionv3", "inception_v3_google-1a9a5a14.pth", _TV, "apache-2.0"),
    PublishedFile("mobilenetv2", "mobilenetv2_100_ra-b33bc2c4.pth", _TIMM, "apache-2.0"),
    PublishedFile("mobilenetv2", "mobilenet_v2-b0353104.pth", _TV, ""),
    PublishedFile("mobilenetv2", "mobilenet_v2-7ebf99e0.pth", _TV, ""),
    PublishedFile("resnet50", "resnet50_a1_0-14fe96d1.pth", _TIMM, "apache-2.0"),
    PublishedFile("resnet50", "resnet50-0676ba61.pth", _TV, "bsd-3-clause"),
    PublishedFile("resnet50", "resnet50-11ad3fa6.pth", _TV, "bsd-3-clause"),
    PublishedFile("resnet101", "resnet101_a1h-36d3f2aa.pth", _TIMM, "apache-2.0"),
    PublishedFile("resnet101", "resnet101-63fe2227.pth", _TV, "bsd-3-clause"),
    PublishedFile("resnet101", "resnet101-cd907fc2.pth", _TV, "bsd-3-clause"),
    PublishedFile("xception", "xception-43020ad28.pth", _TIMM, "apache-2.0"),
    PublishedFile("googlenet", "googlenet-1378be20.pth", _TV, ""),
)}
# fmt: on
