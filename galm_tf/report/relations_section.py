"""How the attributes of a run relate, as its page tells it: heat map, Fig. 5, Table 5, clusters."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from galm_tf.attribute_names import domain_of, without_domain
from galm_tf.report import analysis, figures
from galm_tf.report.relations import EMBEDDINGS, LEAST_IMAGES, SCORES, Relations
from galm_tf.report.run_data import Evidence
from galm_tf.report.run_reading import FinishedRun
from galm_tf.telemetry import clustered_order

_CORRELATED_ROWS = 4  # of Table 5, per domain
_OPEN_LEAVES = 40  # a larger tree of attributes is folded


def relations_section(
    run: FinishedRun, shown: dict[str, str], related: Sequence[Relations], evidence: Evidence
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the page says of it, and its plots; or the sentence that stands in their place.

    Args:
      run: the run.
      shown: attribute -> what the page calls it.
      related: how its attributes relate; the first is shown.
      evidence: its data and scores, where they are at hand.
    """
    without_scores = _without_scores(evidence)
    if not related:
        missing = (
            "The heat map, the correlation of domains (Fig. 5), the most correlated attributes (Table 5) and the clusters are left "
            f"out: this run has {_too_few(run, without_scores)}."
        )
        return {"missing": missing}, {}
    first, matrix = related[0], related[0].matrix
    names = list(shown.values())
    grouped = analysis.clusters(matrix)
    order = clustered_order(matrix) if grouped is None else grouped.order
    drawn = {"correlation": figures.heat_map(matrix, names, order)}
    found = {
        "missing": "",
        "basis": first.basis,
        "agreement": {relations.basis: relations.agreement for relations in related},
        "without_scores": without_scores if first.basis == EMBEDDINGS else "",
        "spread": float(matrix[np.triu_indices(len(names), 1)].std()),
        "size": run.vectors.shape[1] if first.basis == EMBEDDINGS else None,
        "images": len(evidence.data.split.test) if first.basis == SCORES else None,
        "domain_tables": _domain_tables(run, matrix),
        "correlated": _most_correlated(run, shown, matrix),
        "clusters": None,
    }
    if grouped is not None:
        found["clusters"], more = _clusters(run, grouped, names)
        drawn.update(more)
    return found, drawn


def _clusters(
    run: FinishedRun, grouped: analysis.Clusters, names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Who is in which cluster, and the map and the tree; coloured by domain where there are several."""
    numbers = range(1, grouped.labels.max() + 1)
    if len(analysis.domains_of(run)) > 1:
        colours, groups = run.attribute_domains, analysis.domains_of(run)
    else:
        colours, groups = [f"cluster {label}" for label in grouped.labels], [f"cluster {c}" for c in numbers]
    drawn = {
        "map": figures.attribute_map(grouped, names, colours, groups),
        "tree": figures.dendrogram(grouped, names, colours, groups),
    }
    members = [[names[i] for i in grouped.order if grouped.labels[i] == c] for c in numbers]
    found = {
        "members": members,
        "silhouette": grouped.silhouette,
        "shown_share": grouped.shown_share,
        "cut": grouped.cut,
    }
    return {**found, "folded": len(names) > _OPEN_LEAVES}, drawn


def _without_scores(evidence: Evidence) -> str:
    """Why nothing goes by scores, where that is so, in a sentence."""
    if evidence.scores is None:
        return evidence.missing or evidence.scores_missing
    images = int(np.unique(evidence.test_domains(), return_counts=True)[1].max())
    return f"Correlations are taken of at least {LEAST_IMAGES} test images of a domain; this run has {images} of one at most."


def _too_few(run: FinishedRun, without_scores: str) -> str:
    """What a run without relations lacks, in words."""
    if len(run.rows) < 2:
        return "a single attribute"
    return f"no attribute embeddings (method {run.result['method']}; galm learns them) and its networks' scores were not compared ({without_scores.rstrip('.')})"


def _domain_tables(run: FinishedRun, matrix: np.ndarray) -> list[dict[str, Any]]:
    """Fig. 5 a and b as tables of targets by sources; none where a run has one domain."""
    domains = analysis.domains_of(run)
    if len(domains) < 2:
        return []
    cells = {(r.figure, r.target, r.source): r for r in analysis.domain_correlation(run, matrix).itertuples()}
    titles = (("5a", "Own domain left out (Fig. 5 a)"), ("5b", "Own domain left in (Fig. 5 b)"))
    return [
        {
            "title": title,
            "domains": domains,
            "rows": [(target, [cells.get((figure, target, source)) for source in domains]) for target in domains],
        }
        for figure, title in titles
    ]


def _most_correlated(run: FinishedRun, shown: dict[str, str], matrix: np.ndarray) -> dict[str, Any]:
    """Table 5 for the attributes that are most like some of the other domains, and for each attribute in words."""
    table = analysis.correlated_attributes(run, matrix)
    sources = [domain for domain in analysis.domains_of(run) if domain in set(table["source"])]
    cells, first = {}, {}
    for r in table.itertuples():
        # its column names the domain
        cells.setdefault((r.attribute, r.source), []).append((without_domain(r.correlated), r.correlation))
        if r.rank == 1:
            first.setdefault(r.attribute, []).append((r.correlated, r.correlation))
    strength = {name: np.mean([correlation for _, correlation in found]) for name, found in first.items()}
    groups = []
    for domain in analysis.domains_of(run):
        names = sorted((n for n in run.rows if domain_of(n) == domain), key=lambda n: (-strength.get(n, -1), n))
        rows = [(shown[n], [cells.get((n, source), []) for source in sources]) for n in names[:_CORRELATED_ROWS]]
        groups.append((domain, rows))
    words = {
        name: ", ".join(f"{shown[other]} ({correlation:.2f})" for other, correlation in found)
        for name, found in first.items()
    }
    return {"sources": sources, "groups": groups, "words": words}
