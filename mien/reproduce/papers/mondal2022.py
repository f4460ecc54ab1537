"""Mondal 2022: a shallow CNN, the same with dropout, and a deep one."""

from __future__ import annotations

from mien.reproduce.papers.common import FAST
from mien.reproduce.spec import Earlier, Headline, Reading, RunSpec, System, remarks

_BATCH = Reading("batch_size", "not given", "64", "The paper does not say; 64 is usual.")
_DEEP_AUGMENT = Reading(
    "augment",
    "Keras ImageDataGenerator, ranges not given (section 2.1)",
    "flip, 10°, 10 % shift and scale",
    "The paper gives no ranges; used for the deep network alone, because the shallow one's curves "
    "show the overfitting that it would have prevented.",
)
_DEEP_FAST = "The fast recipe's network has no dropout, the paper's has."

SYSTEM = System(
    name="mondal2022",
    title="Convolutional Neural Networks for Facial Expression Recognition",
    citation="Mondal 2022, University of Strathclyde, CS826",
    runs=(
        RunSpec(
            id="mondal_shallow",
            label="Shallow",
            recipes={"fast": "mondal_shallow", "paper": "mondal_shallow"},
            seeds={"fast": 3, "paper": 3},
            readings=(
                _BATCH,
                Reading(
                    "augment",
                    "Keras ImageDataGenerator (section 2.1)",
                    "none",
                    "90 % training accuracy in 10 epochs is out of reach with augmentation.",
                ),
            ),
            parameters=2_345_607,
            hardware="GPU, not named",
            printed={
                "train_loss": 0.26,
                "val_loss": 1.8,
                "train_accuracy": 0.90,
                "val_accuracy": 0.58,
            },
        ),
        RunSpec(
            id="mondal_dropout",
            label="Improved (dropout)",
            recipes={"fast": "mondal_dropout", "paper": "mondal_dropout"},
            seeds={"fast": 3, "paper": 3},
            readings=(
                _BATCH,
                Reading(
                    "dropout",
                    "places given (figure 7), rates not",
                    ".25, .25, .5",
                    "The usual rates of these places.",
                ),
                Reading(
                    "augment",
                    "Keras ImageDataGenerator (section 2.1)",
                    "none",
                    "As the shallow network: of the two the paper changes the dropout alone "
                    "(section 2.2).",
                ),
            ),
            parameters=2_345_607,
            hardware="GPU, not named",
            printed={
                "train_loss": 0.91,
                "val_loss": 1.0,
                "train_accuracy": 0.65,
                "val_accuracy": 0.60,
            },
        ),
        RunSpec(
            id="mondal_deep",
            label="Deep",
            recipes={"fast": "mondal_deep_fast", "paper": "mondal_deep"},
            readings=(
                _BATCH,
                _DEEP_AUGMENT,
                Reading(
                    "dropout",
                    "places given (figure 8), rates not",
                    ".25 after each pool, .5 after the dense layer; none in the fast recipe",
                    "The usual rates of these places.",
                ),
                Reading(
                    "filters before the first 512",
                    "128 by the count of parameters (figure 8)",
                    "128",
                    "590,336 weights are 3·3·128·512 and 512 biases.",
                ),
                Reading(
                    "order of ReLU and batch normalisation",
                    "not shown: figure 8 lists no activations",
                    "convolution, batch normalisation, ReLU",
                    "The order of Ioffe & Szegedy 2015; an activation inside Keras' Conv2D would "
                    "stand before the batch normalisation.",
                ),
            ),
            whys={
                **FAST,
                "dropout_off": "Five epochs are too few to overfit, and with dropout the network "
                "barely learns in them.",
            },
            parameters=20_552_775,
            hardware="GPU, not named",
            printed={
                "train_loss": 1.0,
                "val_loss": 1.1,
                "train_accuracy": 0.59,
                "val_accuracy": 0.58,
                "test_accuracy": 0.58,
            },
        ),
    ),
    headlines=(
        Headline(
            "shallow_val",
            "Shallow: validation accuracy",
            "mondal_shallow",
            "last.val_accuracy",
            0.58,
            0.58,
            "58 % (table 3)",
            "At a constant rate the last epoch swings by points from seed to seed, and from one "
            "training of a seed to the next: the mean of three falls on either side of the mark. "
            "The whole report has the chosen epoch too.",
        ),
        Headline(
            "shallow_train",
            "Shallow: training accuracy",
            "mondal_shallow",
            "last.train_accuracy",
            0.90,
            None,
            "90 % (table 3)",
            "A sign of overfitting, not a mark to reach.",
        ),
        Headline(
            "dropout_val",
            "Improved: validation accuracy",
            "mondal_dropout",
            "last.val_accuracy",
            0.60,
            0.60,
            "60 % (table 3)",
        ),
        Headline(
            "dropout_val_text",
            "Improved: validation accuracy, as the text has it",
            "mondal_dropout",
            "last.val_accuracy",
            0.61,
            0.61,
            "61 % (section 2.2)",
            "The text and table 3 disagree by a point.",
        ),
        Headline(
            "dropout_train",
            "Improved: training accuracy",
            "mondal_dropout",
            "last.train_accuracy",
            0.65,
            None,
            "65 % (table 3)",
        ),
        Headline(
            "deep_val",
            "Deep: validation accuracy",
            "mondal_deep",
            "last.val_accuracy",
            0.59,
            0.59,
            "59 % (section 2.2); 58 % (table 3)",
            fast_remark=_DEEP_FAST,
        ),
        Headline(
            "deep_train",
            "Deep: training accuracy",
            "mondal_deep",
            "last.train_accuracy",
            0.59,
            None,
            "59 % (table 3)",
            fast_remark=_DEEP_FAST,
        ),
        Headline(
            "deep_test",
            "Deep: test accuracy",
            "mondal_deep",
            "test",
            0.58,
            0.58,
            "58 % (section 2.2)",
            "Ours at the epoch chosen on PublicTest, on PrivateTest.",
            _DEEP_FAST,
        ),
    ),
    comparison=("mondal_shallow", "mondal_dropout", "mondal_deep"),
    earlier=(
        Earlier(
            "Deep",
            "fast",
            "3 epochs up to 1e-3, with dropout",
            "33.01 % training and 40.68 % PublicTest accuracy at the last epoch, 40.93 % "
            "on PrivateTest",
            "It was far too short: the loss still fell fast. Today's recipe was written "
            "from its curves and from the training loss of 120 steps at two rates.",
            "1b1f85a",
        ),
        Earlier(
            "Shallow, seed 1",
            "fast",
            "the same recipe and seed, trained once before",
            "88.86 % training and 57.20 % PublicTest accuracy at the last epoch, 59.85 % on "
            "PrivateTest at the chosen one; the mean of the three seeds' last epochs was 58.11 %",
            "Its record had lost that the training was resumed, so it was trained anew in one "
            "piece. Today's mean of three misses the mark that the former one met.",
            "8b3ea47",
        ),
    ),
    remarks=remarks("mondal2022"),
)
