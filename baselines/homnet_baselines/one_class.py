"""One-class methods: OC-SVM (scikit-learn), Deep-SVDD and autoencoder (networks of PyOD).

They learn from structurally normal pairs only. In the paper they get the 4 x 512 samples of a pair
(``features="raw"``) and score near chance. ``features="profile"`` gives them a few symmetric
features that compare the homologs with each other and with their type.

OC-SVM is fitted in one go to all normal training pairs. Both networks learn in steps from the
normal bags of the batches that all methods see. Scores are computed from tensors, without pickles.

Shape suffixes: B bags, K cells, M pairs, P homologs, C chromatids, L positions, F features,
T chromosome types, V landmarks of the kernel.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDOneClassSVM

from homnet.bags.draw import PairBank
from homnet.errors import ConfigError, check_choices
from homnet.karyotype.chromosomes import SEQUENCE_LENGTH
from homnet.model.contract import NUM_TYPES
from homnet.training.stage import Stage
from homnet_baselines.features import NUM_PROFILE, profile_features
from homnet_baselines.fitted import FittedModel
from homnet_baselines.pooling import mean_over_pairs

_PART = 512
_SCALED_PARTS = 20
"""Number of parts of the pairs, spread over all, that are enough to scale scores."""
_NUM_RAW = 4 * SEQUENCE_LENGTH
_MAX_LANDMARKS = 512
"""Maximum number of landmarks of OC-SVM's kernel."""
_LANDMARKS_OF = 20_000
"""Number of pairs, spread over all, among which the landmarks are chosen."""
_NUM_NOISE = 4096
"""Number of random inputs that stand for scaled features when Deep-SVDD's centre is set."""


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

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 < self.nu <= 1 or min(self.width, self.bottleneck) < 1:
            raise ConfigError(
                "one-class methods need nu in (0, 1], and width and bottleneck of at least 1, got "
                f"{self.nu:g}, {self.width} and {self.bottleneck}"
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

    def loss(self, logit_B: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
        """Sum of the scores of normal bags; nothing is learnt from abnormal ones."""
        return (logit_B * (1 - label_B)).sum()

    def scores(self, x_MPCL: torch.Tensor, chromosome_M: torch.Tensor) -> torch.Tensor:
        """Scores of pairs (M), averaged over both homolog orders if features depend on order."""
        orders = (x_MPCL, x_MPCL.flip(1)) if self.raw else (x_MPCL,)
        parts = [self.distance(self._scaled(x, chromosome_M)) for x in orders]
        return (torch.stack(parts).mean(dim=0) - self.offset) / self.unit

    @abstractmethod
    def distance(self, feature_MF: torch.Tensor) -> torch.Tensor:
        """Distance (M) from normal pairs, given scaled features."""

    def learn(self, feature_MF: torch.Tensor, seed: int) -> None:
        """Fits the model to scaled features of normal pairs, unless it learns in steps."""

    def fit(self, stage: Stage, bank: PairBank) -> None:
        """Fits to normal pairs, and scales the scores. A parent is kept unchanged."""
        if stage.parent is not None:
            return
        normal = bank.normal()
        x_MPCL = torch.as_tensor(normal.pair_NPCL)
        chromosome_M = torch.tensor(normal.frame["chromosome"].to_numpy())
        parts = list(zip(x_MPCL.split(_PART), chromosome_M.split(_PART), strict=True))
        if not self.in_steps:
            self.fit_template(x_MPCL, chromosome_M)
            self.learn(torch.cat([self._scaled(*part) for part in parts]), stage.training.seed)
        self.eval()
        with torch.no_grad():
            few = parts[:: max(1, len(parts) // _SCALED_PARTS)]
            score_M = torch.cat([self.scores(*part) for part in few]).numpy()
        low, middle, high = np.quantile(score_M, [0.25, 0.5, 0.75])
        self.keep(offset=middle, unit=max(high - low, 1e-6))

    def profiles(self, pair_NPCL: torch.Tensor) -> torch.Tensor:
        """Features and their squares (N, 2 F), whose means give the scaling."""
        feature_NF = self._features(pair_NPCL)
        return torch.cat([feature_NF, feature_NF.square()], dim=1)

    def take_sums(self, sums_TX: torch.Tensor) -> None:
        """Scales by chromosome type, or over all types if there are few pairs or raw samples."""
        whole_TX = sums_TX.sum(dim=0, keepdim=True)
        if not self.raw:
            whole_TX = torch.where(sums_TX[:, -1:] > 1, sums_TX, whole_TX)
        mean_TF, square_TF = (whole_TX[:, :-1] / whole_TX[:, -1:].clamp(min=1)).chunk(2, dim=1)
        spread_TF = (square_TF - mean_TF.square()).clamp(min=1e-6).sqrt()
        self.keep(centre_TF=mean_TF, spread_TF=spread_TF)

    def _features(self, x_MPCL: torch.Tensor) -> torch.Tensor:
        return x_MPCL.float().flatten(1) / 255 if self.raw else profile_features(x_MPCL)

    def _scaled(self, x_MPCL: torch.Tensor, chromosome_M: torch.Tensor) -> torch.Tensor:
        row_M = torch.zeros_like(chromosome_M) if self.raw else chromosome_M
        scaled = (self._features(x_MPCL) - self.centre_TF[row_M]) / self.spread_TF[row_M]
        # Nearly constant features must not dominate the distance.
        return scaled.clamp(-10, 10)


class SupportVectors(OneClass):
    """One-class support vector machine with a Gaussian kernel (Schölkopf et al. 2001).

    The kernel is approximated through landmarks, so that time is linear in the number of pairs.
    """

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

    def learn(self, feature_MF: torch.Tensor, seed: int) -> None:
        """Fits the landmarks' weights to all pairs."""
        gamma = 1.0 / (self.num_features * float(feature_MF.var()))
        kernel = Nystroem(
            gamma=gamma, n_components=min(_MAX_LANDMARKS, len(feature_MF)), random_state=seed
        )
        kernel.fit(feature_MF[:: max(1, len(feature_MF) // _LANDMARKS_OF)].numpy())
        mapped_MV = kernel.transform(feature_MF.numpy())
        machine = SGDOneClassSVM(nu=self.form.nu, average=True, random_state=seed).fit(mapped_MV)
        self.keep(
            vector_VF=kernel.components_,
            weight_V=kernel.normalization_.T @ machine.coef_,
            intercept=-float(machine.offset_[0]),
            gamma=gamma,
        )

    def distance(self, feature_MF: torch.Tensor) -> torch.Tensor:
        """Negated decision function of scikit-learn."""
        kernel_MV = torch.exp(-self.gamma * torch.cdist(feature_MF, self.vector_VF).square())
        return -(kernel_MV @ self.weight_V + self.intercept)


class DeepSVDD(OneClass):
    """Deep support vector data description (Ruff et al. 2018)."""

    in_steps: ClassVar[bool] = True
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
        # Scaled features have mean 0 and variance 1; the centre is fixed before learning.
        self.keep(centre=self.network._init_c(torch.randn(_NUM_NOISE, self.num_features)))

    def distance(self, feature_MF: torch.Tensor) -> torch.Tensor:
        """Squared distance from the centre."""
        squared: torch.Tensor = (self.network(feature_MF) - self.centre).square().sum(dim=-1)
        return squared


class Autoencoder(OneClass):
    """Reconstruction error of an autoencoder."""

    in_steps: ClassVar[bool] = True

    def __init__(self, form: OneClassForm) -> None:
        from pyod.models.auto_encoder import AutoEncoderModel  # takes seconds to import

        super().__init__(form)
        self.network = AutoEncoderModel(
            self.num_features, hidden_neuron_list=[form.width, form.bottleneck]
        )

    def distance(self, feature_MF: torch.Tensor) -> torch.Tensor:
        """Euclidean distance between features and their reconstruction."""
        if self.training and len(feature_MF) == 1:  # batch normalisation needs two
            return self.distance(feature_MF.repeat(2, 1))[:1]
        error: torch.Tensor = (self.network(feature_MF) - feature_MF).norm(dim=-1)
        return error
