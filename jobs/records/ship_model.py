r"""Makes the model that comes with the package, from runs on simulated people.

python jobs/simulate.py --output cohorts/rearranged --seed 108 --num-healthy 0 \
    --num-patients 12500 12500 12500 12500 --abnormal-fraction 0.9 --patient-cells 6 \
    --rearranged-types --variant-inversions 20
python jobs/pretrain.py simulated --cohort cohorts/rearranged --output runs/pretrain \
    --training.max-epochs 2
python jobs/simulate.py --output cohorts/rearranged-2 --seed 109 --num-healthy 0 \
    --num-patients 7500 7500 7500 7500 --abnormal-fraction 0.9 --patient-cells 6 \
    --rearranged-types --variant-inversions 20
python jobs/learn_reader.py --cohort cohorts/rearranged-2 --checkpoint runs/pretrain/checkpoint \
    --training.optimiser.max-epochs 1 --training.optimiser.bags.num-cells 6 \
    --training.fewest-cells 2
python jobs/simulate.py --output cohorts/rearranged-3 --seed 112 --num-healthy 0 \
    --num-patients 7500 7500 7500 7500 --abnormal-fraction 0.9 --patient-cells 6 \
    --rearranged-types --variant-inversions 20
python jobs/learn_reader.py --cohort cohorts/rearranged-3 --checkpoint runs/pretrain/checkpoint \
    --start runs/findings/checkpoint --output runs/findings-2 --training.optimiser.max-epochs 1 \
    --training.optimiser.bags.num-cells 6 --training.fewest-cells 3 \
    --training.optimiser.learning-rate 1e-3
python jobs/simulate.py --output cohorts/patients --seed 110 --num-healthy 0 \
    --num-patients 600 600 600 600 --abnormal-fraction 0.2
python jobs/diagnose.py calibrate --cohort cohorts/patients --checkpoint runs/pretrain/checkpoint \
    --findings runs/findings-2/checkpoint --split.validation 0.5 --split.test 0.49 \
    --specificity 0.98
python jobs/diagnose.py patients --cohort cohorts/patients --checkpoint runs/calibrate \
    --patients test --split.validation 0.5 --split.test 0.49 --pages none
python jobs/diagnose.py measure --cohort cohorts/patients --record.file results/shipped-model.json \
    --record.claim "Verdicts of the model that comes with the package"
python jobs/simulate.py --output cohorts/fresh --seed 111 --num-healthy 0 \
    --num-patients 100 100 100 100 --abnormal-fraction 0.25
python jobs/records/ship_model.py --example cohorts/fresh
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.compute as pc

from homnet.calibration.patients import ALL_HOSPITALS
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import MEASURED
from homnet.errors import ConfigError, DataError
from homnet.files import replacing_directory
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.shipped import FOLDER
from homnet.patients.diagnostician import Diagnostician, diagnose
from homnet.reader.network import ReaderConfig
from homnet.reader.reading import CalibratedReader
from homnet.records.model_card import model_card
from homnet.results import read_json
from homnet_platform.job import run_job
from homnet_serve.arrow_stream import write_stream

_CONTENT: Final = frozenset({"checkpoint", "reader", "example.arrow", "README.md"})
"""Names in the folder of the model, as :mod:`homnet.model.shipped` describes them."""


@dataclass(frozen=True)
class ShipConfig:
    """What goes into the package."""

    calibrated: Path = Path("runs/calibrate")
    """Output of ``jobs/diagnose.py calibrate``: one model with a calibration for each hospital, and
    its reader."""
    result: Path = Path("results/shipped-model.json")
    """Its record on held-out patients, for the model card."""
    example: Path = Path("cohorts/fresh")
    """Cohort of other simulated patients, from which the example is taken."""
    output: Path = FOLDER
    """Folder in the package; replaced. One that holds anything else is refused."""


def main(config: ShipConfig) -> None:
    """Writes model, reader, example and model card."""
    present = config.output.iterdir() if config.output.is_dir() else ()
    strange = sorted({path.name for path in present} - _CONTENT)
    if strange:
        raise ConfigError(
            f"{config.output}: holds {strange[0]}, which does not belong to a model and would be "
            "removed with it; choose another --output"
        )
    parts = [Checkpoint.load(path) for path in sorted(config.calibrated.glob("*/checkpoint"))]
    if len({one.version for one in parts}) != 1:
        raise DataError(f"{config.calibrated}: one model for all hospitals is wanted here")
    patients = {name: one for part in parts for name, one in part.patients.items()}
    own = {name: one for name, one in patients.items() if name != ALL_HOSPITALS}
    checkpoint = dataclasses.replace(
        parts[0], patients={**own, ALL_HOSPITALS: patients[ALL_HOSPITALS]}
    )
    reader = Checkpoint.load(config.calibrated / "reader", ReaderConfig.of_json)
    example = _example(config.example, checkpoint, reader)
    card = model_card(read_json(config.result), checkpoint, reader)
    with replacing_directory(config.output) as made:
        checkpoint.save(made / "checkpoint")
        reader.save(made / "reader")
        (made / "example.arrow").write_bytes(example)
        (made / "README.md").write_text(card, encoding="utf-8")
    size = sum(path.stat().st_size for path in config.output.rglob("*") if path.is_file())
    print(f"{config.output}: {size / 1e6:.1f} MB, model {checkpoint.version[:12]}")


def _example(cohort: Path, checkpoint: Checkpoint, above: Checkpoint) -> bytes:
    """The first abnormal patient whose verdict is right: one flagged type, with a draft name."""
    opened = Cohort.open(str(cohort))
    reader = CalibratedReader.of_checkpoint(above)
    judge = Diagnostician(checkpoint, reader=reader.version)
    predictor = Predictor.of_checkpoint(checkpoint)
    for entry in opened.files:
        table = opened.read(entry)
        for patient in entry.patients:
            own = table.filter(pc.equal(table["patient_id"], patient))
            wrong = own.filter(own["abnormal"])["chromosome"].unique().to_pylist()
            if len(wrong) != 1:
                continue
            (verdict,) = diagnose(judge, predictor, own, reader)
            named = [one.chromosome for one in verdict.flagged if one.draft is not None]
            if verdict.decision == "abnormal" and named == wrong and len(verdict.flagged) == 1:
                return write_stream(own.select(MEASURED.names).cast(MEASURED))
    raise DataError(f"{cohort}: nobody of these patients makes an example")


if __name__ == "__main__":
    run_job(ShipConfig, main, description=__doc__)
