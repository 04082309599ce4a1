"""Fits the simulator's laboratory to half of a hospital's people, so that it draws their look.

python jobs/fit_laboratory.py --cohort cohorts/pki3 --hospital pki3 --output pki3.json
python jobs/simulate.py --laboratory pki3.json --output cohorts/pki3-simulated

The other half stays unseen; jobs/records/realism.py judges the result on them.
"""

import time

from homnet_platform.job import run_job
from homnet_platform.laboratory_fitting import FitLaboratoryConfig, fit


def main(config: FitLaboratoryConfig) -> None:
    """Fits, and says where the file lies."""
    begin_s = time.monotonic()
    fitted = fit(config)
    print(
        f"laboratory: {config.output} (fitted to {len(fitted.patients)} people in "
        f"{time.monotonic() - begin_s:.0f} s)"
    )


if __name__ == "__main__":
    run_job(FitLaboratoryConfig, main, description=__doc__)
