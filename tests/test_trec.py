"""TREC files: another program that reads them comes to the same figures."""

from __future__ import annotations

from pathlib import Path

import ir_measures
import pytest

from rag.errors import InvalidRequest
from rag.evaluate import STAGES
from rag.measures import MEASURES
from rag.trec import require_names, write_trec
from tests.evaluated import evaluated, own_set


def test_what_is_written_measures_the_same_elsewhere(tmp_path: Path) -> None:
    evaluation = evaluated(tmp_path / "index")
    written = write_trec(tmp_path / "trec", evaluation.runs, own_set().qrels)
    assert {file.name for file in written} == {"qrels.txt", *(f"{stage}.run" for stage in STAGES)}
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "trec" / "qrels.txt")))
    wanted = [ir_measures.parse_measure(name) for name in MEASURES]
    for stage, figures in evaluation.report["stages"].items():
        run = list(ir_measures.read_trec_run(str(tmp_path / "trec" / f"{stage}.run")))
        found = ir_measures.calc_aggregate(wanted, qrels, run)
        for name, each in zip(MEASURES, wanted, strict=True):
            assert found[each] == pytest.approx(figures[name], abs=1e-12)


def test_every_relevance_and_rank_is_read_back(tmp_path: Path) -> None:
    qrels = {"q1": {"a": 2, "b": 0}, "q2": {"c.~-_": 1}}
    runs = {"fused": {"q1": ["b", "a", "z"], "q2": []}}
    write_trec(tmp_path, runs, qrels)
    read = ir_measures.read_trec_qrels(str(tmp_path / "qrels.txt"))
    assert [(q.query_id, q.doc_id, q.relevance) for q in read] == [
        ("q1", "a", 2),
        ("q1", "b", 0),
        ("q2", "c.~-_", 1),
    ]
    run = ir_measures.read_trec_run(str(tmp_path / "fused.run"))
    ranked = sorted(run, key=lambda each: -each.score)
    assert [each.doc_id for each in ranked] == ["b", "a", "z"]
    assert (tmp_path / "fused.run").read_text().splitlines()[0] == "q1 Q0 b 1 3 fused"


@pytest.mark.parametrize("name", ["two words", "", "tab\tbed", " q", "line\nfeed", "a b"])
def test_a_query_id_that_is_no_word_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="not one word"):
        require_names(["fine", name])
    with pytest.raises(InvalidRequest):
        write_trec(tmp_path / "trec", {}, {name: {"a": 1}})
    assert not (tmp_path / "trec").exists()
