"""What a verdict is called in a sentence, the same in every report for people and for machines.

The wording is bound by a rule: a model is *consistent with a key at p <= ...*; who owns it is not for a reading to say.
Sentences quote names as they are; whoever shows one makes it harmless.
"""

from __future__ import annotations

from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.text import power_of_ten, shortened

_REASON: Final = 400
"""Characters of a reason."""


def sentence_of(finding: Document, policy: Document) -> str:
    """The verdict on one key, with its probability or with the reason for having none."""
    key = f"key {finding['key']['commitment'][:16]}…"
    count = finding["n_hypotheses"]
    corrected = f"after correction for {count} {'hypothesis' if count == 1 else 'hypotheses'}"
    corrected += f"; alpha {policy['alpha']:g}"
    if finding["verdict"] == "match":
        inverted = " inverted (every bit turned round)," if finding["inverted"] else ""
        sign = "≈" if finding["tests"][0]["kind"] == "estimate" else "≤"
        return f"consistent with {key},{inverted} p {sign} {power_of_ten(finding['log10_p_value'])} {corrected}"
    if finding["verdict"] == "no-match":
        return f"{key} not detected: p = {power_of_ten(finding['log10_p_value'])} {corrected}"
    return shortened(finding["reason"], _REASON)


def standing_of(finding: Document) -> str:
    """What the key is worth as evidence."""
    standing = str(finding["standing"])
    if standing == "free-form":
        return "free-form: a bare matrix, never evidence of ownership"
    if standing == "registered" or finding["verdict"] != "match":
        return standing
    search = "clears" if finding["clears_seed_search"] else "does not clear"
    return f"{standing}; p {search} the bound for a forger who tries 2^64 seeds"


def survived_of(finding: Document) -> str:
    """Of how many simulated attacks, after how many the mark is still found."""
    tried = [trial for trial in finding["robustness"] if trial["bit_error_rate"] is not None]
    survived = sum(trial["verdict"] == "match" for trial in tried)
    left = len(finding["robustness"]) - len(tried)
    return f"{survived} of {len(tried)} simulated attacks{f' ({left} could not be tried)' if left else ''}"
