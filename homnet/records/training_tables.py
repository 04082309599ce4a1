"""Tables of trainings for the documentation: ablations, sweeps, fault drills, throughput."""

from collections.abc import Mapping, Sequence
from typing import Any

from homnet.report.markdown import markdown_table
from homnet.report.tables import ABSENT, cell, metric, number, percent, scopes


def aucs_markdown(evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    """AUC of several evaluations in Markdown: evaluations as rows, hospitals as columns."""
    names = list(dict.fromkeys(name for one in evaluations.values() for name, _ in scopes(one)))
    lines = []
    for label, evaluation in evaluations.items():
        found = {name: cell(metric(scope, "auc")) for name, scope in scopes(evaluation)}
        lines.append((label, *(found.get(name, ABSENT) for name in names)))
    return markdown_table(("", *names), lines)


def arranged(
    rows: Sequence[Mapping[str, Any]], key: str
) -> tuple[list[str], list[str], dict[tuple[str, str], Mapping[str, Any]]]:
    """Lines and hospitals in order, and the row for each line and hospital."""
    return (
        list(dict.fromkeys(row[key] for row in rows)),
        list(dict.fromkeys(row["hospital"] for row in rows)),
        {(row[key], row["hospital"]): row for row in rows},
    )


def ablation_markdown(ablation: Mapping[str, Any]) -> str:
    """AUC and F1 of an ablation in Markdown: variants as rows, hospitals as columns."""
    variants, hospitals, of = arranged(ablation["rows"], "variant")
    heads = ["Variant", *(f"{h}: {metric}" for h in hospitals for metric in ("AUC", "F1"))]
    lines = [
        [v, *(cell(of[v, h][metric]) for h in hospitals for metric in ("auc", "f1"))]
        for v in variants
    ]
    note = f"{means_note(ablation)}.{failed_note(ablation)}"
    return f"{markdown_table(heads, lines)}\n\n{note}\n"


def means_note(figures: Mapping[str, Any]) -> str:
    """The seeds behind the values and their intervals; a sentence without its end."""
    seeds, seeds_of = figures["seeds"], figures.get("seeds_of", {})
    whole = [name for name, own in seeds_of.items() if len(own) == len(seeds)]
    means = f"Means over {len(seeds)} seeds" if len(seeds) > 1 else "One seed"
    if len(whole) < len(seeds_of):
        means += (
            " for HomNet and what comes within 0.03 of its validation AUC "
            f"({', '.join(whole)}), one seed for the others"
        )
    return f"{means}; in brackets 95 % intervals of the mean from a patient bootstrap"


def failed_note(figures: Mapping[str, Any]) -> str:
    """A sentence that names the methods whose runs failed, or an empty string."""
    failed = sorted({one["name"] for one in figures.get("failed", ())})
    return f" Not in the table, as they failed: {', '.join(failed)}." if failed else ""


def drill_markdown(drill: Mapping[str, Any]) -> str:
    """Bags and seconds lost when a worker, a node or the driver is killed, in Markdown."""
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
                "in all runs" if all(run["same_metrics"] for run in runs) else "not in all runs",
            )
        )
    heads = (
        "Killed",
        "Runs",
        "Bags repeated, at most",
        "Seconds from the kill to the end",
        "Metrics equal to an undisturbed run",
    )
    interval = drill["checkpoint_interval_bags"]
    return f"{markdown_table(heads, lines)}\n\nA checkpoint was written every {interval} bags.\n"


def sweep_markdown(sweep: Mapping[str, Any], num_best: int = 5) -> str:
    """The best trials of a sweep for each hospital, in Markdown."""
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
        f"{len(sweep['pretraining'])} pre-trainings; stopping poor trials early saved "
        f"{100 * sweep['pruned_share']:.0f} % of all epochs. The default settings reach "
        f"{number(sweep['default'])}.\n"
    )


def throughput_markdown(figures: Mapping[str, Any]) -> str:
    """Measured and predicted training steps, and the full run, in Markdown.

    Args:
        figures: figures of ``homnet_platform.records.throughput``; a computed value has two bounds,
            written ``low to high``.
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
        f"GFLOP/s), and each step {1e3 * figures['fixed_s']:.0f} ms more. The gradient is "
        f"{figures['gradient_bytes'] / 1e6:.2f} MB; summing it was measured at "
        f"{1e3 * figures['latency_s']:.2f} ms for each of 2 (n - 1) hops on n workers and "
        f"{figures['bytes_per_s'] / 1e9:.1f} GB/s. Peak of the object store: "
        f"{figures['object_store_peak_bytes'] / 1e6:.0f} MB.",
        f"The full run: {run['healthy_people']:,} healthy people, {len(run['patients'])} hospitals "
        f"with {sum(run['patients'])} patients, batches of {run['batch_size']}, {run['epochs']} "
        f"epochs of pre-training and {run['fine_tuning_epochs']} of fine-tuning (no early stop); "
        f"the sweep: {trials} trials of all hospitals, each pre-training done once. The lower time "
        "assumes that computing, launching and summing gradients overlap, the higher that nothing "
        f"does; Ray takes {run['epoch_s']:g} s of each epoch.",
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


def benchmark_markdown(figures: Mapping[str, Any]) -> str:
    """Seconds of training steps and milliseconds of single patients, in Markdown.

    Args:
        figures: result of :func:`homnet.records.benchmark.run.benchmark`.
    """
    training, patient = figures["training"], figures["patient"]
    faster = training["times_as_fast_as_looped"]
    steps = [
        (
            name,
            f"{seconds['p50']:.3f} ({seconds['p10']:.3f} to {seconds['p90']:.3f})",
            f"{faster[name]['p50']:.1f}" if name in faster else "",
        )
        for name, seconds in training["seconds"].items()
    ]
    patients = [
        (
            name,
            "{p50:.1f} ({p10:.1f} to {p90:.1f})".format(**{q: 1e3 * s for q, s in of.items()}),
            f"{patient['largest_change_of_score'][name]:.0e}",
        )
        for name, of in patient["seconds"].items()
    ]
    many = patient["seconds_for_patients"]
    note = (
        f"{many['patients']:,} patients: {many['seconds']:.1f} s. Peak memory of training: "
        f"{figures['memory_gib']['training_cpu']:.2f} GiB. Drawing, assembling and changing bags "
        f"takes {100 * training['input_over_batch_in_memory']:.1f} % of a step. A step needs "
        f"{training['flops'] / 1e9:.0f} GFLOP and runs at "
        f"{100 * training['share_of_matrix_peak']:.0f} % of the speed of a large float32 matrix "
        f"product on this machine ({figures['limits']['float32_gflop_per_s']:.0f} GFLOP/s)."
    )
    heads = ("Training step", "Seconds, median (10 to 90 %)", "Times as fast as looped")
    step_table = markdown_table(heads, steps)
    heads = ("One patient", "Milliseconds, median (10 to 90 %)", "Largest change of a score")
    return "\n\n".join([step_table, markdown_table(heads, patients), note])


def _bounds(values: Sequence[float]) -> str:
    """Two bounds, or one number if both are equal as formatted."""
    low, high = (
        f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
        for value in values
    )
    return low if low == high else f"{low} to {high}"
