"""The four simulated hospitals: their equipment, their preparations and their patients.

Figures are calibrated against two sets of real images: hospital-1 stands near the one, hospital-3
near the other, and the remaining two lie apart from both. Kinds of abnormality follow published
rates (Jacobs 1992, Van Dyke 1983, Warburton 1991), weighted by what such a hospital sees.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from homnet.chromosomes import BAND_LEVELS
from homnet.errors import ConfigError

KINDS: Final = (
    "translocation",
    "inversion",
    "deletion",
    "robertsonian",
    "duplication",
    "addition",
    "insertion",
)
"""Structural abnormalities of simulated patients; an addition is an unbalanced derivative."""


@dataclass(frozen=True)
class Laboratory:
    """How a laboratory's chromosomes look: preparation, staining, microscope and camera."""

    samples_per_px: float = 3.0
    """Samples of a sequence per image pixel."""
    px_per_iscn: float = 0.0078
    """Image pixels per ISCN unit in the median cell."""
    halo_px: float = 1.5
    """Pixels that blur adds to each end of a chromosome."""
    band_levels: tuple[float, float, float, float] = (0.1, 0.3, 0.4, 0.2)
    """Share of cells at 300, 400, 550 and 700 bands."""
    condensation_sd: float = 0.08
    """Standard deviation between cells of the log length, beside what the band level explains."""
    type_length_sd: float = 0.035
    """Standard deviation of the log length shared by both homologs of a type in a cell."""
    length_sd: float = 0.044
    """Scale of the log length of each chromosome by itself (Student's t, 6 degrees of freedom)."""
    tip_px: float = 0.75
    """Standard deviation in pixels by which each measured end misses the true one."""
    warp: float = 0.022
    """Amplitude of uneven condensation along a chromosome, as a share of its length."""
    bend_sd: float = 0.88
    """Standard deviation in radians of the bending angle of a chromosome of 10,000 ISCN units;
    longer ones bend more. An angle of 1.6 gives chord/arc of 0.9."""
    darkness: float = 146.0
    """Mean darkness, 255 - grey, of a band of medium staining."""
    contrast: float = 128.0
    """Grey levels between a white and a black band before blurring."""
    person_darkness_sd: float = 4.3
    """Standard deviation of the darkness between people, grey levels."""
    cell_darkness_sd: float = 2.5
    """Standard deviation of the darkness between cells of a person, grey levels."""
    offset_sd: float = 0.5
    """Standard deviation of the darkness of each chromosome by itself, grey levels."""
    gain_sd: float = 0.03
    """Standard deviation of each chromosome's log contrast."""
    blur_px: float = 1.3
    """Standard deviation of the point spread function of a cell in focus, pixels."""
    defocus_px: float = 2.6
    """The same for a cell quite out of focus; cells lie between the two."""
    chromatid_texture: float = 19.5
    """Standard deviation of what differs between the chromatids, grey levels."""
    homolog_texture: float = 5.0
    """Standard deviation of what both chromatids share and the other homolog lacks, grey levels."""
    chromatid_shading: float = 5.0
    """Standard deviation of uneven staining of each chromatid by itself, grey levels."""
    homolog_shading: float = 4.0
    """Standard deviation of uneven staining that both chromatids share, grey levels."""
    texture_spread: float = 0.25
    """Standard deviation of the log of a chromosome's texture: some are clean, some are not."""
    chromatid_offset: float = 5.0
    """Standard deviation of a chromatid's darkness by itself, grey levels."""
    grain: float = 2.6
    """Standard deviation of the noise of each sample by itself, grey levels."""
    flip_rate: float = 0.03
    """Share of chromosomes that were placed upside down."""
    missing_rate: float = 0.02
    """Share of chromosomes that are missing from their cell."""


def _even_mix() -> dict[str, float]:
    return {
        "translocation": 0.32,
        "inversion": 0.21,
        "deletion": 0.17,
        "robertsonian": 0.14,
        "duplication": 0.08,
        "addition": 0.05,
        "insertion": 0.03,
    }


@dataclass(frozen=True)
class HospitalConfig:
    """A hospital: its laboratory and the people whose chromosomes it sees."""

    name: str
    """Pseudonym, the hospital column of the cohort."""
    laboratory: Laboratory = field(default_factory=Laboratory)
    """Equipment and preparation."""
    abnormal_fraction: float = 0.6
    """Share of the patients with a structural abnormality (one each), carried by all their cells.
    With 0.6, about 3 to 4 % of the pairs are abnormal, as in section 2.1 of the paper."""
    kinds: Mapping[str, float] = field(default_factory=_even_mix)
    """Weight of each of :data:`KINDS` among abnormal patients."""
    median_size_mb: float = 25.0
    """Median size of the rearranged segment."""
    size_spread: float = 0.8
    """Standard deviation of the log size: 0.8 puts 5..95 % at about 7..90 Mb."""
    exchange_spread: float = 0.4
    """Standard deviation of the log ratio of the two ends that a translocation exchanges. Below
    that of unrelated sizes (1.1), so that length alone does not give translocations away."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown:
            raise ConfigError(
                f"hospital '{self.name}': unknown kind of abnormality '{unknown[0]}'; "
                f"choose among {', '.join(KINDS)}"
            )
        if not 0.0 <= self.abnormal_fraction <= 1.0:
            raise ConfigError(
                f"hospital '{self.name}': abnormal_fraction is {self.abnormal_fraction}; "
                "give a share between 0 and 1"
            )
        levels = self.laboratory.band_levels
        if min(levels) < 0.0 or abs(sum(levels) - 1.0) > 1e-6:
            raise ConfigError(
                f"hospital '{self.name}': the shares of the band levels {BAND_LEVELS} are "
                f"{levels}; they must add up to 1"
            )


def hospitals() -> tuple[HospitalConfig, HospitalConfig, HospitalConfig, HospitalConfig]:
    """The four hospitals with patients, unlike one another as real ones are.

    Hospital 1 is a general laboratory with long, well spread chromosomes. Hospital 2 serves couples
    who want children and sees mostly balanced rearrangements, at low contrast. Hospital 3 is
    prenatal: short, pale, sharp chromosomes and unbalanced findings. Hospital 4 has a finer camera
    and the best preparations.
    """
    return (
        HospitalConfig("hospital-1"),
        HospitalConfig(
            "hospital-2",
            Laboratory(
                px_per_iscn=0.0066,
                band_levels=(0.15, 0.45, 0.3, 0.1),
                darkness=122.0,
                contrast=105.0,
                blur_px=1.5,
                warp=0.025,
                missing_rate=0.03,
            ),
            kinds={
                "translocation": 0.42,
                "inversion": 0.28,
                "robertsonian": 0.2,
                "insertion": 0.04,
                "deletion": 0.04,
                "duplication": 0.02,
            },
        ),
        HospitalConfig(
            "hospital-3",
            Laboratory(
                px_per_iscn=0.0055,
                halo_px=2.0,
                band_levels=(0.3, 0.5, 0.18, 0.02),
                condensation_sd=0.14,
                tip_px=0.7,
                warp=0.018,
                darkness=106.0,
                contrast=110.0,
                person_darkness_sd=10.0,
                cell_darkness_sd=6.9,
                chromatid_texture=15.0,
                homolog_texture=3.0,
                chromatid_shading=3.0,
                homolog_shading=3.0,
                chromatid_offset=2.5,
                flip_rate=0.01,
                missing_rate=0.06,
            ),
            kinds={
                "deletion": 0.32,
                "addition": 0.18,
                "duplication": 0.16,
                "translocation": 0.14,
                "inversion": 0.08,
                "robertsonian": 0.08,
                "insertion": 0.04,
            },
        ),
        HospitalConfig(
            "hospital-4",
            Laboratory(
                px_per_iscn=0.0084,
                band_levels=(0.03, 0.17, 0.45, 0.35),
                condensation_sd=0.07,
                darkness=126.0,
                contrast=145.0,
                blur_px=1.15,
                warp=0.018,
                tip_px=0.7,
                chromatid_texture=16.0,
                homolog_texture=4.0,
                flip_rate=0.01,
                missing_rate=0.015,
            ),
            kinds={
                "translocation": 0.28,
                "inversion": 0.22,
                "deletion": 0.22,
                "robertsonian": 0.12,
                "duplication": 0.1,
                "insertion": 0.04,
                "addition": 0.02,
            },
        ),
    )


def healthy() -> HospitalConfig:
    """The healthy people, drawn with hospital 1's equipment as in the paper."""
    return HospitalConfig("healthy-1", hospitals()[0].laboratory, abnormal_fraction=0.0)
