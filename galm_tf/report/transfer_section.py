"""What a run started from, as its page tells it."""

from __future__ import annotations

from typing import Any, Optional, Sequence

from galm_tf.matches import givers, is_close
from galm_tf.report.run_reading import FinishedRun, folder_name

_FOUND = {  # what --match did for an attribute
    "predictor": "found a source attribute whose predictor separates their labels",
    "cosine": "took the source attribute whose embedding points most nearly where theirs does",
    "random": "drew a source attribute by chance",
}
_TAKEN = {"policy": "embedding", "towers": "weights"}  # part of --transfer: what an attribute has from its match


def starts(run: FinishedRun) -> dict[str, str]:
    """Attribute -> the source attribute that it started from, in words; empty for a run from nothing."""
    transfer = transfer_section(run)
    if not transfer or not transfer["used"]:
        return {}
    matches, rule = run.result["transfer"]["matches"], transfer["match"]
    return {
        name: _start(match, _own(match, "parts", transfer["parts"]), _own(match, "match", rule))
        for name, match in matches.items()
    }


def _own(match: Optional[dict[str, Any]], key: str, common: Any) -> Any:
    """`parts` that an attribute took over, or the `match` by which it was found: `common`, or, of one that an extended
    run had before, what its match says.
    """
    return (match or {}).get(key, common)


def _start(match: Optional[dict[str, Any]], parts: Sequence[str], rule: str) -> str:
    if not is_close(match):
        return f"no match; tower of {match['attribute']}" if match and "towers" in parts else "nothing"
    auc, strength = match["auc"], match.get("strength")
    like = strength if rule == "cosine" else None if auc is None else max(auc, 1 - auc)
    held = f", strength {strength:.2f}" if rule != "cosine" and strength is not None else ""
    return match["attribute"] + " reversed" * (match["sign"] < 0) + ("" if like is None else f" ({like:.2f}{held})")


def transfer_section(run: FinishedRun) -> Optional[dict[str, Any]]:
    """What a transfer run started from; `used` is False where its trial from the sources was no better than one from
    nothing, or, where `on_trunk`, from nothing but their pretrained trunk, which is not among the `parts` then.

    Of an extended run it is what the last addition started from, and `before` what its other attributes did, if any.
    """
    transfer, added = run.result.get("transfer"), run.result.get("added")
    if not transfer:
        return None
    every, gate = transfer["matches"], transfer.get("gate")
    own = {name: match for name, match in every.items() if not added or name in added["attributes"]}
    matches, others = list(own.values()), [match for name, match in every.items() if name not in own]
    close = [match for match in every.values() if is_close(match)]
    given, left = (list(map(folder_name, paths)) for paths in givers(transfer))
    matched = sum(map(is_close, matches))
    parts = [part for part in transfer["parts"] if part != "policy" or run.config.hands_over_policy]
    sources = [path for path in transfer["sources"] if not others or path != added["source_run"]]
    policy_from = transfer.get("policy_from") and folder_name(transfer["policy_from"])
    used = gate is None or gate["passed"]
    on_trunk = not used and bool(run.result.get("trunk"))
    return {
        "sources": [folder_name(added["source_run"])] if added else given,
        "left": left,
        "parts": [part for part in parts if part != "trunk" or not on_trunk],
        "match": transfer["match"],
        "found": _FOUND[transfer["match"]],
        "matched": matched,
        "all": len(matches),
        "nearest": sum(match is not None for match in matches) - matched,
        "far": any(
            match and not is_close(match) and "towers" in _own(match, "parts", parts) for match in every.values()
        ),
        "policy_from": policy_from,
        "taken": f"weights (of those of {policy_from} also the embedding)"
        if policy_from
        else " and ".join(_TAKEN[part] for part in parts if part in _TAKEN),
        "mixed": any("parts" in (match or {}) for match in others),
        "close": bool(close),
        "separated": any(match.get("auc") is not None for match in close),
        "strengths": any(match.get("strength") is not None for match in close),
        "by_cosine": any(_own(match, "match", transfer["match"]) == "cosine" for match in close),
        "before": {"count": len(others), "sources": list(map(folder_name, sources))} if others else None,
        "gate": gate,
        "used": used,
        "on_trunk": on_trunk,
    }
