"""HomNet (KDD 2024): equations 1 to 10, batched over bags, cells, homologs and chromatids.

The loss (Eq. 11) is :func:`homnet.model.contract.cross_entropy`.

Shape suffixes: B bags, K cells of a bag (the paper's m), P homologs (2), C chromatids (2),
L positions (512, or those of the stretched view), M regions, D width of a region, E width of a
pair, N chromosomes (B K P), R distinct regions, T chromosome types, X a flattened axis.

Region features have the regions first (M, B, K, P, D), so that Eq. 4 is one matrix product and the
attention heads of Eq. 5 are views without a copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from homnet.errors import ConfigError, check_choices
from homnet.karyotype.chromosomes import BAND_LEVELS, SEQUENCE_LENGTH
from homnet.model.contract import LATER, NUM_TYPES, BagModel
from homnet.model.search import FEWEST_POSITIONS, EventSearch
from homnet.model.views import standardise, stretch

NUM_LEVELS: Final = len(BAND_LEVELS)
"""Number of band levels."""


@dataclass(frozen=True)
class HomNetConfig:
    """Form of HomNet. The defaults follow the paper's equations, but with softmax in Eq. 6."""

    merge_range: int = 32
    """Samples per region, k_mg (paper, Table 4: 32 is best). L is padded to a multiple of it."""
    width: int = 64
    """Width of a region's features, l_r (not given in the paper)."""
    pair_width: int = 128
    """Width of a pair's features, the length of H' (not given in the paper)."""
    num_heads: int = 4
    """Attention heads, n_h (not given in the paper)."""
    num_alignments: int = 2
    """Alignment layers of HomBlock; fine-tuning freezes the first (paper, section 4.1)."""
    attention: Literal["softmax", "ratio"] = "softmax"
    """Weights in Eq. 6: softmax of the similarities, or the paper's raw ratio, whose denominator
    can be close to zero."""
    alignment: Literal["attention", "mlp", "convolution"] = "attention"
    """How the matching region of the partner is found: attention over all regions (Eq. 5 and 6) or,
    for the rows without alignment in the paper's Table 4, a perceptron on the partner's region at
    the same place, or a convolution over that region and its two neighbours."""
    homologs: Literal["pair", "single"] = "pair"
    """Whether a homolog is compared with its partner or scored alone. If alone, Eq. 5 to 7 compare
    it with itself, and a bag holds 2K single chromosomes (the paper's "w/o Pair")."""
    view: Literal["absolute", "stretched"] = "absolute"
    """Input of the regions: the sequence at its physical scale (the paper), or stretched to a
    common length, which puts each band at the same place in every cell. The lengths before
    stretching, which show losses and gains, are then added in Eq. 8."""
    stretched_length: int = 128
    """Positions in the stretched view; 128 is about one per image pixel of chromosome 1."""
    standardise: bool = False
    """Whether each homolog is scaled to mean 0 and variance 1 inside the chromosome, which removes
    staining differences between homologs."""
    template: bool = False
    """Whether the mean profile of the chromosome type at the same place is an input to each region.
    It is computed once from the normal training pairs and shows how the type should look."""
    partner: bool = False
    """Whether the other homolog at the same place is an input to each region, before alignment."""
    normalise_regions: bool = False
    """Whether each alignment has a LayerNorm before it and a residual connection around it."""
    symmetric: bool = False
    """Whether H' (Eq. 8) is averaged over both homolog orders, which makes it swap-invariant."""

    search_positions: int = field(default=0, metadata=LATER)
    """Positions at which events are searched by what is known of normal pairs
    (:mod:`homnet.model.search`); 0 searches none. A divisor of stretched_length."""

    def __post_init__(self) -> None:
        check_choices(self)
        if not 1 <= self.merge_range <= SEQUENCE_LENGTH:
            raise ConfigError(f"merge_range must be 1..{SEQUENCE_LENGTH}, got {self.merge_range}")
        if min(self.width, self.pair_width // 2, self.num_heads, self.stretched_length) < 1:
            raise ConfigError(
                "width, num_heads and stretched_length must be above 0, pair_width above 1"
            )
        if self.width % self.num_heads:
            raise ConfigError(
                f"width {self.width} must be a multiple of num_heads {self.num_heads}"
            )
        if self.num_alignments < 1:
            raise ConfigError(f"num_alignments must be at least 1, got {self.num_alignments}")
        if self.homologs == "single" and (self.partner or self.symmetric):
            raise ConfigError(
                "homologs='single' has no partner; set partner and symmetric to False"
            )
        if self.search_positions and not (
            self.template
            and self.homologs == "pair"
            and self.stretched_length % self.search_positions == 0
            and self.search_positions >= FEWEST_POSITIONS
        ):
            raise ConfigError(
                "search_positions needs a template (--model.template true) and homologs='pair', "
                f"and must be a divisor of stretched_length {self.stretched_length} of at least "
                f"{FEWEST_POSITIONS}; got {self.search_positions}"
            )
        if self.template and not (self.standardise and self.view == "stretched"):
            raise ConfigError(
                "template needs view='stretched' and standardise=True, so that places correspond"
            )

    def build(self) -> "HomNet":
        """Builds a model of this form with random weights."""
        return HomNet(self)

    @property
    def num_positions(self) -> int:
        """Number of positions in the view that regions are cut from."""
        return SEQUENCE_LENGTH if self.view == "absolute" else self.stretched_length

    @property
    def num_regions(self) -> int:
        """Number of regions in a homolog, M (the paper's n_r)."""
        return -(-SEQUENCE_LENGTH // self.merge_range)

    @property
    def region_length(self) -> int:
        """Positions per region: the merge range, or its share of the stretched view."""
        if self.view == "absolute":
            return self.merge_range
        return -(-self.stretched_length // self.num_regions)


class CMSBlock(nn.Module):
    """Computes the features of each region of a chromosome (Eq. 1 to 4)."""

    def __init__(self, config: HomNetConfig) -> None:
        super().__init__()
        self.region_length = config.region_length
        self.num_regions = config.num_regions
        self.stretched = config.view == "stretched"
        self.partner = config.partner
        # Left and right chromatid, and the optional inputs: partner and template.
        num_channels = 2 + config.partner + config.template
        # Eq. 1: kernel = stride = (2, k_mg), so the convolution is one linear map per region.
        self.merge = nn.Linear(num_channels * config.region_length, config.width)
        # Eq. 2: Div(W_info(c + b)) is one learnt row of regions per type and one per band level.
        self.info_type = nn.Embedding(NUM_TYPES, config.num_regions * config.width)
        self.info_level = nn.Embedding(NUM_LEVELS, config.num_regions * config.width)
        for table in (self.info_type, self.info_level):
            nn.init.normal_(table.weight, std=0.02)
        # Eq. 3 and 4: local features over width, global features over regions.
        self.local = _mlp(config.width)
        self.across = _mlp(config.num_regions)
        self.template_TL: torch.Tensor | None
        template = torch.zeros(NUM_TYPES, config.num_positions) if config.template else None
        self.register_buffer("template_TL", template)

    def forward(
        self, x_BKPCL: torch.Tensor, chromosome_B: torch.Tensor, level_BK: torch.Tensor
    ) -> torch.Tensor:
        """Region features (M, B, K, P, D) of sequences (B, K, P, C, L)."""
        num_bags, num_cells = level_BK.shape
        channels = [x_BKPCL]
        if self.partner:
            channels.append(x_BKPCL.flip(2).mean(dim=3, keepdim=True))
        if self.template_TL is not None:
            template = self.template_TL[chromosome_B][:, None, None, None]
            channels.append(template.expand_as(x_BKPCL[:, :, :, :1]))
        x_BKPCL = torch.cat(channels, dim=3) if len(channels) > 1 else x_BKPCL
        missing = self.num_regions * self.region_length - x_BKPCL.shape[-1]
        regions_BKPCMX = F.pad(x_BKPCL, (0, missing)).unflatten(-1, (self.num_regions, -1))
        # Regions are cut from bytes where possible, which moves a quarter of the memory.
        patch_MBKPX = regions_BKPCMX.permute(4, 0, 1, 2, 3, 5).flatten(-2)
        info_BKMD = (self.info_type(chromosome_B)[:, None] + self.info_level(level_BK)).view(
            num_bags, num_cells, self.num_regions, -1
        )
        info_MBKD = info_BKMD.permute(2, 0, 1, 3)
        if self.stretched or patch_MBKPX.device.type != "cpu" or torch.compiler.is_compiling():
            # Only the device knows the number of distinct regions; reading it synchronises.
            r_MBKPD = self.merge(_unit(patch_MBKPX)) + info_MBKD[:, :, :, None]
            r_MBKPD = self.local(r_MBKPD) + r_MBKPD
        else:
            kind_BK = chromosome_B[:, None] * NUM_LEVELS + level_BK
            place_R, row_MBKP = _distinct_regions(patch_MBKPX, kind_BK)
            cell_R = place_R // patch_MBKPX.shape[3]
            info_RD = F.embedding(cell_R, info_MBKD.flatten(0, 2))
            r_RD = info_RD + self.merge(_unit(patch_MBKPX.flatten(0, 3)[place_R]))
            r_MBKPD = F.embedding(row_MBKP, self.local(r_RD) + r_RD)
        w3, w4 = (self.across.get_parameter(f"{layer}.weight") for layer in (0, 2))
        r_MX = r_MBKPD.flatten(1)
        across_MX: torch.Tensor = w4 @ F.relu(w3 @ r_MX) + r_MX
        return across_MX.view(r_MBKPD.shape)


class Attention(nn.Module):
    """Finds the match of each region among the partner's regions (Eq. 5 and 6)."""

    def __init__(self, config: HomNetConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.ratio = config.attention == "ratio"
        self.swap = config.homologs == "pair"
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key = nn.Linear(config.width, config.width, bias=False)
        self.value = nn.Linear(config.width, config.width, bias=False)
        self.head = nn.Linear(config.width, config.width, bias=False)

    def forward(self, r_MBKPD: torch.Tensor) -> torch.Tensor:
        """The partner's features aligned with each region (M, B, K, P, D)."""
        q, k, v = self.query(r_MBKPD), self.key(r_MBKPD), self.value(r_MBKPD)
        if self.ratio:
            aligned_MND = self._by_ratio(q, k, v)
        else:
            if self.swap:
                k, v = k.flip(3), v.flip(3)
            # Four dimensions, because the fused kernels do not accept five.
            q, k, v = (
                x.flatten(1, 3).unflatten(-1, (self.num_heads, -1)).permute(1, 2, 0, 3)
                for x in (q, k, v)
            )
            aligned = F.scaled_dot_product_attention(q, k, v)
            aligned_MND = aligned.permute(2, 0, 1, 3).flatten(2)
        aligned_MBKPD: torch.Tensor = self.head(aligned_MND.reshape(r_MBKPD.shape))
        return aligned_MBKPD

    def _by_ratio(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        # Eq. 6 as printed is sum(a v) / sum(a) with a = q k. Both sums are linear in a, so k v and
        # k are first summed over the partner's regions, and the matrix of all a is never computed.
        width = q.shape[-1]
        q, k, v = (
            x.reshape(len(x), -1, width // self.num_heads).transpose(0, 1) for x in (q, k, v)
        )
        kv, k_sum = k.transpose(1, 2) @ v, k.sum(dim=1, keepdim=True)
        if self.swap:
            kv, k_sum = (
                x.unflatten(0, (-1, 2, self.num_heads)).flip(1).flatten(0, 2) for x in (kv, k_sum)
            )
        q = q / q.shape[-1] ** 0.5
        total = (q * k_sum).sum(dim=-1, keepdim=True)
        # The ratio has a pole at zero, so the sum is kept away from it.
        total = torch.where(total.abs() < 1e-2, torch.where(total < 0, -1e-2, 1e-2), total)
        return (q @ kv / total).transpose(0, 1).reshape(q.shape[1], -1, width)


class Neighbours(nn.Module):
    """Replaces attention (Table 4) by the partner's region at the same place and its neighbours."""

    def __init__(self, config: HomNetConfig) -> None:
        super().__init__()
        self.swap = config.homologs == "pair"
        reach = 1 if config.alignment == "convolution" else 0
        width = config.width
        self.mix = nn.Sequential(
            nn.Conv1d(2 * width, 2 * width, 2 * reach + 1, padding=reach),
            nn.ReLU(),
            nn.Conv1d(2 * width, width, 2 * reach + 1, padding=reach),
        )

    def forward(self, r_MBKPD: torch.Tensor) -> torch.Tensor:
        """The partner's features mixed into each region (M, B, K, P, D)."""
        partner_MBKPD = r_MBKPD.flip(3) if self.swap else r_MBKPD
        both = torch.cat([r_MBKPD, partner_MBKPD], dim=-1).flatten(1, 3).permute(1, 2, 0)
        mixed: torch.Tensor = self.mix(both).permute(2, 0, 1).reshape(r_MBKPD.shape)
        return mixed


class Alignment(nn.Module):
    """Aligns each region with the partner's regions and takes the difference (Eq. 5 to 7)."""

    def __init__(self, config: HomNetConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width) if config.normalise_regions else None
        self.align = Attention(config) if config.alignment == "attention" else Neighbours(config)
        self.difference = nn.Linear(config.width, config.width)

    def forward(self, r_MBKPD: torch.Tensor) -> torch.Tensor:
        """Difference features (M, B, K, P, D) of both homologs."""
        if self.norm is None:
            plain: torch.Tensor = self.difference(r_MBKPD + self.align(r_MBKPD))
            return plain
        normed_MBKPD = self.norm(r_MBKPD)
        difference = self.difference(normed_MBKPD + self.align(normed_MBKPD))
        residual: torch.Tensor = F.gelu(difference) + r_MBKPD
        return residual


class HomBlock(nn.Module):
    """Encodes the difference between two homologs as one vector (Eq. 5 to 8)."""

    def __init__(self, config: HomNetConfig) -> None:
        super().__init__()
        self.alignments = nn.ModuleList(Alignment(config) for _ in range(config.num_alignments))
        self.single = config.homologs == "single"
        self.symmetric = config.symmetric
        num_homologs = 1 if self.single else 2
        flat = num_homologs * config.num_regions * config.width
        self.pair = nn.Linear(flat, config.pair_width)
        # Log lengths; for a pair also their signed and absolute difference.
        self.length = (
            nn.Linear(1 if self.single else 4, config.pair_width, bias=False)
            if config.view == "stretched"
            else None
        )

    def forward(
        self, r_MBKPD: torch.Tensor, log_length_BKP: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Pair features H' (B, K, E), or (B, 2K, E) of single homologs.

        Args:
            r_MBKPD: region features.
            log_length_BKP: log lengths before stretching; None in the absolute view.
        """
        for alignment in self.alignments:
            r_MBKPD = alignment(r_MBKPD)
        if self.single:
            r_MBKPD = r_MBKPD.flatten(2, 3).unsqueeze(3)
            if log_length_BKP is not None:
                log_length_BKP = log_length_BKP.flatten(1, 2).unsqueeze(2)
        flat_BKPX = r_MBKPD.permute(1, 2, 3, 0, 4).flatten(3)
        if not self.symmetric:
            pair_BKE = self.pair(flat_BKPX.flatten(2))
            return F.relu(self._add_lengths(pair_BKE, log_length_BKP))
        # Each homolog as the first and as the second of its pair, in one matrix product.
        first_EX, second_EX = self.pair.weight.chunk(2, dim=1)
        both_BKPF = F.linear(flat_BKPX, torch.cat([first_EX, second_EX]))
        first_BKPE, second_BKPE = both_BKPF.chunk(2, dim=-1)
        pair_BKPE = first_BKPE + second_BKPE.flip(2) + self.pair.bias
        if log_length_BKP is not None:
            log_length_BKP = torch.stack([log_length_BKP, log_length_BKP.flip(2)], dim=2)
        return F.relu(self._add_lengths(pair_BKPE, log_length_BKP)).mean(dim=2)

    def _add_lengths(self, pair: torch.Tensor, log_length: torch.Tensor | None) -> torch.Tensor:
        """Adds the projected log lengths (..., P) of the homologs to H' (..., E)."""
        if self.length is None or log_length is None:
            return pair
        numbers = [log_length]
        if not self.single:
            difference = log_length[..., :1] - log_length[..., 1:]
            # Homologs differ by about 0.08 in log length: ten times that is near 1.
            numbers += [10 * difference, 10 * difference.abs()]
        with_lengths: torch.Tensor = pair + self.length(torch.cat(numbers, dim=-1))
        return with_lengths


class BagBlock(nn.Module):
    """Computes the logit of a bag from its weighted pairs (Eq. 9 and 10)."""

    def __init__(self, config: HomNetConfig) -> None:
        super().__init__()
        width = config.pair_width
        self.weight = nn.Sequential(
            nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, 1)
        )
        self.bag = nn.Linear(width, 1)

    def forward(self, pair_BKE: torch.Tensor, mask_BK: torch.Tensor) -> torch.Tensor:
        """Logits (B); the loss and the predictor apply the sigmoid of Eq. 10."""
        weight_BK = self.weights(pair_BKE) * mask_BK
        logit: torch.Tensor = self.bag((weight_BK[:, None] @ pair_BKE).squeeze(1)).squeeze(-1)
        return logit

    def weights(self, pair_BKE: torch.Tensor) -> torch.Tensor:
        """Weight of each pair (B, K), 0..1 (Eq. 9)."""
        return torch.sigmoid(self.weight(pair_BKE)).squeeze(-1)

    def evidence(self, pair_BKE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight of each pair (B, K), and its contribution to the logit of its bag (B, K).

        Eq. 10 is linear in the weighted sum of the pairs, so the logit of a bag is the sum of the
        contributions of its pairs plus the bias.
        """
        weight_BK = self.weights(pair_BKE)
        return weight_BK, weight_BK * (pair_BKE @ self.bag.weight[0])


class HomNet(BagModel):
    """HomNet: maps bags of homologous pairs to logits of abnormality."""

    # Measured with the best form: 192 to 512 are equally fast, 32 a quarter slower (LAB.md).
    cpu_pairs = 256

    def __init__(self, config: HomNetConfig) -> None:
        super().__init__()
        self.config = config
        self.cms = CMSBlock(config)
        self.hom = HomBlock(config)
        self.bag = BagBlock(config)
        self.search = EventSearch(config.search_positions) if config.search_positions else None

    def forward(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        """Scores bags.

        Args:
            x_BKPCL: darkness 0..255, uint8 or float, 0 outside the chromosome.
            mask_BK: True where there is a pair; the content of other places has no effect.
            chromosome_B: index of the chromosome type, 0..23.
            level_BK: index of the cell's band level, 0..3.

        Returns:
            Logits (B); positive is abnormal.
        """
        view = self._view(x_BKPCL)
        pair_BKE = self._pairs(*view, chromosome_B, level_BK)
        single_BK = mask_BK.repeat_interleave(2, dim=1) if self.hom.single else mask_BK
        logit: torch.Tensor = self.bag(pair_BKE, single_BK)
        if self.search is not None and self.search.is_weighted:
            logit = logit + self.search(view[0], mask_BK, chromosome_B)
        return logit

    def contributions(
        self,
        x_NPCL: torch.Tensor,
        chromosome_N: torch.Tensor,
        level_N: torch.Tensor,
        count_T: list[int],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """What single pairs contribute to a bag, before the search compares its pairs.

        Args:
            x_NPCL: darkness of the pairs, as in :meth:`forward`, sorted by type.
            chromosome_N: their types.
            level_N: their band levels.
            count_T: number of pairs of each type.

        Returns:
            The weight of each pair (N), what it adds by itself to the logit (N), float64, and its
            ratios (N, H) for :meth:`EventSearch.contributions`, or None if no search counts.
        """
        # Each pair is a bag of size one here: (N, 1, ...).
        view = self._view(x_NPCL[:, None])
        pair_NKE = self._pairs(*view, chromosome_N, level_N[:, None])
        # One column, or one for each homolog in the form that scores homologs alone.
        weight_NK, added_NK = self.bag.evidence(pair_NKE.float())
        ratio_NH = None
        if self.search is not None and self.search.is_weighted:
            ratio_NH = self.search.ratios(view[0], chromosome_N, count_T).squeeze(1)
        return weight_NK.amax(dim=1), added_NK.double().sum(dim=1), ratio_NH

    def family_scores(
        self, x_BKPCL: torch.Tensor, mask_BK: torch.Tensor, chromosome_B: torch.Tensor
    ) -> torch.Tensor | None:
        """Scores of each family of events in bags (B, F); None if the form has no search."""
        if self.search is None:
            return None
        ratio_BKH = self.search.ratios(self._view(x_BKPCL)[0], chromosome_B)
        return self.search.scores(ratio_BKH, mask_BK)

    def reweighted(
        self,
        weights: Mapping[str, torch.Tensor],
        own: float,
        weight_F: torch.Tensor,
        bias: float,
    ) -> dict[str, torch.Tensor]:
        """See :meth:`BagModel.reweighted`; Eq. 10 is linear: it takes the factor and the bias."""
        return {
            **weights,
            "bag.bag.weight": own * weights["bag.bag.weight"],
            "bag.bag.bias": own * weights["bag.bag.bias"] + bias,
            "search.weight_F": weight_F.to(weights["search.weight_F"]),
        }

    def _pairs(
        self,
        x_BKPCL: torch.Tensor,
        log_length_BKP: torch.Tensor | None,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        """H' (Eq. 8) of each pair (B, K, E), or of each single homolog (B, 2K, E), in the view."""
        r_MBKPD = self.cms(x_BKPCL, chromosome_B, level_BK)
        pair_BKE: torch.Tensor = self.hom(r_MBKPD, log_length_BKP)
        return pair_BKE

    def trunk(
        self, x_BKPCL: torch.Tensor, chromosome_B: torch.Tensor, level_BK: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The part that fine-tuning freezes: CMSBlock and the first alignment.

        Returns:
            Aligned regions (M, B, K, P, D), and the log length of each homolog before stretching
            (B, K, P), or None in the absolute view.
        """
        x_BKPCL, log_length_BKP = self._view(x_BKPCL)
        r_MBKPD = self.cms(x_BKPCL, chromosome_B, level_BK)
        return self.hom.alignments[0](r_MBKPD), log_length_BKP

    def _view(self, x_BKPCL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        config, log_length_BKP = self.config, None
        if config.view == "stretched":
            x_BKPCL, log_length_BKP = stretch(x_BKPCL, config.stretched_length)
            x_BKPCL = x_BKPCL / 255
        elif config.standardise or config.partner or x_BKPCL.is_floating_point():
            x_BKPCL = x_BKPCL.float() / 255
        return (standardise(x_BKPCL) if config.standardise else x_BKPCL), log_length_BKP

    def profiles(self, pair_NPCL: torch.Tensor) -> torch.Tensor | None:
        """Mean profile of each pair (N, L) in the view of this form; None without templates."""
        if self.cms.template_TL is None:
            return None
        x_N1PCL, _ = self._view(pair_NPCL[:, None])
        profile_NL: torch.Tensor = x_N1PCL.mean(dim=(1, 2, 3))
        return profile_NL

    def set_template(self, mean_TL: torch.Tensor) -> None:
        """Sets the mean of :meth:`profiles` of each type (T, L)."""
        if self.cms.template_TL is not None:
            self.cms.template_TL.copy_(mean_TL)

    @torch.no_grad()
    def template_sums(
        self, pair_NPCL: torch.Tensor, chromosome_N: torch.Tensor
    ) -> torch.Tensor | None:
        """See :meth:`BagModel.template_sums`; those of the search come first."""
        sums_TX = super().template_sums(pair_NPCL, chromosome_N)
        if self.search is None or sums_TX is None:  # a form with a search has a template
            return sums_TX
        searched_TY = sums_TX.new_zeros(NUM_TYPES, self.search.num_sums)
        for part, types in zip(pair_NPCL.split(4096), chromosome_N.split(4096), strict=True):
            searched_TY += self.search.sums(self._view(part[:, None])[0], types)
        return torch.cat([searched_TY, sums_TX], dim=1)

    @torch.no_grad()
    def take_sums(self, sums_TX: torch.Tensor) -> None:
        """See :meth:`BagModel.take_sums`."""
        if self.search is not None:
            searched_TY, sums_TX = sums_TX.tensor_split([self.search.num_sums], dim=1)
            self.search.take_sums(searched_TY, sums_TX[:, -1])
        super().take_sums(sums_TX)

    def freeze_for_fine_tuning(self) -> None:
        """Freezes CMSBlock and the first alignment of HomBlock (paper, section 4.1)."""
        self.cms.requires_grad_(requires_grad=False)
        self.hom.alignments[0].requires_grad_(requires_grad=False)


def paper_form(merge_range: int = 32) -> HomNetConfig:
    """Returns the form with the paper's equations as printed, with the raw ratio in Eq. 6."""
    return HomNetConfig(merge_range=merge_range, attention="ratio")


def best_form(merge_range: int = 32, search_positions: int = 32) -> HomNetConfig:
    """Returns the most accurate form; LAB.md has the effect of each change from the paper."""
    return HomNetConfig(
        merge_range=merge_range,
        view="stretched",
        standardise=True,
        template=True,
        partner=True,
        normalise_regions=True,
        symmetric=True,
        search_positions=search_positions,
    )


def num_parameters(model: nn.Module) -> int:
    """Number of parameters, frozen ones too, counted by value."""
    return sum(p.numel() for p in model.parameters())


def flops_per_bag(config: HomNetConfig, num_cells: int) -> int:
    """Floating-point operations in the forward pass of one bag (two per multiply-add).

    As in training: without the search over events, which adds a sixth to a third when scoring.
    """
    with torch.device("meta"):
        model = HomNet(config)
        bag = (
            torch.zeros(1, num_cells, 2, 2, SEQUENCE_LENGTH),
            torch.ones(1, num_cells, dtype=torch.bool),
            torch.zeros(1, dtype=torch.long),
            torch.zeros(1, num_cells, dtype=torch.long),
        )
        with FlopCounterMode(display=False) as counter:
            model(*bag)
    return int(counter.get_total_flops())


def _distinct_regions(
    patch_MBKPX: torch.Tensor, kind_BK: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Finds the regions whose features before Eq. 4 can differ.

    Most sequences end long before position 512 and are zero from there. Features of empty regions
    depend only on type, band level and region number.

    Args:
        patch_MBKPX: content of the regions.
        kind_BK: index of the combination of type and level, 0..24 * 4 - 1.

    Returns:
        One place for each of R distinct regions, as a flat index into (M, B, K, P), and the index
        of the distinct region of every place (M, B, K, P), 0..R-1.
    """
    device = patch_MBKPX.device
    filled_MBKP = (patch_MBKPX != 0).any(dim=-1)
    place_MBKP = torch.arange(filled_MBKP.numel(), device=device).view(filled_MBKP.shape)
    # Indices with gaps: first the empty regions by region and kind, then each filled region.
    num_kinds = NUM_TYPES * NUM_LEVELS
    num_empty = len(patch_MBKPX) * num_kinds
    first_M = torch.arange(0, num_empty, num_kinds, device=device)
    empty_MBK1 = (first_M[:, None, None] + kind_BK)[..., None]
    number_MBKP = torch.where(filled_MBKP, num_empty + place_MBKP, empty_MBK1)
    used = torch.zeros(num_empty + place_MBKP.numel(), dtype=torch.bool, device=device)
    used[number_MBKP] = True
    row_MBKP = (used.cumsum(0) - 1)[number_MBKP]
    # Any of several equal places can be used.
    place_R = torch.empty(int(used.sum()), dtype=torch.long, device=device)
    place_R[row_MBKP] = place_MBKP
    return place_R, row_MBKP


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Scales bytes to 0..1; fractions and standardised values are unchanged."""
    return x if x.is_floating_point() else x.float() / 255


def _mlp(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, 2 * width, bias=False), nn.ReLU(), nn.Linear(2 * width, width, bias=False)
    )
