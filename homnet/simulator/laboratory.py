"""The four simulated hospitals: their equipment, their preparations and their patients.

Parameters are calibrated against two sets of real images: hospital-1 is close to one, hospital-3 to
the other, and the other two differ from both. Kinds of abnormality follow published rates (Jacobs
1992, Van Dyke 1983, Warburton 1991), weighted by the patients of each hospital.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from homnet.errors import ConfigError
from homnet.imaging.karyogram import PX_PER_ISCN
from homnet.karyotype.chromosomes import BAND_LEVELS
from homnet.karyotype.kinds import SIMULATED
from homnet.simulator.atlas import BandAppearance
from homnet.simulator.recurrent import CONTEXTS


@dataclass(frozen=True)
class Laboratory:
    """Preparation, staining, microscope and camera of a laboratory."""

    samples_per_px: float = 3.0
    """Samples of a sequence per image pixel."""
    px_per_iscn: float = PX_PER_ISCN
    """Image pixels per ISCN unit in the median cell."""
    halo_px: float = 1.5
    """Length that blur adds to each end of a chromosome, pixels."""
    band_levels: tuple[float, float, float, float] = (0.1, 0.3, 0.4, 0.2)
    """Share of cells at 300, 400, 550 and 700 bands."""
    condensation_sd: float = 0.085
    """Standard deviation of the log length between cells of one band level."""
    type_length_sd: float = 0.035
    """Standard deviation of the log length shared by both homologs of a type in a cell."""
    length_sd: float = 0.04
    """Scale of the log length between chromosomes of a cell (Student's t, 6 degrees of freedom)."""
    tip_px: float = 1.2
    """Standard deviation of the error of each measured end, pixels."""
    warp: float = 0.019
    """Amplitude of uneven condensation along a chromosome, as a share of its length."""
    bend: float = 0.47
    """Median bending angle in radians of a chromosome of 10,000 ISCN units; longer ones bend more.
    An angle of 1.6 gives chord/arc of 0.9."""
    bend_spread: float = 0.75
    """Standard deviation of the log of the bending angle."""
    bend_growth: float = 0.65
    """Exponent of the bending angle as a function of length."""
    edge: float = 38.0
    """Darkness to which a chromosome fades at its ends, grey levels."""
    edge_px: float = 0.3
    """Standard deviation of the cut position, pixels; cuts are about half a pixel inside."""
    edge_sd: float = 22.0
    """Standard deviation of the darkness specific to an end, grey levels."""
    end_px: float = 1.35
    """Standard deviation of the blur that rounds the ends, pixels."""
    end_spread: float = 0.1
    """Standard deviation of the log of ``end_px`` between ends."""
    uneven_edge: float = 11.0
    """Standard deviation of the darkness of a chromatid's end around the mean of both."""
    shift_px: float = 0.6
    """Standard deviation of the shift of a chromatid's bands from the mean of both, pixels; it
    varies along the chromosome."""
    darkness: float = 146.0
    """Mean darkness, 255 - grey, of a band of medium staining."""
    contrast: float = 124.0
    """Grey levels between a white and a black band before blurring."""
    person_darkness_sd: float = 3.0
    """Standard deviation of the darkness between people, grey levels."""
    cell_darkness_sd: float = 4.2
    """Standard deviation of the darkness between cells of a person, grey levels."""
    offset_sd: float = 2.0
    """Standard deviation of the darkness between chromosomes of a cell, grey levels."""
    gain_sd: float = 0.08
    """Standard deviation of each chromosome's log contrast."""
    cell_gain_sd: float = 0.07
    """Standard deviation of the log contrast between cells."""
    condensed_darkness: float = 10.0
    """Increase of darkness per unit of log length by which a chromosome is shorter, grey levels."""
    condensed_gain: float = 0.3
    """Increase of log contrast per unit of log length by which a chromosome is shorter."""
    condensed_ends: float = 25.0
    """Additional increase at its ends, grey levels."""
    saturation: float = 0.007
    """Relative loss of contrast per grey level of darkness: the camera's response."""
    blur_px: float = 1.3
    """Standard deviation of the point spread function of a cell in focus, pixels."""
    defocus_px: float = 3.5
    """The same for a cell out of focus; cells lie between the two."""
    chromatid_texture: tuple[float, float, float] = (5.5, 11.0, 6.5)
    """Standard deviation of texture specific to a chromatid, grey levels, at the three scales of
    :data:`homnet.simulator.staining.TEXTURE_KNOTS`: a pixel, a band, and uneven staining over
    several bands."""
    homolog_texture: tuple[float, float, float] = (1.4, 5.0, 3.0)
    """The same for texture shared by both chromatids of a homolog."""
    pair_texture: tuple[float, float, float] = (1.2, 7.0, 6.5)
    """The same for texture shared by both homologs of a cell."""
    texture_spread: tuple[float, float, float] = (0.2, 0.05, 0.05)
    """Standard deviation of the log of these textures between chromosomes."""
    cell_texture_spread: float = 0.12
    """Standard deviation of the log of all texture between cells."""
    chromatid_offset: float = 5.0
    """Standard deviation of the darkness between chromatids, grey levels."""
    flip_rate: float = 0.023
    """Share of chromosomes that are upside down."""
    missing_rate: float = 0.02
    """Share of chromosomes that are missing from their cell."""
    bands: BandAppearance | None = None
    """Darkness and length of its bands; None for those of the ideogram tables."""


def _even_mix() -> dict[str, float]:
    return {
        "translocation": 0.3,
        "inversion": 0.2,
        "deletion": 0.16,
        "robertsonian": 0.14,
        "duplication": 0.08,
        "addition": 0.05,
        "insertion": 0.03,
        "isochromosome": 0.025,
        "ring": 0.015,
    }


@dataclass(frozen=True)
class HospitalConfig:
    """A hospital: its laboratory and its patients."""

    name: str
    """Pseudonym, the hospital column of the cohort."""
    laboratory: Laboratory = field(default_factory=Laboratory)
    """Equipment and preparation."""
    abnormal_fraction: float = 0.6
    """Share of patients with a structural abnormality (one each). With 0.6, about 3 to 4 % of the
    pairs are abnormal, as in section 2.1 of the paper."""
    kinds: Mapping[str, float] = field(default_factory=_even_mix)
    """Weight of each of :data:`SIMULATED` among abnormal patients."""
    context: str = "constitutional"
    """Patient group, one of :data:`homnet.simulator.recurrent.CONTEXTS`."""
    recurrent_share: float = 0.1
    """Share of abnormal patients with a recurrent abnormality of the context, of one of the kinds
    above."""
    mosaic_share: float = 0.1
    """Share of abnormal patients who are mosaic: only some cells carry the abnormality."""
    clone_fraction: tuple[float, float] = (0.1, 0.9)
    """Smallest and largest share of abnormal cells in a mosaic patient; at least one cell."""
    median_size_mb: float = 25.0
    """Median size of the rearranged segment."""
    size_spread: float = 0.8
    """Standard deviation of the log size: 0.8 puts 5 to 95 % at about 7 to 90 Mb."""
    exchange_spread: float = 0.4
    """Standard deviation of the log ratio of the two ends exchanged by a translocation or an
    addition, and of an insertion's size. It is smaller than for unrelated sizes (1.1), so that
    length alone does not reveal translocations."""
    variant_inversions: float = 1.0
    """Factor on the rates of normal-variant inversions, such as inv(9)."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(SIMULATED))
        if unknown:
            raise ConfigError(
                f"hospital '{self.name}': unknown kind of abnormality '{unknown[0]}'; "
                f"choose among {', '.join(SIMULATED)}"
            )
        if self.context not in CONTEXTS:
            raise ConfigError(
                f"hospital '{self.name}': unknown context '{self.context}'; "
                f"choose among {', '.join(CONTEXTS)}"
            )
        for name in ("abnormal_fraction", "recurrent_share", "mosaic_share"):
            share = getattr(self, name)
            if not 0.0 <= share <= 1.0:
                raise ConfigError(
                    f"hospital '{self.name}': {name} is {share}; give a share between 0 and 1"
                )
        if self.variant_inversions < 0.0:
            raise ConfigError(
                f"hospital '{self.name}': variant_inversions is {self.variant_inversions:g}; "
                "give a factor of 0 or more"
            )
        low, high = self.clone_fraction
        if not 0.0 < low <= high <= 1.0:
            raise ConfigError(
                f"hospital '{self.name}': clone_fraction is {self.clone_fraction}; "
                "give two shares above 0, the smaller one first"
            )
        levels = self.laboratory.band_levels
        if min(levels) < 0.0 or abs(sum(levels) - 1.0) > 1e-6:
            raise ConfigError(
                f"hospital '{self.name}': the shares of the band levels {BAND_LEVELS} are "
                f"{levels}; they must add up to 1"
            )


def hospitals() -> tuple[HospitalConfig, HospitalConfig, HospitalConfig, HospitalConfig]:
    """Returns four hospitals with patients, as different as real hospitals.

    Hospital 1 is a general laboratory with long, well spread chromosomes. Hospital 2 examines
    couples with reproductive problems and sees mostly balanced rearrangements, at low contrast.
    Hospital 3 is prenatal: short, pale, sharp chromosomes and unbalanced findings. Hospital 4 has a
    finer camera and the best preparations. It examines the bone marrow of leukaemia patients:
    recurrent abnormalities, half of them mosaic.
    """
    return (
        HospitalConfig("hospital-1"),
        HospitalConfig(
            "hospital-2",
            Laboratory(
                px_per_iscn=0.0066,
                band_levels=(0.15, 0.45, 0.3, 0.1),
                edge=33.0,
                darkness=122.0,
                contrast=105.0,
                blur_px=1.5,
                warp=0.022,
                missing_rate=0.03,
            ),
            kinds={
                "translocation": 0.42,
                "inversion": 0.28,
                "robertsonian": 0.2,
                "insertion": 0.04,
                "deletion": 0.03,
                "duplication": 0.02,
                "ring": 0.01,
            },
        ),
        HospitalConfig(
            "hospital-3",
            Laboratory(
                px_per_iscn=0.0055,
                halo_px=2.0,
                band_levels=(0.3, 0.5, 0.18, 0.02),
                condensation_sd=0.14,
                warp=0.016,
                edge=32.0,
                edge_sd=16.0,
                uneven_edge=8.0,
                darkness=106.0,
                contrast=110.0,
                person_darkness_sd=10.0,
                cell_darkness_sd=6.9,
                chromatid_texture=(4.5, 8.5, 5.0),
                homolog_texture=(1.0, 3.5, 2.5),
                pair_texture=(1.0, 5.0, 5.0),
                chromatid_offset=3.5,
                flip_rate=0.01,
                missing_rate=0.06,
            ),
            kinds={
                "deletion": 0.29,
                "addition": 0.19,
                "duplication": 0.14,
                "translocation": 0.16,
                "inversion": 0.12,
                "robertsonian": 0.05,
                "insertion": 0.02,
                "isochromosome": 0.02,
                "ring": 0.01,
            },
            recurrent_share=0.2,
            median_size_mb=19.0,
        ),
        HospitalConfig(
            "hospital-4",
            Laboratory(
                px_per_iscn=0.0084,
                band_levels=(0.03, 0.17, 0.45, 0.35),
                condensation_sd=0.07,
                edge=34.0,
                darkness=126.0,
                contrast=140.0,
                blur_px=1.15,
                warp=0.016,
                tip_px=1.0,
                flip_rate=0.01,
                missing_rate=0.015,
            ),
            kinds={
                "translocation": 0.39,
                "inversion": 0.26,
                "deletion": 0.18,
                "addition": 0.08,
                "duplication": 0.03,
                "isochromosome": 0.03,
                "insertion": 0.02,
                "ring": 0.01,
            },
            context="haematological",
            recurrent_share=0.35,
            mosaic_share=0.5,
            clone_fraction=(0.1, 1.0),
        ),
    )


def healthy() -> HospitalConfig:
    """Returns the healthy people, simulated with the equipment of hospital 1 as in the paper."""
    return HospitalConfig("healthy-1", hospitals()[0].laboratory, abnormal_fraction=0.0)
