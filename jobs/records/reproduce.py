"""The paper's tables: HomNet, eleven baselines and two floors, compared by one protocol.

python jobs/records/reproduce.py 2 --cohort cohorts/simulated
python jobs/records/reproduce.py 3 --cohort cohorts/pki3 --minutes 20
python jobs/records/reproduce.py 4 --methods HomNet "w/o pair" "range 16"
python jobs/records/reproduce.py 5
python jobs/records/reproduce.py ablate --cohort cohorts/pki3

Table 2: pre-training and fine-tuning on simulated hospitals. Table 3: artificial abnormalities of
normal pairs, for example of real images. Tables 4 and "ablate": variants of HomNet, judged as in
Table 2 and Table 3. Table 5: seconds.

One rule for all methods: the same people, all of them; the same minutes of one core, in which each
sees as many bags as it has time for; early stopping by the same validation; the same number of
trials, a quarter of the minutes each, whose best is trained with all of them. HomNet and what comes
within 0.03 of its validation AUC run with all seeds, the others with one. The table says whether
each training had converged, and a picture shows the curves. An estimate of the hours is printed
first. A failed method does not stop the others. A job that was killed continues with the same
command, at the last epoch of each training.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from homnet.model.network import best_form, paper_form
from homnet.records.beside_paper import (
    HOMNET,
    PAPER_FORM,
    comparison_markdown,
    running_time_markdown,
    variants_markdown,
)
from homnet.records.comparison_plots import draw_comparison, draw_curves, draw_running_time
from homnet_baselines.fitted import fit
from homnet_baselines.methods import comparators, in_steps, trials_of
from homnet_platform.job import run_job
from homnet_platform.records.ablation import variants_of
from homnet_platform.records.method_trials import Method
from homnet_platform.records.plan import RECIPES, ReproduceConfig
from homnet_platform.records.reproduction import chosen_methods, hours_of, record, reproduce
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
    print(f"estimate: {facts(config)['hours of one core']}", flush=True)
    output, name, methods = Path(config.output), f"table-{config.table}", methods_of(config)
    picture, tuned = config.picture or output / f"{name}.png", config.comparison.fine_tuned
    if config.table == "5":
        kind, figures = "running_time", time_methods(config, methods)
        table = running_time_markdown(figures)
    elif config.table in ("4", "ablate"):
        kind, figures = "ablation", reproduce(config, methods, VARIANTS)
        table = variants_markdown(figures)
    else:
        kind, figures = "reproduction", reproduce(config, methods, METHODS)
        table = comparison_markdown(figures)
    rows = figures["rows"]
    if rows and kind == "running_time":
        draw_running_time(rows, picture)
    elif rows:
        key = "variant" if kind == "ablation" else "method"
        draw_comparison(rows, picture, key=key, fine_tuned=tuned)
        draw_curves(figures, picture.with_stem(f"{picture.stem}-curves"))
    (output / f"{name}.md").write_text(table)
    print(table)
    record(config, kind, figures)


def facts(config: ReproduceConfig) -> Mapping[str, object]:
    """The runs and the hours that they take at most, for a dry run."""
    methods, comparison = chosen_methods(config, methods_of(config)), config.comparison
    if config.table == "5":  # one training of each, without trials
        methods = {name: replace(method, pretraining=()) for name, method in methods.items()}
    trials = sum(len(method.pretraining) for method in methods.values())
    low, high = hours_of(comparison, methods)
    return {
        "methods": ", ".join(methods),
        "trials": f"{trials} of {comparison.trial_minutes:g} minutes of one core",
        "trainings": f"{len(methods)} of {comparison.minutes:g} minutes, and further seeds",
        "hours of one core": f"at most {low:.1f}, or {high:.1f} if all run with all seeds; "
        "fine-tuning, scores, measured rates and what replaces a collapsed training on top"
        if comparison.minutes
        else "without a limit",
    }


if __name__ == "__main__":
    run_job(RECIPES, main, description=__doc__, facts=facts)
