"""Robustness sections made by hand: every kind of trial an audit can report, in known numbers."""

import copy

from tests.report.documents import audit

ACCURATE = {"accuracy_before": 0.9, "accuracy_after": 0.9}
BLIND = {"accuracy_before": None, "accuracy_after": None}


def trial(label="L1 pruning 50 %", recipe="MagnitudePruning(fraction=0.5)", attack="prune", parameter=0.5, **changes):
    """A deterministic attack that the mark survived; ``changes`` are fields of the document."""
    evidence = changes.pop("evidence", 40.0)
    verdict = changes.pop("verdict", "match" if evidence >= 6 else "no-match")
    return {
        "attack": attack,
        "parameter": parameter,
        "label": label,
        "recipe": recipe,
        "bit_error_rate": 0.125,
        "bit_error_rate_interval": None,
        "verdict": verdict,
        "reason": None,
        "log10_p_value": -evidence,
        "log10_p_values": [-evidence],
        "n_draws": 1,
        "n_survived": int(verdict == "match"),
        "relative_change": 0.5,
        "fidelity": None,
        "problem": None,
    } | changes


def entry(attack):
    """The entry of a real attack."""
    return trial(attack.label, repr(attack), attack.name, attack.parameter)


def fidelity(**changes):
    """What became of 200 answers; the accuracy is unknown unless given."""
    return {"relative_change": 0.25, "decisions_changed": 20, "n_inputs": 200, "provider": "CPU"} | BLIND | changes


def pruning(evidence, accuracy=None, recipe="MagnitudePruning(fraction={})", label="L1 pruning {:g} %", **changes):
    """Pruning at growing strength: evidence left after each, and the accuracy after each where there is one."""
    fractions = [round(0.1 * (index + 1), 1) for index in range(len(evidence))]
    accuracies = accuracy or [None] * len(evidence)
    return [
        trial(
            label=label.format(100 * fraction),
            recipe=recipe.format(fraction),
            parameter=fraction,
            evidence=left,
            fidelity=None if after is None else fidelity(accuracy_before=0.9, accuracy_after=after),
            **copy.deepcopy(changes),
        )
        for fraction, left, after in zip(fractions, evidence, accuracies, strict=True)
    ]


def swept(trials, simulation=None):
    """A real audit's document with these trials in it."""
    document = audit()
    document["findings"][0]["robustness"] = trials
    document["simulation"] = simulation or {"attacks": "full", "seed": 0, "n_draws": 5, "spread": False, "skipped": []}
    return document


def large_sweep(n_families=22, n_strengths=7):
    """A full sweep of some 150 trials with everything measured."""
    trials = []
    for family in range(n_families):
        for strength in range(n_strengths):
            left = max(76.0 * (1 - (strength / n_strengths) ** (1 + family % 4)), 0.1) if strength < 6 else 0.2
            trials.append(
                trial(
                    label=f"attack {chr(97 + family)} {strength + 1} units",
                    recipe=f"Attack{family}(strength={strength + 1})",
                    attack=f"attack-{family}",
                    parameter=strength + 1,
                    evidence=left,
                    log10_p_values=[-left * (1 + 0.1 * draw) for draw in range(5)],
                    bit_error_rate_interval=[0.1, 0.15],
                    n_draws=5,
                    n_survived=5 if left >= 6 else 0,
                    coded_ratio=10.0 + strength,
                    fidelity=fidelity(accuracy_before=0.9, accuracy_after=0.9 - 0.1 * strength),
                )
            )
    return swept(trials)


def with_margins(values):
    """A real audit's document whose message has these margins."""
    document = audit()
    finding = document["findings"][0]
    limit = max(map(abs, values)) or 1.0
    finding["margins"] |= {
        "min": min(values),
        "mean": sum(values) / len(values),
        "max": max(values),
        "values": list(values),
        "histogram": {
            "edges": [-limit, 0.0, limit],
            "counts": [sum(value < 0 for value in values), sum(value >= 0 for value in values)],
        },
    }
    finding["n_bits"], finding["n_errors"] = len(values), sum(value < 0 for value in values)
    return document
