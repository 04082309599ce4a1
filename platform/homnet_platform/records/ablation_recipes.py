"""Ablations to begin from."""

from collections.abc import Mapping
from typing import Final

from homnet.bags.draw import BagConfig
from homnet.bags.events import EventConfig
from homnet.model.network import best_form
from homnet.training.optimisation import TrainingConfig
from homnet_platform.records.ablation import AblateConfig

_IMAGES: Final = TrainingConfig(
    schedule="cosine",
    weight_decay=0.01,
    averaging=0.99,
    batch_size=256,
    max_epochs=4,
    bags=BagConfig(rounds=10, over="people"),
    events=EventConfig(sham_share=0.4),
)

RECIPES: Mapping[str, AblateConfig] = {
    "paper": AblateConfig(recipe="paper"),
    "best": AblateConfig(
        recipe="best",
        model=best_form(),
        training=TrainingConfig(schedule="cosine", weight_decay=0.01, averaging=0.99, max_epochs=4),
    ),
    "images": AblateConfig(
        recipe="images",
        cohort="cohorts/images",
        model=best_form(),
        training=_IMAGES,
        fine_tuning=None,
        bags=BagConfig(rounds=40, over="people"),
        events=EventConfig(sham_share=0.2),
    ),
}
"""The paper's form and the best one on simulated hospitals, and the best one on artificial
abnormalities of a set of images. Epochs are few: raise them on a cluster."""
