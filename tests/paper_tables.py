"""The papers' layer tables, row by row as printed: type, output shape, parameters.

Sources: Bah & Xue 2022, table 1; Mondal 2022, figures 6-8; Njoku et al. 2024, table 2; Debnath et
al. 2021 has only the sequence of blocks, the filter counts are the published code's and the rest
follows from Keras's arithmetic. Where the papers' Keras layers carry their activation with them,
``relu`` rows were added, so that the order of convolution, normalisation and activation is held
too. Dropout rates follow a ``@``.
"""

from __future__ import annotations

TABLES: dict[str, str] = {
    "debnath_convnet": """
        Conv2D 48 48 128 = 1280
        BatchNormalization 48 48 128 = 512
        relu 48 48 128
        MaxPooling2D 24 24 128
        Dropout 24 24 128 @ .25
        Conv2D 24 24 256 = 295168
        BatchNormalization 24 24 256 = 1024
        relu 24 24 256
        MaxPooling2D 12 12 256
        Dropout 12 12 256 @ .25
        Conv2D 12 12 512 = 1180160
        BatchNormalization 12 12 512 = 2048
        relu 12 12 512
        MaxPooling2D 6 6 512
        Dropout 6 6 512 @ .25
        Conv2D 6 6 512 = 2359808
        BatchNormalization 6 6 512 = 2048
        relu 6 6 512
        MaxPooling2D 3 3 512
        Dropout 3 3 512 @ .25
        Flatten 4608
        Dense 256 = 1179904
        BatchNormalization 256 = 1024
        relu 256
        Dropout 256 @ .25
        Dense 512 = 131584
        BatchNormalization 512 = 2048
        relu 512
        Dropout 512 @ .25
        Dense 7 = 3591
    """,
    "njoku_cnn": """
        Conv2D 48 48 32 = 320
        relu 48 48 32
        Conv2D 46 46 64 = 18496
        relu 46 46 64
        MaxPooling2D 23 23 64
        Dropout 23 23 64 @ .1
        Conv2D 21 21 128 = 73856
        relu 21 21 128
        MaxPooling2D 10 10 128
        Dropout 10 10 128 @ .1
        Conv2D 8 8 256 = 295168
        relu 8 8 256
        MaxPooling2D 4 4 256
        Dropout 4 4 256 @ .1
        Flatten 4096
        Dense 512 = 2097664
        relu 512
        Dropout 512 @ .2
        Dense 7 = 3591
    """,
    "bah_resnet": """
        Conv2D 48 48 16 = 416
        relu 48 48 16
        BatchNormalization 48 48 16 = 64
        Conv2D 48 48 16 = 6416
        relu 48 48 16
        BatchNormalization 48 48 16 = 64
        Dropout 48 48 16 @ .3
        Conv2D 48 48 32 = 4640
        relu 48 48 32
        BatchNormalization 48 48 32 = 128
        Conv2D 48 48 32 = 9248
        relu 48 48 32
        BatchNormalization 48 48 32 = 128
        MaxPooling2D 24 24 32
        Dropout 24 24 32 @ .3
        residual Conv2D 24 24 32 = 9248
        residual BatchNormalization 24 24 32 = 128
        residual relu 24 24 32
        residual Conv2D 24 24 32 = 9248
        residual BatchNormalization 24 24 32 = 128
        residual Add 24 24 32
        residual relu 24 24 32
        Conv2D 24 24 64 = 18496
        relu 24 24 64
        BatchNormalization 24 24 64 = 256
        Conv2D 24 24 64 = 36928
        relu 24 24 64
        BatchNormalization 24 24 64 = 256
        MaxPooling2D 12 12 64
        Dropout 12 12 64 @ .3
        Conv2D 12 12 128 = 73856
        relu 12 12 128
        BatchNormalization 12 12 128 = 512
        Conv2D 12 12 128 = 147584
        relu 12 12 128
        BatchNormalization 12 12 128 = 512
        MaxPooling2D 6 6 128
        Dropout 6 6 128 @ .3
        residual Conv2D 6 6 128 = 147584
        residual BatchNormalization 6 6 128 = 512
        residual relu 6 6 128
        residual Conv2D 6 6 128 = 147584
        residual BatchNormalization 6 6 128 = 512
        residual Add 6 6 128
        residual relu 6 6 128
        Conv2D 6 6 256 = 295168
        relu 6 6 256
        BatchNormalization 6 6 256 = 1024
        Conv2D 6 6 256 = 590080
        relu 6 6 256
        BatchNormalization 6 6 256 = 1024
        MaxPooling2D 3 3 256
        Dropout 3 3 256 @ .3
        Conv2D 3 3 512 = 1180160
        relu 3 3 512
        BatchNormalization 3 3 512 = 2048
        Conv2D 3 3 512 = 2359808
        relu 3 3 512
        BatchNormalization 3 3 512 = 2048
        MaxPooling2D 1 1 512
        Dropout 1 1 512 @ .4
        residual Conv2D 1 1 512 = 2359808
        residual BatchNormalization 1 1 512 = 2048
        residual relu 1 1 512
        residual Conv2D 1 1 512 = 2359808
        residual BatchNormalization 1 1 512 = 2048
        residual Add 1 1 512
        residual relu 1 1 512
        GlobalAveragePooling2D 512
        Dense 7 = 3591
    """,
    "mondal_shallow": """
        Conv2D 46 46 32 = 320
        relu 46 46 32
        Conv2D 44 44 64 = 18496
        relu 44 44 64
        MaxPooling2D 22 22 64
        Conv2D 20 20 128 = 73856
        relu 20 20 128
        MaxPooling2D 10 10 128
        Conv2D 8 8 128 = 147584
        relu 8 8 128
        MaxPooling2D 4 4 128
        Flatten 2048
        Dense 1024 = 2098176
        relu 1024
        Dense 7 = 7175
    """,
    "mondal_dropout": """
        Conv2D 46 46 32 = 320
        relu 46 46 32
        Conv2D 44 44 64 = 18496
        relu 44 44 64
        MaxPooling2D 22 22 64
        Dropout 22 22 64 @ .25
        Conv2D 20 20 128 = 73856
        relu 20 20 128
        MaxPooling2D 10 10 128
        Conv2D 8 8 128 = 147584
        relu 8 8 128
        MaxPooling2D 4 4 128
        Dropout 4 4 128 @ .25
        Flatten 2048
        Dense 1024 = 2098176
        relu 1024
        Dropout 1024 @ .5
        Dense 7 = 7175
    """,
    "mondal_deep": """
        Conv2D 48 48 64 = 640
        BatchNormalization 48 48 64 = 256
        relu 48 48 64
        Conv2D 48 48 64 = 36928
        BatchNormalization 48 48 64 = 256
        relu 48 48 64
        MaxPooling2D 24 24 64
        Dropout 24 24 64 @ .25
        Conv2D 24 24 128 = 204928
        BatchNormalization 24 24 128 = 512
        relu 24 24 128
        Conv2D 24 24 128 = 409728
        BatchNormalization 24 24 128 = 512
        relu 24 24 128
        Conv2D 24 24 128 = 409728
        BatchNormalization 24 24 128 = 512
        relu 24 24 128
        MaxPooling2D 12 12 128
        Dropout 12 12 128 @ .25
        Conv2D 12 12 512 = 590336
        BatchNormalization 12 12 512 = 2048
        relu 12 12 512
        Conv2D 12 12 512 = 2359808
        BatchNormalization 12 12 512 = 2048
        relu 12 12 512
        Conv2D 12 12 512 = 2359808
        BatchNormalization 12 12 512 = 2048
        relu 12 12 512
        Conv2D 12 12 512 = 2359808
        BatchNormalization 12 12 512 = 2048
        relu 12 12 512
        MaxPooling2D 6 6 512
        Dropout 6 6 512 @ .25
        Conv2D 6 6 512 = 2359808
        BatchNormalization 6 6 512 = 2048
        relu 6 6 512
        Conv2D 6 6 512 = 2359808
        BatchNormalization 6 6 512 = 2048
        relu 6 6 512
        Conv2D 6 6 512 = 2359808
        BatchNormalization 6 6 512 = 2048
        relu 6 6 512
        Conv2D 6 6 512 = 2359808
        BatchNormalization 6 6 512 = 2048
        relu 6 6 512
        MaxPooling2D 3 3 512
        Dropout 3 3 512 @ .25
        Flatten 4608
        Dense 512 = 2359808
        relu 512
        Dropout 512 @ .5
        Dense 7 = 3591
    """,
}

# Name -> (total, trainable), as the papers print them; bah_basic follows from the table above.
TOTALS: dict[str, tuple[int, int]] = {
    "debnath_convnet": (5_160_199, 5_155_847),
    "njoku_cnn": (2_489_095, 2_489_095),
    "bah_resnet": (9_773_111, 9_766_391),
    "bah_basic": (4_734_455, 4_730_423),
    "mondal_shallow": (2_345_607, 2_345_607),
    "mondal_dropout": (2_345_607, 2_345_607),
    "mondal_deep": (20_552_775, 20_543_559),
}

Row = tuple[str, tuple[int, ...], int, float | None]


def rows(name: str) -> list[Row]:
    """(type, output shape, parameters, dropout rate) of every layer, in order."""
    basic = name == "bah_basic"
    result: list[Row] = []
    for line in TABLES["bah_resnet" if basic else name].split("\n"):
        if not line.strip() or (basic and "residual" in line):
            continue
        left, _, rate = line.replace("residual", "").partition("@")
        left, _, parameters = left.partition("=")
        kind, *shape = left.split()
        kind = "Activation" if kind == "relu" else kind
        result.append(
            (kind, tuple(map(int, shape)), int(parameters or 0), float(rate) if rate else None)
        )
    return result
