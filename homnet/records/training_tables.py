"""Tables of trainings for the documentation: ablations, sweeps, fault drills, throughput."""

from collections.abc import Mapping, Sequence
from typing import Any

from homnet.report.markdown import markdown_table
from homnet.report.tables import ABSENT, cell, metric, number, percent, scopes


def aucs_markdown(evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    """AUC of several evaluations, a line each, hospitals across, in Markdown."""
    names = list(dict.fromkeys(name for one in evaluations.values() for name, _ in scopes(one)))
    lines = []
    for label, evaluation in evaluations.items():
        found = {name: cell(metric(scope, "auc")) for name, scope in scopes(evaluation)}
        lines.append((label, *(found.get(name, ABSENT) for name in names)))
    return markdown_table(("", *names), lines)


def ablation_markdown(ablation: Mapping[str, Any]) -> str:
    """The rows of an ablation: variants down, hospitals across, in Markdown."""
    hospitals = list(dict.fromkeys(row["hospital"] for row in ablation["rows"]))
    variants = list(dict.fromkeys(row["variant"] for row in ablation["rows"]))
    of = {(row["variant"], row["hospital"]): row for row in ablation["rows"]}
    heads = ["Variant", *(f"{h}: {metric}" for h in hospitals for metric in ("AUC", "F1"))]
    lines = [
        [v, *(cell(of[v, h][metric]) for h in hospitals for metric in ("auc", "f1"))]
        for v in variants
    ]
    note = (
        f"Means over {len(ablation['seeds'])} seeds; in brackets: 95 % intervals by patient "
        "bootstrap of that mean."
    )
    return f"{markdown_table(heads, lines)}\n\n{note}{failed_note(ablation)}\n"


def failed_note(figures: Mapping[str, Any]) -> str:
    """What is not in a table because it failed."""
    failed = sorted({one["name"] for one in figures.get("failed", ())})
    return f" Not in the table, as they failed: {', '.join(failed)}." if failed else ""


def drill_markdown(drill: Mapping[str, Any]) -> str:
    """What killed workers, nodes and drivers cost, kind by kind, in Markdown."""
    lines = []
    for victim in dict.fromkeys(run["victim"] for run in drill["runs"]):
        runs = [run for run in drill["runs"] if run["victim"] == victim]
        repeated = [run["repeated_bags"] for run in runs]
        seconds = [run["seconds_after_kill"] for run in runs]
        lines.append(
            (
                victim,
                len(runs),
                f"{min(repeated)} to {max(repeated)}",
                f"{min(seconds):.0f} to {max(seconds):.0f}",
                "all" if all(run["same_metrics"] for run in runs) else "not all",
            )
        )
    heads = (
        "Killed",
        "Runs",
        "Bags repeated, at most",
        "Seconds from the kill to the end",
        "Same metrics as undisturbed",
    )
    interval = drill["checkpoint_interval_bags"]
    return f"{markdown_table(heads, lines)}\n\nA checkpoint every {interval} bags.\n"


def sweep_markdown(sweep: Mapping[str, Any], num_best: int = 5) -> str:
    """The best trials of a sweep, hospital by hospital, in Markdown."""
    trials = sorted(sweep["fine_tuning"], key=lambda trial: -trial["validation_auc"])
    hospitals = [name.partition(" ")[2] for name in trials[0] if name.startswith("validation_auc ")]
    lines = [
        (
            trial["merge_range"],
            f"{trial['pretraining_rate']:g}",
            f"{trial['fine_tuning_rate']:g}",
            number(trial["validation_auc"]),
            *(number(trial[f"validation_auc {name}"]) for name in hospitals),
        )
        for trial in trials[:num_best]
    ]
    heads = (
        "Merge range",
        "Pre-training rate",
        "Fine-tuning rate",
        "Mean validation AUC",
        *hospitals,
    )
    return (
        f"{markdown_table(heads, lines)}\n\n"
        f"The {len(lines)} best of {len(trials)} fine-tunings, after "
        f"{len(sweep['pretraining'])} pre-trainings; {100 * sweep['pruned_share']:.0f} % of all "
        "epochs were saved by stopping poor trials early. The default reaches "
        f"{number(sweep['default'])}.\n"
    )


def throughput_markdown(figures: Mapping[str, Any]) -> str:
    """Measured training steps beside the predicted ones, and the full run, in Markdown.

    Args:
        figures: of ``homnet_platform.records.throughput``. What was computed has two bounds,
        written as
            ``low to high``.
    """
    measured = [
        (
            one["workers"],
            one["batch_size"],
            f"{one['bags_per_s']:.0f}",
            "{p50:.0f} ({p10:.0f} to {p90:.0f})".format(
                **{q: 1e3 * s for q, s in one["step_s"].items()}
            ),
            f"{1e3 * one['predicted_step_s']:.0f}" + (" (fitted)" if one["fitted"] else ""),
            f"{one['predicted_step_s'] / one['step_s']['p50']:.2f}",
            percent(one["input_share"]),
        )
        for one in figures["measured"]
    ]
    computed = [
        (
            one["machine"],
            one["workers"],
            _bounds(one["bags_per_s"]),
            percent(one["all_reduce_share"]),
            *(_bounds(hours) for hours in one["hours"].values()),
            ABSENT if one["cost"] is None else _bounds(one["cost"]),
        )
        for one in figures["computed"]
    ]
    stages = [f"{stage}, hours" for stage in figures["computed"][0]["hours"]]
    run, gpu = figures["run"], figures["gpu"]
    trials = len(run["merge_ranges"]) * run["pretraining_rates"] * run["fine_tuning_rates"]
    most = figures["measured"][-1]
    notes = [
        f"{most['workers']} workers are {figures['speedup']:.2f} times as fast as one with "
        f"{most['batch_size']} bags a step; predicted: {figures['predicted_speedup']:.2f}.",
        f"A bag takes {1e3 * figures['bag_s']:.2f} ms of a worker "
        f"({figures['flops_per_bag'] / 1e6:.0f} MFLOP, so {figures['flop_per_s'] / 1e9:.0f} "
        f"GFLOP/s), a step {1e3 * figures['fixed_s']:.0f} ms beside its bags. The gradient is "
        f"{figures['gradient_bytes'] / 1e6:.2f} MB; summing it was measured at "
        f"{1e3 * figures['latency_s']:.2f} ms for each of 2 (n - 1) hops and "
        f"{figures['bytes_per_s'] / 1e9:.1f} GB/s. Peak of the object store: "
        f"{figures['object_store_peak_bytes'] / 1e6:.0f} MB.",
        f"The full run: {run['healthy_people']:,} healthy people, {len(run['patients'])} hospitals "
        f"with {sum(run['patients'])} patients, batches of {run['batch_size']}, {run['epochs']} "
        f"epochs of pre-training and {run['fine_tuning_epochs']} of fine-tuning (no early stop); "
        f"the sweep: {trials} trials of all hospitals, each pre-training done once. From the bound "
        "where computing, launching and summing gradients overlap to the one where nothing does; "
        f"{run['epoch_s']:g} s of each epoch are Ray's.",
    ]
    if gpu["peak_flop_per_s"]:
        price = figures["price_per_gpu_hour"]
        notes.append(
            f"Nothing was measured on {gpu['name']}. Assumed: {gpu['peak_flop_per_s'] / 1e12:g} "
            f"TFLOP/s by its data sheet, of which {percent(gpu['share_of_peak'])} are reached; "
            f"{1e6 * gpu['launch_s']:g} µs for each of {figures['operators_per_step']} operators "
            f"of a step; {gpu['bytes_per_s'] / 1e9:g} GB/s and {1e6 * gpu['latency_s']:g} µs "
            "between GPUs" + ("." if price is None else f"; {price:g} for an hour of one GPU.")
        )
    heads = ("Machine", "Workers", "Bags/s", "Summing gradients", *stages, "Cost of all three")
    return "\n\n".join(
        [
            markdown_table(
                (
                    "Workers",
                    "Bags a step",
                    "Bags/s",
                    "Step, ms, median (10 to 90 %)",
                    "Predicted, ms",
                    "Predicted / measured",
                    "Waiting for input",
                ),
                measured,
            ),
            markdown_table(heads, computed),
            *notes,
        ]
    )


def _bounds(values: Sequence[float]) -> str:
    """Two bounds, or one number where they do not differ as written."""
    low, high = (
        f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
        for value in values
    )
    return low if low == high else f"{low} to {high}"
