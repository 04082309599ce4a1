"""The paper's tables of methods: HomNet, eleven baselines and two floors, all by one protocol.

python jobs/reproduce.py --table 2 --cohort cohorts/simulated --scale 0.01 --output runs/table-2

Table 2: simulated hospitals, pre-training and fine-tuning. Table 3: artificial abnormalities of
normal pairs, for example of real images. Table 4: HomNet taken apart. Table 5: seconds. A job that
was killed continues with the same command.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from homnet.report import (
    ablation_beside_paper,
    comparison_markdown,
    draw_comparison,
    running_time_markdown,
)
from homnet_baselines.fitted import fit
from homnet_baselines.methods import TRIALS, Trials, comparators
from homnet_platform.ablation import ablate
from homnet_platform.job import run_job
from homnet_platform.paper_table import TableConfig, ablation_of, plan_of
from homnet_platform.reproduction import HOMNET, refuse_failed, reproduce
from homnet_platform.running_time import time_methods
from homnet_platform.method_trials import Method


def methods_of(config: TableConfig) -> dict[str, Method]:
    """The lines of the table: floors, baselines and HomNet."""
    forms = {**comparators(config.setting, config.width), HOMNET: config.homnet}
    return {
        name: Method(form, fit, **dataclasses.asdict(TRIALS.get(name, Trials())))
        for name, form in forms.items()
    }


def main(config: TableConfig) -> None:
    """Makes one table."""
    plan, output = plan_of(config), Path(config.output)
    if config.table == 4:
        figures = ablate(ablation_of(config))
        table = ablation_beside_paper(figures)
    elif config.table == 5:
        figures = time_methods(plan, methods_of(config), config.num_batches)
        table = running_time_markdown(figures)
    else:
        figures = reproduce(plan, methods_of(config))
        table = comparison_markdown(figures)
        if figures["rows"]:
            draw_comparison(figures, output / f"table-{config.table}.png")
    (output / f"table-{config.table}.md").write_text(table)
    print(table)
    refuse_failed(figures)


def facts(config: TableConfig) -> Mapping[str, object]:
    """What a dry run says: the runs; their cost is measured when the job starts."""
    plan, methods = plan_of(config), methods_of(config)
    lines = [name for name in methods if name in (config.methods or methods)]
    trials = sum(len(methods[name].pretraining) or 1 for name in lines)
    return {
        "methods": ", ".join(lines),
        "runs": len(lines) * len(config.seeds),
        "pre-trainings": trials * len(config.seeds),
        "epochs of each": plan.epochs,
        "share of the people": plan.share_of_people,
    }


if __name__ == "__main__":
    run_job(TableConfig, main, description=__doc__, facts=facts)
