r"""Says how well each simulated abnormality could be seen by somebody who knows it.

python jobs/simulate.py --output cohorts/oracle --num-healthy 0 --patient-cells 200
python jobs/records/oracle.py --cohort cohorts/oracle \
    --scores runs/hospitals-evaluation/scores.parquet

The people of both must be the same: the same seed and numbers of patients.
"""

from homnet.bags.draw import PairBank
from homnet.cohorts.cohort import Cohort
from homnet.evaluation.score_table import read_scores
from homnet.records.oracle import (
    OracleConfig,
    beside_model,
    oracle_markdown,
    summarise,
    visible_events,
)
from homnet_platform.job import run_job


def main(config: OracleConfig) -> None:
    """Measures, prints the table, and writes the result of record if one was asked for."""
    scores = None if config.scores is None else read_scores(config.scores)
    events = visible_events(PairBank.from_table(Cohort.open(config.cohort).read()), config)
    figures = summarise(events if scores is None else beside_model(events, scores))
    config.record.write(
        {"oracle": figures},
        recipe="oracle",
        seed=config.seed,
    )
    print(oracle_markdown(figures))


if __name__ == "__main__":
    run_job(OracleConfig, main, description=__doc__)
