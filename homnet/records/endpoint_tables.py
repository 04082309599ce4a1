"""Tables of the endpoint for the documentation: latency, throughput and faults."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from homnet.report.markdown import markdown_table

_FORMS: Final = {"arrow": "Arrow", "json": "JSON"}


def load_markdown(load: Mapping[str, Any]) -> str:
    """Latency and throughput of the endpoint beside its baselines, in Markdown.

    Args:
        load: figures of ``homnet_serve.records.load_test`` by part; an absent part has no table.
    """
    parts: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "endpoint": _endpoint,
        "one_at_a_time": _one_at_a_time,
        "replicas": partial(_by_clients, "Patients/s (p50 of each run, ms)"),
        "proxies": partial(_by_clients, "Proxy: patients/s (p50, ms)"),
        "soak": _soak,
    }
    return "\n\n".join(write(load[part]) for part, write in parts.items() if part in load)


def fuzz_markdown(fuzz: Mapping[str, Any]) -> str:
    """What hostile bodies cost, and what changed stores gave, in Markdown.

    Args:
        fuzz: figures of ``homnet_serve.records.fuzz``.
    """
    bodies = [
        (
            name,
            part["bodies"],
            _counts(part["statuses"]),
            part["num_failed"],
            f"{part['slowest_s']:.1f}",
            f"{part['largest_mib']:.0f}",
            f"{part['longest_silence_s']:.2f}",
        )
        for name in ("images", "manifests", "arrow", "json")
        for part in (fuzz[name],)
    ]
    stores = [
        (name, sum(part["outcomes"].values()), _counts(part["outcomes"]), part["num_wrong"])
        for name, part in fuzz["changes"].items()
    ]
    return "\n\n".join(
        (
            markdown_table(
                (
                    "Bodies",
                    "Number",
                    "Answers",
                    "Other than documented",
                    "Slowest, s",
                    "Memory above idle, MiB",
                    "Silence of /healthz, s",
                ),
                bodies,
            ),
            markdown_table(("Changes of", "Number", "What is read", "Other content"), stores),
        )
    )


def serve_drill_markdown(drill: Mapping[str, Any]) -> str:
    """The effect of each fault on clients, in Markdown.

    Args:
        drill: figures of ``homnet_serve.records.drill``.
    """
    rows = [
        (
            fault,
            run["right"],
            run["wrong"],
            run["lost"],
            _counts(run["absorbed"]),
            f"{run['seconds_without_answer']:.1f}",
            f"{run['slowest_answer_s']:.1f}",
            f"{run['seconds_until_whole']:.0f}",
        )
        for fault, run in drill["faults"].items()
    ]
    heads = (
        "Fault",
        "Right answers",
        "Wrong",
        "Lost",
        "Failed attempts before a retry succeeded",
        "Longest gap between answers, s",
        "Slowest answer, s",
        "All processes back after, s",
    )
    notes = [
        f"{drill['clients']} clients; {drill['replicas']} replicas, each on a node of its own."
    ]
    if "promotion" in drill["faults"]:
        run = drill["faults"]["promotion"]
        notes.append(
            f"A promoted version answered after {run['seconds_to_promote']:.1f} s; after a "
            f"roll-back the version before it answered within {run['seconds_to_roll_back']:.1f} s."
        )
    if "queue" in drill["faults"]:
        notes.append(
            f"Answers to the flood of the queue: {_counts(drill['faults']['queue']['flood'])}."
        )
    return f"{markdown_table(heads, rows)}\n\n{' '.join(notes)}"


def _endpoint(figures: Mapping[str, Any]) -> str:
    rows = [
        (
            f"{name}, {clients} {'client' if clients == '1' else 'clients'}",
            _ms(one["p50_ms"]),
            _ms(one["p99_ms"]),
            f"{one['patients_per_second']:.1f}",
            f"{_bare(one):.1f}",
            f"{one['share_of_bare']:.2f}",
        )
        for form, name in _FORMS.items()
        for clients, one in figures[form].items()
    ]
    heads = (
        "Requests of one patient",
        "p50, ms",
        "p99, ms",
        "Patients/s",
        "Bare model, patients/s",
        "Share of it",
    )
    table = markdown_table(heads, rows)
    settings = figures["settings"]
    material = settings["material"]
    who = f"A patient has {23 * material['num_cells']} pairs."
    if material.get("cohort"):
        who = "The patients are simulated, each with all its cells."
    # Records from before findings were part of an answer have no such setting.
    what = "verdicts with findings" if material.get("findings") else "the same model"
    return (
        f"{table}\n\n{who} *Bare model*: {what} without HTTP on the same cores, just before and "
        "after. The clients' work counts against the endpoint. "
        f"{settings['num_replicas']} replicas of {_threads(settings['num_threads'])}, proxy: "
        f"{settings['proxy']}."
    )


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def _bare(asked: Mapping[str, Any]) -> float:
    """The better bare rate, averaged over before and after."""
    return float(np.mean([max(rates.values()) for rates in asked["bare"].values()]))


def _one_at_a_time(figures: Mapping[str, Any]) -> str:
    faster = figures["times_as_fast"]
    rows = []
    for name in ("batching", *faster):
        rates = [one["patients_per_second"] for one in figures[name]]
        p50 = [one["p50_ms"] for one in figures[name] if one["p50_ms"] is not None]
        mean = float(np.mean(p50)) if p50 else None
        rows.append((name, f"{np.mean(rates):.1f}", _ms(mean), faster.get(name, "")))
    heads = (
        f"{figures['clients']} clients, Arrow",
        "Patients/s",
        "p50, ms",
        "Batching is faster by the factor",
    )
    return markdown_table(heads, rows)


def _by_clients(heading: str, figures: Mapping[str, Any]) -> str:
    """Patients per second and p50: layouts or proxies as rows, numbers of clients as columns."""
    measured = {
        name: runs if isinstance(runs, list) else [runs]
        for name, runs in figures.items()
        if name not in _ABOUT
    }
    started = [runs[0] for runs in measured.values() if "failed" not in runs[0]]
    clients = list(started[0]) if started else []
    rows = [
        (
            name,
            *(
                "did not start"
                if "failed" in runs[0]
                else f"{np.mean([run[n]['patients_per_second'] for run in runs]):.1f} "
                f"({', '.join(_ms(run[n]['p50_ms']) for run in runs)})"
                for n in clients
            ),
        )
        for name, runs in measured.items()
    ]
    return markdown_table((heading, *(f"Clients: {n}" for n in clients)), rows)


def _soak(figures: Mapping[str, Any]) -> str:
    start, end = (figures["memory_mib"][when] for when in ("start", "end"))
    memory = ", ".join(f"{role} {start[role]:.0f} to {end[role]:.0f} MiB" for role in start)
    return (
        f"{figures['minutes']:g} minutes at {figures['requests_per_second']:.1f} requests/s "
        f"({100 * figures['share_of_capacity']:.0f} % of capacity): "
        f"{_counts(figures['statuses'])}; p50 {_ms(figures['p50_ms'])} ms, p99 "
        f"{_ms(figures['p99_ms'])} ms. Memory of Ray Serve's processes: {memory}; together "
        f"{100 * figures['memory_growth']:+.1f} %."
    )


_ABOUT: Final = ("seconds_in_all", "machine", "settings")
"""Metadata keys of a part, beside its figures."""


def _ms(value: float | None) -> str:
    """Milliseconds; "n/a" without answers."""
    return "n/a" if value is None else f"{value:.1f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} x {name}" for name, number in counts.items()) or "none"
