"""Documents of evaluations, made by hand: what matters is their shape, and that no two figures are the same."""

import math

METRIC = "accuracy"
ALPHA = 1e-6

MODIFICATIONS = {
    "noise": (0, "Gaussian noise", "S", "standard deviations of the layer", (0.1, 0.2, 0.3)),
    "prune": (1, "L1 pruning", "P", "%", (1, 10, 30, 50, 70, 90)),
    "prune-random": (2, "random pruning", "R", "%", (1, 5, 10)),
    "quantize": (3, "quantizing", "B", "bits", (16, 8, 4, 2)),
    "fine-tuning": (4, "fine-tuning", "E", "epochs", (1, 2, 4)),
    "distillation": (5, "knowledge distillation", "E", "epochs", (2, 8)),
    "overwriting": (6, "watermark overwriting", "W", "marks", (2, 3, 4)),
}
"""Name -> id, words, parameter, unit, values, weakest first."""

SCHEMES = {
    "Uchida, mean": ("uchida", "training", 0.35, -0.0021),
    "Uchida, random key": ("uchida-random", "training", 0.30, -0.0034),
    "full carrier": ("full-carrier", "closed-form", 0.05, -0.0003),
    "constant weight": ("constant-weight", "fine-tuning", 0.20, -0.0012),
    "ingrain": ("ingrain", "training", 0.45, -0.0108),
    "structural": ("structural", "distilling", 0.40, 0.0006),
}
"""Label -> entry point, embedding, how easily it breaks, what it costs the network."""


def mean(value, half=None, n=12):
    ends = (None, None) if half is None else (value - half, value + half)
    return {"mean": value, "low": ends[0], "high": ends[1], "n": n if half is not None else 1}


def point(value, force, weakness, *, networks=3, payloads=4, failed=0):
    """A point of which ``force`` in [0, 1] says how strong the modification is, and ``weakness`` what it does."""
    marked = networks * payloads
    rate = 0.5 * (1 - math.exp(-6 * weakness * force**2))
    lost = round(marked * max(0.0, 4 * rate - 1))
    asked = networks + marked - failed
    score = 0.9 - 0.55 * force**3
    return {
        "value": value,
        "n_unmarked": networks,
        "n_marked": marked,
        "n_networks": networks + marked,
        "false_positives": 0,
        "false_negatives": lost,
        "false_positive_rate": 0.0,
        "false_negative_rate": lost / asked,
        "symbol_error_rate": mean(rate, 0.01 + 0.1 * rate),
        "unmarked_symbol_error_rate": mean(0.5 + 0.01 * weakness, 0.03, networks),
        "score": mean(score - weakness / 100, 0.004 + 0.03 * force),
        "unmarked_score": mean(score, 0.004 + 0.03 * force, networks),
        "n_failed": failed,
        "problems": ["network 2: the layer has no weights left"] if failed else [],
    }


def modified(name, weakness, **sizes):
    identity, words, parameter, unit, values = MODIFICATIONS[name]
    weakness *= 1 + identity / 10
    points = [point(value, (index + 1) / len(values), weakness, **sizes) for index, value in enumerate(values)]
    return {
        "id": identity,
        "modification": name,
        "words": words,
        "parameter": parameter,
        "unit": unit,
        "points": points,
    }


def unmodified(weakness, **sizes):
    around = {"id": None, "modification": "none", "words": "networks as they are", "parameter": "", "unit": ""}
    return {**around, "points": [point(None, 0.0, weakness, **sizes)]}


def imperceptibility(difference, networks, payloads):
    cells = [
        {
            "network": network + 1,
            "payload": payload + 1,
            "unmarked": 0.9 + network / 1000,
            "marked": 0.9 + network / 1000 + difference * (1 + payload / 10),
        }
        for network in range(networks)
        for payload in range(payloads)
    ]
    return {
        "cells": cells,
        "unmarked": mean(0.901, 0.0005),
        "marked": mean(0.901 + difference, 0.0007),
        "difference": mean(difference, 0.0004),
    }


def cost(weakness, embedding):
    trains = embedding != "closed-form"
    role = {"memory_bytes": mean(2.1e8, 1e6), "seconds": mean(0.031 + weakness / 100, 0.001)}
    return {
        "injection": {
            "memory_bytes": mean(5.2e8 + 1e8 * weakness, 4e6),
            "seconds_per_batch": mean(0.0123 + weakness / 1000, 0.0004) if trains else None,
            "seconds_per_epoch": mean(5.77, 0.2) if trains else None,
            "batches_per_epoch": 469 if trains else None,
            "epochs": mean(8.0, 0.0) if trains else mean(0.0),
            "seconds": mean(46.2, 1.7) if trains else mean(0.8, 0.1),
            "inference_seconds": mean(0.92, 0.02),
            "unmarked_seconds_per_batch": mean(0.0119, 0.0003) if trains else None,
            "unmarked_inference_seconds": mean(0.91, 0.02),
        },
        "detection": role,
        "decoding": {**role, "seconds": mean(0.0008, 0.0001)},
    }


def scheme(label, modifications=tuple(MODIFICATIONS), *, networks=3, payloads=4):
    entry, embedding, weakness, difference = SCHEMES[label]
    sizes = {"networks": networks, "payloads": payloads}
    return {
        "name": label,
        "scheme": entry,
        "embedding": embedding,
        "settings": {"strength": 0.01, "layers": ["conv3.weight"], "averaged": label.endswith("mean")},
        "bits": 64,
        "problem": None,
        "guessing": 0.5,
        "doubts": [],
        "imperceptibility": imperceptibility(difference, **sizes),
        "robustness": [unmodified(weakness, **sizes), *(modified(name, weakness, **sizes) for name in modifications)],
        "cost": cost(weakness, embedding),
    }


def inapplicable(label, problem):
    """A scheme about which nothing could be measured."""
    entry, embedding, _, _ = SCHEMES[label]
    return {
        **{
            "name": label,
            "scheme": entry,
            "embedding": embedding,
            "settings": {},
            "bits": 16,
            "problem": problem,
            "guessing": 0.5,
            "doubts": [],
        },
        **{"imperceptibility": None, "robustness": [], "cost": None},
    }


def architecture(name, n_parameters, have=60_000):
    needed = 10 * n_parameters
    return {
        "name": name,
        "n_parameters": n_parameters,
        "data_rule": {"needed": needed, "have": have, "met": have >= needed},
    }


def exchanged(networks):
    """The parts for other programs: a little of each."""
    inference = {
        **{"network": 1, "marked_with": "1 of 4 bits", "scheme": "Uchida, mean", "payload": "1 of 4 bits"},
        **{"parameters": "noise 0.1", "dataset": "test", "metric": METRIC, "score": 0.9},
        **{"detected": True, "decoded": "0110", "symbol_errors": 0, "symbols": 4},
    }
    noise = {
        "id": "noise 0.1",
        "modification_id": 0,
        "modification": "noise",
        "parameter": "S",
        "unit": "",
        "value": 0.1,
    }
    errors = {"scheme": "Uchida, mean", "parameters": "noise 0.1", "networks": networks}
    return {
        "payloads": [{"id": "1 of 4 bits", "payload": "0110"}, {"id": "2 of 4 bits", "payload": "1010"}],
        "parameters": [noise, {**noise, "id": "none", "modification_id": None, "value": None}],
        "datasets": [{"id": "test", "name": "fashion-mnist", "n_examples": 10_000, "n_classes": 10}],
        "inferences": [inference, {**inference, "marked_with": None, "decoded": None, "symbol_errors": None}],
        "count_errors": [{**errors, "false_positives": 0, "false_negatives": 1}],
    }


def evaluation(labels=tuple(SCHEMES), modifications=tuple(MODIFICATIONS), *, networks=3, payloads=4):
    """A complete evaluation; what changes in one scheme or point is for the test to say."""
    sizes = {"networks": networks, "payloads": payloads}
    return {
        "schema": "onnxmark/evaluation/v1",
        "tool": {"name": "onnxmark", "version": "0.4.0"},
        "status": "complete",
        "plan": {
            "title": "Six schemes on Fashion-MNIST",
            "digest": "5f" * 32,
            "seed": 7,
            **sizes,
            "bits": 64,
            "task": {
                "name": "fashion-mnist",
                "metric": METRIC,
                "n_training": 60_000,
                "n_test": 10_000,
                "n_classes": 10,
            },
            "architectures": [architecture("convnet", 28_938), architecture("lenet", 5_214)],
            "training": {"epochs": 8, "batch_size": 128, "learning_rate": 0.05},
            "policy": {"alpha": ALPHA, "registered": False},
        },
        "environment": {
            "onnxmark": "0.4.0",
            "python": "3.11.9",
            "platform": "Linux-6.1-x86_64",
            "processor": "a processor of 2.4 GHz",
            "cores": 2,
            "memory_bytes": 8_000_000_000,
            "packages": {"numpy": "2.1.0", "torch": "2.5.1"},
            "workers": 2,
            "threads_per_worker": 1,
            "laboratory": "torch",
        },
        "further_environments": [],
        "schemes": [scheme(label, modifications, **sizes) for label in labels],
        "nnt": exchanged(networks),
        "limits": ["Ranges of parameters are those that we could read.", "Two architectures are not all there are."],
    }


def small():
    """Two schemes and two modifications: every part of a document, few of each."""
    return evaluation(("Uchida, mean", "full carrier"), ("noise", "quantize"), networks=2, payloads=2)


def partial():
    """A scheme that does not apply, one that partly failed and raised false alarms, and one without limits."""
    document = small()
    document["status"] = "partial"
    document["schemes"].insert(1, inapplicable("structural", "its 3 carriers hold 16 bits, the plan asks for 64"))
    broken = document["schemes"][0]["robustness"][1]["points"][0]
    broken |= {"n_failed": 1, "problems": ["network 1, payload 0: the worker ran out of memory"]}
    document["schemes"][0]["doubts"] = ["Uchida, mean: the decoder is broken: it reads one payload with all keys."]
    broken |= {"false_positives": 2, "false_positive_rate": 0.4, "symbol_error_rate": None, "score": None}
    alone = document["schemes"][2]
    alone["imperceptibility"]["difference"] = mean(-0.002)
    alone["cost"]["injection"]["memory_bytes"] = None
    alone["cost"]["decoding"] = None
    document["environment"]["memory_bytes"] = None
    document["further_environments"] = [document["environment"] | {"processor": "another processor", "workers": 8}]
    return document
