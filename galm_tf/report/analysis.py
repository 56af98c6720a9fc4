"""What a run tells about networks and attributes: Fig. 5, Tables 4 and 5, the policy's confidence, clusters (paper
§4.5, §4.6).

Tables are pandas frames in long form, which `write_tables` leaves as CSV files. What Fig. 5, Table 5 and clusters go by
is one of `relations`.

Paper: Fig. 5 shows "correlations among different domains" without a formula. Here: of all attributes of a target
domain, the share whose most correlated attribute is of a source domain, with the own domain left out (a) or in (b),
beside the share that equally likely attributes would give, and the mean correlation of all pairs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import Iterator, Optional, Sequence

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform
from sklearn.decomposition import KernelPCA
from sklearn.metrics import silhouette_score

from galm_tf import evaluation, selection
from galm_tf.attribute_names import domain_of
from galm_tf.errors import UserError
from galm_tf.report.relations import Relations
from galm_tf.report.run_reading import FinishedRun
from galm_tf.search_space import DECISIONS, Architecture
from galm_tf.whole_file import whole_file

NUM_CORRELATED = 3  # of Table 5
FOLDER = "analysis"  # of the tables, beside the page
_TABLES = (
    "table4_choice_frequencies", "policy_confidence", "table5_correlated_attributes", "attribute_clusters", "fig5_domain_correlation",
)  # fmt: skip
_MOST_CLUSTERS = 12


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Attributes grouped by their distance, 1 - correlation (SciPy, average linkage).

    Attributes:
      tree: SciPy's linkage, float64 [N - 1, 4].
      order: attributes from one end of the tree to the other, int [N].
      labels: cluster of each attribute, from 1, in that order; int [N].
      cut: distance at which the tree is cut.
      silhouette: of these clusters; 1 well apart, 0 none. They are as many as make it greatest.
      points: map by principal components of the correlations (scikit-learn), float64 [N, 2].
      shown_share: of the variance that the map shows.
    """

    tree: np.ndarray
    order: np.ndarray
    labels: np.ndarray
    cut: float
    silhouette: float
    points: np.ndarray
    shown_share: float


def domains_of(run: FinishedRun) -> list[str]:
    """Domains with an attribute that has a network, in the run's order."""
    present = set(run.attribute_domains)
    return [domain for domain in run.result["domains"] if domain in present]


def choice_frequencies(run: FinishedRun) -> pd.DataFrame:
    """Table 4: columns domain, attributes, decision, choice, share (NaN of no attribute); void Fc-2 widths are not
    counted, nor architectures of attributes that nothing judged, which are arbitrary.
    """
    rows, chosen = [], reasoned(run)
    for domain in domains_of(run):
        architectures = [a for name, a in chosen.items() if domain_of(name) == domain]
        for decision, choices in selection.choice_frequencies([a.number for a in architectures]).items():
            count = sum(getattr(a, decision) != 0 or decision != "fc2_width" for a in architectures)
            rows += [
                (domain, count, decision, choice, np.nan if share is None else share)
                for choice, share in choices.items()
            ]
    return pd.DataFrame(rows, columns=["domain", "attributes", "decision", "choice", "share"])


def reasoned(run: FinishedRun) -> dict[str, Architecture]:
    """The architectures that were chosen for a reason; all where none was, which the page says."""
    chosen = {name: a for name, a in run.architectures.items() if not evaluation.unjudged(run.rows[name])}
    return chosen or run.architectures


def domain_correlation(run: FinishedRun, matrix: np.ndarray) -> pd.DataFrame:
    """Fig. 5 by correlations [N, N]: columns figure (5a: own domain left out, 5b: left in), target, source, share,
    chance, mean_correlation.
    """
    of, domains = run.attribute_domains, domains_of(run)
    rows = []
    for figure, own in (("5a", False), ("5b", True)):
        for target in domains:
            sources = [d for d in domains if own or d != target]
            rows += [(figure, target, *row) for row in _nearest_shares(matrix, of, target, sources)]
    return pd.DataFrame(rows, columns=["figure", "target", "source", "share", "chance", "mean_correlation"])


def _nearest_shares(matrix: np.ndarray, of: np.ndarray, target: str, sources: Sequence[str]) -> Iterator[tuple]:
    """(source, share, chance, mean correlation) of one target domain."""
    candidates = np.isin(of, sources)[None, :] & ~np.eye(len(of), dtype=bool)  # no attribute is its own neighbour
    told = (candidates & (matrix != 0)).any(axis=1)  # scores that never change relate to nothing
    rows, allowed = matrix[told & (of == target)], candidates[told & (of == target)]
    if not len(rows) or not allowed.any(axis=1).all():
        return
    nearest = of[np.where(allowed, rows, -np.inf).argmax(axis=1)]
    for source in sources:
        pairs = allowed & (of == source)[None, :]
        mean = float(rows[pairs].mean()) if pairs.any() else np.nan
        yield source, float(np.mean(nearest == source)), float(pairs.sum() / allowed.sum()), mean


def correlated_attributes(run: FinishedRun, matrix: np.ndarray) -> pd.DataFrame:
    """Table 5 by correlations [N, N]: the most correlated attributes of other domains; of the own one where a run has
    no other.

    Returns:
      Columns attribute, domain, source, rank, correlated, correlation.
    """
    of, names = run.attribute_domains, list(run.rows)
    domains, rows = domains_of(run), []
    for i, name in enumerate(names):
        for source in [d for d in domains if d != of[i]] or domains:
            # scores that never change relate to nothing
            members = np.flatnonzero((of == source) & (np.arange(len(of)) != i) & (matrix[i] != 0))
            best = members[np.argsort(-matrix[i, members], kind="stable")][:NUM_CORRELATED]
            rows += [(name, of[i], source, rank, names[j], float(matrix[i, j])) for rank, j in enumerate(best, 1)]
    return pd.DataFrame(rows, columns=["attribute", "domain", "source", "rank", "correlated", "correlation"])


def policy_confidence(run: FinishedRun) -> pd.DataFrame:
    """How sure the policy is of every decision, void Fc-2 widths and attributes that nothing judged left out.

    Returns:
      Columns attribute, domain, decision, taken, taken_probability (of the choice that was taken),
      highest_probability (of any choice), uniform.
    """
    of, rows, chosen = run.attribute_domains, [], reasoned(run)
    for i, name in enumerate(run.rows):
        for decision in DECISIONS if name in chosen else ():
            taken = getattr(chosen[name], decision.name)
            if taken not in decision.choices:  # void
                continue
            p = run.policy[decision.name][i]
            probability = float(p[decision.choices.index(taken)])
            rows.append((name, of[i], decision.name, str(taken), probability, float(p.max()), 1 / len(p)))
    columns = ["attribute", "domain", "decision", "taken", "taken_probability", "highest_probability", "uniform"]
    return pd.DataFrame(rows, columns=columns)


def clusters(matrix: np.ndarray) -> Optional[Clusters]:
    """Groups of attributes by their correlations [N, N]; None for fewer than four attributes, or equal correlations."""
    if len(matrix) < 4:
        return None
    distance = np.clip(1 - matrix, 0, 2)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    cuts = [fcluster(tree, count, "maxclust") for count in range(2, min(_MOST_CLUSTERS, len(tree)) + 1)]
    silhouette, labels = max(((_silhouette(distance, cut), cut) for cut in cuts), key=lambda item: item[0])
    if silhouette <= -1:  # all are equally far apart
        return None
    order = leaves_list(tree)
    points = KernelPCA(2, kernel="precomputed", random_state=0).fit(matrix)
    centred = matrix - matrix.mean(0) - matrix.mean(1)[:, None] + matrix.mean()
    share = float(points.eigenvalues_.sum() / max(np.trace(centred), 1e-9))
    kept = len(np.unique(labels))
    cut = float(tree[-kept + 1, 2] + tree[-kept, 2]) / 2
    points_2d = np.zeros((len(matrix), 2))
    shown = points.transform(matrix)
    points_2d[:, : shown.shape[1]] = shown
    return Clusters(tree, order, _renumbered(labels, order), cut, silhouette, points_2d, share)


def _silhouette(distance: np.ndarray, labels: np.ndarray) -> float:
    found = len(np.unique(labels))  # equal distances are cut together
    return float(silhouette_score(distance, labels, metric="precomputed")) if 1 < found < len(labels) else -1.0


def _renumbered(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The same clusters, counted from 1 along the order."""
    numbers = {label: i for i, label in enumerate(dict.fromkeys(labels[order]), 1)}
    return np.array([numbers[label] for label in labels])


def tables(run: FinishedRun, related: Sequence[Relations]) -> dict[str, pd.DataFrame]:
    """CSV name -> table, of all that the run can tell; a column `basis` where it goes by relations."""
    found = {"table4_choice_frequencies": choice_frequencies(run)} if run.searched else {}
    if run.policy is not None:
        found["policy_confidence"] = policy_confidence(run)
    if not related:
        return found
    makers = {"table5_correlated_attributes": correlated_attributes, "attribute_clusters": _cluster_table}
    if len(domains_of(run)) > 1:
        makers["fig5_domain_correlation"] = domain_correlation
    for name, maker in makers.items():
        by_basis = {relations.basis: maker(run, relations.matrix) for relations in related}
        found[name] = pd.concat(by_basis, names=["basis"]).reset_index("basis").reset_index(drop=True)
    return {name: table for name, table in found.items() if len(table)}


def _cluster_table(run: FinishedRun, matrix: np.ndarray) -> pd.DataFrame:
    """Columns attribute, domain, cluster, x, y; empty where there are too few attributes."""
    grouped = clusters(matrix)
    if grouped is None:
        return pd.DataFrame()
    x, y = grouped.points.T
    return pd.DataFrame(
        {"attribute": list(run.rows), "domain": run.attribute_domains, "cluster": grouped.labels, "x": x, "y": y}
    )


def write_tables(run: FinishedRun, related: Sequence[Relations], folder: str) -> None:
    """Writes the tables as CSV files into a folder, each whole or not at all."""
    try:
        os.makedirs(folder, exist_ok=True)
        found = tables(run, related)
        for name, table in found.items():
            with whole_file(os.path.join(folder, f"{name}.csv")) as partial:
                table.to_csv(partial, index=False, float_format="%.6g", encoding="utf-8")
        for name in set(_TABLES) - set(found):  # of an earlier report, which knew more
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(folder, f"{name}.csv"))
    except OSError as error:
        raise UserError(
            f"Expected to be able to write tables into {folder}. Received: {error.strerror or error}; name another "
            "place by --out."
        ) from error
