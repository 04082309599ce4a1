"""The paper's tables: HomNet, eleven baselines and two floors, compared by one protocol.

python jobs/records/reproduce.py 2 --cohort cohorts/simulated
python jobs/records/reproduce.py 3 --cohort cohorts/pki3 --scale 0.008
python jobs/records/reproduce.py 4 --methods HomNet "w/o pair" "range 16"
python jobs/records/reproduce.py 5 --cpus-per-run 2
python jobs/records/reproduce.py ablate --cohort cohorts/pki3

Table 2: pre-training and fine-tuning on simulated hospitals. Table 3: artificial abnormalities of
normal pairs, for example of real images. Tables 4 and "ablate": variants of HomNet, judged as in
Table 2 and Table 3. Table 5: seconds. The cost is measured and printed first. A job that was killed
continues with the same command.
"""

from collections.abc import Mapping
from pathlib import Path

from homnet.model.network import best_form, paper_form
from homnet.records.beside_paper import (
    HOMNET,
    PAPER_FORM,
    ablation_beside_paper,
    comparison_markdown,
    running_time_markdown,
)
from homnet.records.comparison_plots import draw_comparison, draw_running_time
from homnet.records.training_tables import ablation_markdown
from homnet_baselines.fitted import fit
from homnet_baselines.methods import comparators, in_steps, trials_of
from homnet_platform.job import run_job
from homnet_platform.records.ablation import variants_of
from homnet_platform.records.methods import Method
from homnet_platform.records.plan import RECIPES, ReproduceConfig
from homnet_platform.records.reproduction import chosen_methods, record, reproduce
from homnet_platform.records.running_time import time_methods
from homnet_platform.records.side_by_side import METHODS, VARIANTS


def methods_of(config: ReproduceConfig) -> dict[str, Method]:
    """Lines of the table: variants of HomNet, or floors, baselines and both forms of HomNet."""
    forms = {"paper": paper_form(), "best": best_form()}
    if config.table in ("4", "ablate"):
        return variants_of(forms[config.setting], fit)
    sizes = in_steps({"width": 32, "pair_width": 64}, {"width": 64, "pair_width": 128})
    return {
        **{
            name: Method(form, fit, **vars(trials_of(name)))
            for name, form in comparators(config.setting).items()
        },
        PAPER_FORM: Method(forms["paper"], fit, **vars(sizes)),
        HOMNET: Method(forms["best"], fit, **vars(sizes)),
    }


def main(config: ReproduceConfig) -> None:
    """Makes one table."""
    output, name, methods = Path(config.output), f"table-{config.table}", methods_of(config)
    picture, tuned = config.picture or output / f"{name}.png", config.comparison.fine_tuned
    if config.table == "5":
        kind, figures = "running_time", time_methods(config, methods)
        table = running_time_markdown(figures)
    elif config.table in ("4", "ablate"):
        kind, figures = "ablation", reproduce(config, methods, VARIANTS)
        table = ablation_beside_paper(figures) if tuned else ablation_markdown(figures)
    else:
        kind, figures = "reproduction", reproduce(config, methods, METHODS)
        table = comparison_markdown(figures)
    rows = figures["rows"]
    if rows and kind == "running_time":
        draw_running_time(rows, picture)
    elif rows:
        key = "variant" if kind == "ablation" else "method"
        draw_comparison(rows, picture, key=key, fine_tuned=tuned)
    (output / f"{name}.md").write_text(table)
    print(table)
    record(config, kind, figures)


def facts(config: ReproduceConfig) -> Mapping[str, object]:
    """The runs, for a dry run; their cost is measured when the job starts."""
    methods, comparison = chosen_methods(config, methods_of(config)), config.comparison
    trials = [1 if config.table == "5" else len(method.trials) for method in methods.values()]
    others = 0 if config.table == "5" else len(comparison.seeds) - 1
    return {
        "methods": ", ".join(methods),
        "trainings": sum(trials) + others * len(methods),
        "epochs of each": comparison.epochs,
        "share of the people": comparison.share_of_people,
    }


if __name__ == "__main__":
    run_job(RECIPES, main, description=__doc__, facts=facts)
