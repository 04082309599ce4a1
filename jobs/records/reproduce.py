"""The paper's tables: HomNet, eleven baselines and two floors, all by one protocol.

python jobs/records/reproduce.py --table 2 --cohort cohorts/simulated --output runs/table-2

Table 2: simulated hospitals, pre-training and fine-tuning. Table 3: artificial abnormalities of
normal pairs, for example of real images. Table 4: HomNet taken apart. Table 5: seconds. What it
will cost is measured and printed first. A job that was killed continues with the same command.
"""

import dataclasses
from collections.abc import Mapping

from homnet.model.contract import Form
from homnet.records.beside_paper import (
    HOMNET,
    PAPER_FORM,
    ablation_beside_paper,
    comparison_markdown,
    running_time_markdown,
)
from homnet.records.comparison_plots import draw_comparison, draw_running_time
from homnet_baselines.fitted import fit
from homnet_baselines.methods import comparators, in_steps, trials_of
from homnet_platform.job import run_job
from homnet_platform.records.ablation import ablate
from homnet_platform.records.methods import Method
from homnet_platform.records.paper_table import (
    HOMNET_SIZES,
    TableConfig,
    ablation_of,
    homnet_forms,
    plan_of,
)
from homnet_platform.records.reproduction import chosen_methods, reproduce
from homnet_platform.records.running_time import time_methods
from homnet_platform.records.side_by_side import refuse_failed


def methods_of(config: TableConfig) -> dict[str, Method]:
    """The lines of the table: floors, baselines, and HomNet in both of its forms."""
    forms: dict[str, Form] = {**comparators(config.setting)}
    found = {name: (form, trials_of(name)) for name, form in forms.items()}
    own, sizes = homnet_forms(), in_steps(*HOMNET_SIZES)
    found |= {PAPER_FORM: (own["paper"], sizes), HOMNET: (own["best"], sizes)}
    return {
        name: Method(form, fit, **{f.name: getattr(t, f.name) for f in dataclasses.fields(t)})
        for name, (form, t) in found.items()
    }


def main(config: TableConfig) -> None:
    """Makes one table."""
    name = f"table-{config.table}"
    picture = config.picture or config.place / f"{name}.png"
    if config.table == 4:
        figures = ablate(ablation_of(config))
        table, rows = ablation_beside_paper(figures), figures["rows"]
    elif config.table == 5:
        figures = time_methods(plan_of(config), methods_of(config), config.num_batches)
        table, rows = running_time_markdown(figures), figures["rows"]
    else:
        figures = reproduce(plan_of(config), methods_of(config))
        table, rows = comparison_markdown(figures), figures["rows"]
    if rows and config.table == 5:
        draw_running_time(rows, picture)
    elif rows:
        key = "variant" if config.table == 4 else "method"
        draw_comparison(rows, picture, key=key, fine_tuned=config.table != 3)
    (config.place / f"{name}.md").write_text(table)
    print(table)
    refuse_failed(figures)


def facts(config: TableConfig) -> Mapping[str, object]:
    """What a dry run says: the runs; their cost is measured when the job starts."""
    plan, methods = plan_of(config), methods_of(config)
    budget = {"epochs of each": plan.epochs, "share of the people": plan.share_of_people}
    if config.table == 4:
        return {"runs": len(config.variants) * len(config.seeds), **budget}
    lines = chosen_methods(plan, methods)
    others = 0 if config.table == 5 else len(config.seeds) - 1
    trials = 1 if config.table == 5 else None
    return {
        "methods": ", ".join(lines),
        "trainings": sum((trials or len(methods[name].trials)) + others for name in lines),
        **budget,
    }


if __name__ == "__main__":
    run_job(TableConfig, main, description=__doc__, facts=facts)
