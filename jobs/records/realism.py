r"""Compares simulated chromosomes with real ones, and says what lengths alone give away.

python jobs/records/realism.py --simulated cohorts/pki3-simulated --real cohorts/pki3 \
    --output realism

Without --real it looks only at the lengths of simulated abnormalities. The page of real chromosomes
in the output is as confidential as the images themselves.
"""

from homnet_platform.job import run_job
from homnet_platform.records.realism import RealismConfig, compare

if __name__ == "__main__":
    run_job(RealismConfig, compare, description=__doc__)
