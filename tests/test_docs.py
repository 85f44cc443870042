"""The documents name what there is: every command, setting, route, module and error field."""

from __future__ import annotations

import re
import shutil
from datetime import date
from pathlib import Path

import pytest
import typer
from fastapi import FastAPI

from rag import Archive, Searcher, ingest, load_encoder, read_paths
from rag.cli import app
from rag.config import Settings
from rag.periods import find_periods
from rag.serve import create_app
from tests.evaluated import evaluated
from tests.fakes import FakeEncoder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "index/README.md",
        "eval/README.md",
    )
]


def _commands() -> list[str]:
    group = typer.main.get_command(app)
    return sorted(group.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", _commands())
def test_readme_names_every_command(command: str) -> None:
    assert f"rag {command}" in README


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_readme_names_every_setting(name: str) -> None:
    assert f"`RAG_{name.upper()}`" in README


def _phrases() -> list[str]:
    table = README.partition("| in the question | as |")[2].partition("\n\n")[0]
    first = [row.split("|")[1] for row in table.splitlines()[2:]]
    return re.findall('"([^"]+)"', " ".join(first))


def test_readme_names_phrases_that_are_understood() -> None:
    read = {each: find_periods(f"what fell {each}?", date(2025, 11, 23)) for each in _phrases()}
    assert len(read) > 25
    assert [each for each, periods in read.items() if not periods] == []


def _routes(tmp_path: Path) -> FastAPI:
    return create_app(Settings(index=tmp_path), encoder=FakeEncoder())


def test_readme_names_every_route(tmp_path: Path) -> None:
    paths = _routes(tmp_path).openapi()["paths"]
    missing = [
        f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method in methods
        if f"{method.upper()} {path}" not in README
    ]
    assert not missing


def test_architecture_names_every_module() -> None:
    modules = {file.stem for file in (ROOT / "rag").glob("*.py")} - {"__init__"}
    missing = sorted(name for name in modules if f"`{name}`" not in ARCHITECTURE)
    assert not missing


def test_architecture_names_only_modules_that_exist() -> None:
    table = ARCHITECTURE[ARCHITECTURE.index("## Layers") : ARCHITECTURE.index("## Seams")]
    named = set(re.findall(r"`([a-z_]+)`", table))
    modules = {file.stem for file in (ROOT / "rag").glob("*.py")}
    assert sorted(named - modules) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_files_that_documents_name_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"\b((?:rag|eval|tests|seeds|index)/[\w./-]*\w|[A-Z]{4,}\.md)", text)
    derived = ("index/library.db", "index/lexical", "index/dense", "index/write")
    missing = [
        name
        for name in named
        if not name.startswith(derived) and not (ROOT / name.rstrip(".")).exists()
    ]
    assert not missing


@pytest.mark.parametrize("target", re.findall(r"(?:^|`)make ([a-z]+)", README, re.M))
def test_make_targets_that_readme_names_are_there(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_no_document_has_a_gap_to_be_filled() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"@[A-Z0-9]+@|TODO|FIXME", document.read_text(encoding="utf-8"))


def test_no_document_names_a_package_registry_or_a_home_folder() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert not re.search(r"https?://[\w.-]*(pypi|pythonhosted|npmjs|debian)", text)
        assert not re.search(r"(?<![\w.])/(home|root|work|Users)/", text)


def test_every_seed_has_its_sources() -> None:
    sources = (ROOT / "seeds" / "SOURCES.md").read_text(encoding="utf-8")
    for file in (ROOT / "seeds").glob("*.md"):
        if file.name != "SOURCES.md":
            assert f"- `{file.stem}`: " in sources


@pytest.mark.model
def test_the_answer_that_readme_shows_is_the_real_one(tmp_path: Path) -> None:
    shown = re.findall(r"## A question\n.*?```\n(.*?)```", README, re.DOTALL)[0]
    archive = Archive(tmp_path)
    encoder = load_encoder()
    seeds = [file for file in (ROOT / "seeds").glob("*.md") if file.name != "SOURCES.md"]
    ingest(archive, encoder, read_paths(sorted(seeds)))
    answer = Searcher(archive, encoder).ask("who warned of spillover and when", top_k=3)
    archive.close()
    for citation in answer.citations:
        assert f"{citation.rank}. {citation.quote}\n" in shown
        assert f"{citation.hit.article.id} [{citation.start}:{citation.end}]" in shown


@pytest.mark.model
def test_the_python_lines_of_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "seeds", tmp_path / "seeds")
    names: dict[str, object] = {}
    exec(code, names)  # what README shows is run as it stands
    quote = capsys.readouterr().out.strip()
    story = ROOT / "seeds" / "russia-isk-central-asia.md"
    assert quote in story.read_text(encoding="utf-8")
    archive = names["archive"]
    assert isinstance(archive, Archive)
    with archive.snapshot() as snapshot:
        articles, _ = snapshot.counts()
    archive.close()
    assert articles == len(list((ROOT / "seeds").glob("*.md"))) - 1  # SOURCES.md is none


def _options(*commands: str) -> list[str]:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    parameters = [each for name in commands for each in known[name].params]
    return sorted({name for each in parameters for name in each.opts if name.startswith("--")})


@pytest.mark.parametrize("option", _options("eval", "bench"))
def test_readme_names_every_option_of_measuring(option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", README)


def test_the_evaluation_readme_names_every_entry_of_a_report(tmp_path: Path) -> None:
    text = (ROOT / "eval" / "README.md").read_text(encoding="utf-8")
    report = evaluated(tmp_path).report
    plain = {"format", "set", "queries", "measures"}  # say all by their name
    entries = {*report, "comparison", *report["abstention"], *report["abstention"]["correctness"]}
    missing = sorted(name for name in entries - plain - {"questions"} if f"{name}`" not in text)
    assert missing == []


def test_every_promise_is_held_by_a_test_that_is_there() -> None:
    named = re.findall(r"`((?:test_|Test)\w+)`", (ROOT / "docs/promises.md").read_text())
    code = "\n".join(file.read_text() for file in (ROOT / "tests").glob("test_*.py"))
    assert len(named) > 40
    missing = [name for name in named if f"{name}(" not in code and f"{name} =" not in code]
    assert not missing
