"""One-class methods: OC-SVM (scikit-learn), Deep-SVDD and autoencoder (PyOD).

They are fitted to structurally normal pairs only and see no labels. In the paper they get the
4 x 512 samples of a pair (``features="raw"``) and score near chance. ``features="profile"`` gives
them a few symmetric features that compare the homologs with each other and with their type.

PyOD and scikit-learn do the fitting. Scores are computed from fitted tensors, without pickles.

Shape suffixes: B bags, K cells, M pairs, P homologs, C chromatids, L positions, F features,
T chromosome types, V support vectors.
"""

import random
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from sklearn.svm import OneClassSVM

from homnet.bags.draw import PairBank
from homnet.errors import ConfigError
from homnet.karyotype.chromosomes import SEQUENCE_LENGTH
from homnet.model.contract import NUM_TYPES
from homnet.seeding import generator
from homnet.training.stage import Stage
from homnet_baselines.features import NUM_PROFILE, profile_features, type_scaling
from homnet_baselines.fitted import FittedModel
from homnet_baselines.pooling import mean_over_pairs

_PART = 512
_NUM_RAW = 4 * SEQUENCE_LENGTH


@dataclass(frozen=True)
class OneClassForm:
    """A one-class method."""

    method: Literal["OC-SVM", "Deep-SVDD", "AE"] = "OC-SVM"
    """Which."""
    features: Literal["profile", "raw"] = "profile"
    """Input: 67 features scaled per chromosome type, or the paper's 2,048 samples scaled over all
    types."""
    nu: float = 0.1
    """Upper bound on the share of training pairs outside the boundary of OC-SVM."""
    width: int = 32
    """Width of the first hidden layer of the networks."""
    bottleneck: int = 8
    """Width of the autoencoder's code and of Deep-SVDD's output."""
    max_pairs: int = 10_000
    """Maximum number of training pairs, drawn at random; OC-SVM takes quadratic time."""

    def __post_init__(self) -> None:
        if not 0 < self.nu <= 1 or min(self.width, self.bottleneck) < 1 or self.max_pairs < 2:
            raise ConfigError(
                "one-class methods need nu in (0, 1], width and bottleneck of at least 1 and "
                f"max_pairs of at least 2, got {self.nu:g}, {self.width}, {self.bottleneck} and "
                f"{self.max_pairs}"
            )

    def build(self) -> "OneClass":
        """An unfitted model."""
        if self.method == "OC-SVM":
            return SupportVectors(self)
        return DeepSVDD(self) if self.method == "Deep-SVDD" else Autoencoder(self)


class OneClass(FittedModel):
    """Distance from normal pairs, averaged over the bag and scaled by the normal training pairs."""

    centre_TF: torch.Tensor
    spread_TF: torch.Tensor
    offset: torch.Tensor
    unit: torch.Tensor

    def __init__(self, form: OneClassForm) -> None:
        super().__init__()
        self.form = form
        self.raw = form.features == "raw"
        self.num_features = _NUM_RAW if self.raw else NUM_PROFILE
        num_scalings = 1 if self.raw else NUM_TYPES
        self.keep(
            centre_TF=torch.zeros(num_scalings, self.num_features),
            spread_TF=torch.ones(num_scalings, self.num_features),
            offset=0.0,
            unit=1.0,
        )

    def forward(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        """Returns scores (B): 0 is the median of normal training pairs."""
        chromosome_M = chromosome_B[:, None].expand_as(mask_BK)[mask_BK]
        return mean_over_pairs(self.scores(x_BKPCL[mask_BK], chromosome_M), mask_BK)

    def scores(self, x_MPCL: torch.Tensor, chromosome_M: torch.Tensor) -> torch.Tensor:
        """Scores of pairs (M), averaged over both homolog orders if features depend on order."""
        orders = (x_MPCL, x_MPCL.flip(1)) if self.raw else (x_MPCL,)
        parts = [self.distance(self._scaled(x, chromosome_M)) for x in orders]
        return (torch.stack(parts).mean(dim=0) - self.offset) / self.unit

    @abstractmethod
    def distance(self, feature_MF: torch.Tensor) -> torch.Tensor:
        """Distance (M) from normal pairs, given scaled features."""

    @abstractmethod
    def learn(self, feature_MF: torch.Tensor, stage: Stage) -> None:
        """Fits the model to scaled features of normal pairs."""

    def fit(self, stage: Stage, bank: PairBank) -> None:
        """Fits to normal pairs. A parent, fitted to healthy people, is kept unchanged."""
        if stage.parent is not None:
            return
        normal = bank.normal()
        draw = generator(stage.training.seed, "one-class")
        rows = np.sort(draw.permutation(len(normal))[: self.form.max_pairs])
        x_MPCL = torch.tensor(normal.pair_NPCL[rows])
        chromosome_M = torch.tensor(normal.frame["chromosome"].to_numpy()[rows])
        feature_MF = torch.cat([self._features(part) for part in x_MPCL.split(_PART)])
        if self.raw:
            centre = feature_MF.mean(dim=0, keepdim=True)
            spread = feature_MF.std(dim=0, keepdim=True).clamp(min=1e-3)
        else:
            centre, spread = type_scaling(feature_MF, chromosome_M)
        self.keep(centre_TF=centre, spread_TF=spread)
        self.learn(self._scale(feature_MF, chromosome_M), stage)
        self.eval()
        with torch.no_grad():
            score_M = torch.cat(
                [
                    self.scores(x, types)
                    for x, types in zip(x_MPCL.split(_PART), chromosome_M.split(_PART), strict=True)
                ]
            )
        low, middle, high = score_M.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
        self.keep(offset=middle, unit=max(high - low, 1e-6))

    def _features(self, x_MPCL: torch.Tensor) -> torch.Tensor:
        return x_MPCL.float().flatten(1) / 255 if self.raw else profile_features(x_MPCL)

    def _scaled(self, x_MPCL: torch.Tensor, chromosome_M: torch.Tensor) -> torch.Tensor:
        return self._scale(self._features(x_MPCL), chromosome_M)

    def _scale(self, feature_MF: torch.Tensor, chromosome_M: torch.Tensor) -> torch.Tensor:
        row_M = torch.zeros_like(chromosome_M) if self.raw else chromosome_M
        scaled = (feature_MF - self.centre_TF[row_M]) / self.spread_TF[row_M]
        # Nearly constant features must not dominate the distance.
        return scaled.clamp(-10, 10)


class SupportVectors(OneClass):
    """One-class support vector machine with a Gaussian kernel (Schölkopf et al. 2001)."""

    vector_VF: torch.Tensor
    weight_V: torch.Tensor
    intercept: torch.Tensor
    gamma: torch.Tensor

    def __init__(self, form: OneClassForm) -> None:
        super().__init__(form)
        self.keep(
            vector_VF=torch.zeros(0, self.num_features),
            weight_V=torch.zeros(0),
            intercept=0.0,
            gamma=1.0,
        )

    def learn(self, feature_MF: torch.Tensor, stage: Stage) -> None:
        """Finds the support vectors."""
        machine = OneClassSVM(nu=self.form.nu, gamma="scale").fit(feature_MF.double().numpy())
        self.keep(
            vector_VF=machine.support_vectors_,
            weight_V=machine.dual_coef_[0],
            intercept=float(machine.intercept_[0]),
            # scikit-learn keeps the value of gamma="scale" in a private field only.
            gamma=1.0 / (self.num_features * float(feature_MF.double().numpy().var())),
        )

    def distance(self, feature_MF: torch.Tensor) -> torch.Tensor:
        """Negated decision function of scikit-learn."""
        kernel_MV = torch.exp(-self.gamma * torch.cdist(feature_MF, self.vector_VF).square())
        return -(kernel_MV @ self.weight_V + self.intercept)


class DeepSVDD(OneClass):
    """Deep support vector data description (Ruff et al. 2018)."""

    centre: torch.Tensor

    def __init__(self, form: OneClassForm) -> None:
        from pyod.models.deep_svdd import InnerDeepSVDD  # takes seconds to import

        super().__init__(form)
        self.network = InnerDeepSVDD(
            self.num_features,
            use_ae=False,
            hidden_neurons=[form.width, form.bottleneck],
            hidden_activation="relu",
            output_activation="sigmoid",
            dropout_rate=0.2,
            l2_regularizer=5e-7,
        )
        self.keep(centre=torch.zeros(form.bottleneck))

    def learn(self, feature_MF: torch.Tensor, stage: Stage) -> None:
        """Fits the centre and shrinks the sphere around the pairs."""
        from pyod.models.deep_svdd import DeepSVDD as Detector

        settings = stage.training
        with _seeded(settings.seed):
            detector = Detector(
                n_features=self.num_features,
                hidden_neurons=[self.form.width, self.form.bottleneck],
                epochs=settings.max_epochs,
                batch_size=min(settings.batch_size, len(feature_MF)),
                learning_rate=settings.learning_rate,
                preprocessing=False,
                verbose=0,
                random_state=settings.seed,
            ).fit(feature_MF.numpy())
        self.network.load_state_dict(detector.model_.state_dict())
        self.keep(centre=detector.c_)

    def distance(self, feature_MF: torch.Tensor) -> torch.Tensor:
        """Squared distance from the centre."""
        squared: torch.Tensor = (self.network(feature_MF) - self.centre).square().sum(dim=-1)
        return squared


class Autoencoder(OneClass):
    """Reconstruction error of an autoencoder."""

    def __init__(self, form: OneClassForm) -> None:
        from pyod.models.auto_encoder import AutoEncoderModel  # takes seconds to import

        super().__init__(form)
        self.network = AutoEncoderModel(
            self.num_features, hidden_neuron_list=[form.width, form.bottleneck]
        )

    def learn(self, feature_MF: torch.Tensor, stage: Stage) -> None:
        """Trains the reconstruction."""
        from pyod.models.auto_encoder import AutoEncoder as Detector

        settings = stage.training
        with _seeded(settings.seed):
            detector = Detector(
                hidden_neuron_list=[self.form.width, self.form.bottleneck],
                epoch_num=settings.max_epochs,
                batch_size=min(settings.batch_size, len(feature_MF)),
                lr=settings.learning_rate,
                preprocessing=False,
                device="cpu",
                verbose=0,
                random_state=settings.seed,
            ).fit(feature_MF.numpy())
        self.network.load_state_dict(detector.model.state_dict())

    def distance(self, feature_MF: torch.Tensor) -> torch.Tensor:
        """Euclidean distance between features and their reconstruction."""
        error: torch.Tensor = (self.network(feature_MF) - feature_MF).norm(dim=-1)
        return error


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators that PyOD uses, and restores their states afterwards."""
    python: Any = random.getstate()
    numpy: Any = np.random.get_state()  # noqa: NPY002  (PyOD uses the old generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
