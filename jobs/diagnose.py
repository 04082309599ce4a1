"""Verdicts on patients, with a report on each: calibrate, diagnose, measure.

python jobs/diagnose.py calibrate --cohort cohorts/simulated --checkpoint runs/fine_tune
python jobs/diagnose.py patients --cohort cohorts/new --checkpoint runs/calibrate
python jobs/diagnose.py patients --karyograms karyograms --output runs/mine
python jobs/diagnose.py patients --manifest images/manifest.csv --output runs/images
python jobs/diagnose.py measure --diagnosis runs/diagnose --cohort cohorts/new

A reader says what was found and where: the one that was calibrated with the model, or --findings.
Given to "calibrate", what it says of a type counts in the verdict.
"""

from homnet_platform.job import run_job
from homnet_platform.patients.calibration import CalibrateConfig, calibrate
from homnet_platform.patients.diagnosis import DiagnoseConfig, diagnose, facts
from homnet_platform.patients.measurement import MeasureConfig, measure

STEPS: dict[str, CalibrateConfig | DiagnoseConfig | MeasureConfig] = {
    "calibrate": CalibrateConfig(),
    "patients": DiagnoseConfig(),
    "measure": MeasureConfig(),
}


def main(config: CalibrateConfig | DiagnoseConfig | MeasureConfig) -> None:
    """Does the step that was asked for."""
    if isinstance(config, CalibrateConfig):
        calibrate(config)
    elif isinstance(config, DiagnoseConfig):
        diagnose(config)
    else:
        measure(config)


if __name__ == "__main__":
    run_job(STEPS, main, description=__doc__, facts=facts)
