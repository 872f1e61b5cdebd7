"""Settings, files, links, commands, routes and RPCs that documents name exist, and their examples are well formed."""

import importlib.util
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from google.protobuf import descriptor_pool, json_format, message_factory
from pydantic import BaseModel

from cli.__main__ import app
from cli.local.suite import SuiteSettings
from gateway.app import SERVICES
from gateway.config import GatewaySettings
from gateway.exports.registry import EXPORTS
from gateway.transcoding.openapi import document
from services.analysis.config import AnalysisSettings
from services.auth.config import AuthSettings
from services.common.config import PREFIX, Section, load
from services.download.config import DownloadSettings
from services.separation.config import SeparationSettings
from stemtube.download.v1 import track_job_pb2

ROOT = Path(__file__).parents[1]
FOLDERS = ("bench", "cli", "deploy", "docs", "gateway", "page", "protos", "services", "songs", "tests")
NOT_OURS = {".git", ".venv", "node_modules", "__pycache__", "gen", "web", "data", "build"}


def _files() -> Iterator[Path]:
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [name for name in inner if name not in NOT_OURS]
        yield from (Path(folder, name).relative_to(ROOT) for name in names)


FILES = sorted(_files())
DOCUMENTS = [path for path in FILES if path.suffix == ".md" and not path.parts[0].startswith(".")]
PROCESSES = (AuthSettings, DownloadSettings, SeparationSettings, AnalysisSettings, GatewaySettings)
# Read outside the settings classes: by the loader of settings, and by the tests.
OTHER_VARIABLES = {"STEMTUBE_SECRETS_DIR", "STEMTUBE_CONFIG"} | {
    f"STEMTUBE_TEST_{name}" for name in ("DATABASE_URL", "BROWSER", "MODELS")
}
# Made by a build, or by an operator.
MADE = ("gateway/web", "protos/gen", "build/", "stemtube.toml", "backup.json")
COMMAND: Any = typer.main.get_command(app)
API = document(SERVICES)

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=str)


def text_of(path: Path | str) -> str:
    return (ROOT / path).read_text()


def blocks(text: str, language: str = "") -> list[str]:
    """The code blocks of a language, with continued lines joined."""
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\\\n\s*", "", block) for block in found]


def spans(text: str) -> list[str]:
    """The texts in backticks outside of code blocks."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


# ---- settings


def variables(cls: type[BaseModel], prefix: str = PREFIX) -> Iterator[str]:
    for name, field in cls.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper()


def environment(command: Any) -> Iterator[str]:
    """Variables that the options of a command and its subcommands read."""
    for parameter in command.params:
        yield from [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()
    for inner in getattr(command, "commands", {}).values():
        yield from environment(inner)


KNOWN = {variable for cls in PROCESSES for variable in variables(cls)} | set(environment(COMMAND)) | OTHER_VARIABLES


@every_document
def test_every_setting_that_is_named_exists(path: Path) -> None:
    text = text_of(path)
    named = re.findall(r"STEMTUBE_[A-Z_]+", text)
    named += [PREFIX + name for name in re.findall(r"(?<![A-Z_])[A-Z]+__[A-Z_]+", text)]
    # `STEMTUBE_DOWNLOAD__…` is the beginning of names.
    beginnings = {name for name in named if name.endswith("_")}
    assert [name for name in beginnings if not any(known.startswith(name) for known in KNOWN)] == []
    assert sorted(set(named) - beginnings - KNOWN) == []


def test_the_example_of_a_settings_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = blocks(text_of("docs/settings.md"), "toml")
    (tmp_path / "stemtube.toml").write_text(block)
    monkeypatch.chdir(tmp_path)
    settings = load(SeparationSettings)
    assert (settings.data_dir, settings.separation.device) == (Path("/srv/stemtube"), "cuda:0")
    assert load(SuiteSettings).data_dir == Path("/srv/stemtube")


# ---- files and links


def is_there(name: str, document: Path) -> bool:
    places = (ROOT / name, (ROOT / document).parent / name)
    return any(place.exists() for place in places) or any(f"/{path}".endswith(f"/{name}") for path in FILES)


@every_document
def test_every_file_that_is_named_exists(path: Path) -> None:
    text = text_of(path)
    named = [span.partition("::")[0].rstrip("/") for span in spans(text)]
    named += re.findall(r"<br/>([\w./]+/[\w./]+)$", text, re.MULTILINE)
    paths = [
        name
        for name in named
        if re.fullmatch(r"[\w./-]+", name)
        and (name.split("/")[0] in FOLDERS or re.search(r"\w\.(py|tsx?|toml|ya?ml|proto|md|css)$", name))
        # `PART/entries.py` stands for several.
        and not re.search(r"(?<![A-Z])(PART|NAME|FAMILY|PORT|ID|JOB|LEASE)(?![A-Z])", name)
        and not name.startswith(MADE)
    ]
    assert [name for name in paths if not is_there(name, path)] == []


def anchors(path: Path) -> set[str]:
    """Where links into a page can lead, as GitHub names headings."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_document
def test_every_link_leads_somewhere(path: Path) -> None:
    text = text_of(path)
    for link in [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src="([^"]+)"', text)]:
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / path).parent / file if file else ROOT / path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_document
def test_every_module_and_target_that_is_run_exists(path: Path) -> None:
    text = text_of(path)
    for module in re.findall(r"python -m ((?:services|gateway|cli|bench|tests|songs)[\w.]*\w)", text):
        assert importlib.util.find_spec(module), module
    targets = set(re.findall(r"^([a-z0-9-]+):", text_of("Makefile"), re.MULTILINE))
    code = "\n".join([*spans(text), *blocks(text)])
    assert set(re.findall(r"^make ([a-z][a-z0-9-]*)", code, re.MULTILINE)) <= targets


@every_document
def test_every_option_of_a_bench_exists(path: Path) -> None:
    for module, words in re.findall(r"python -m (bench[\w.]*\w)([^`\n]*)", text_of(path)):
        spec = importlib.util.find_spec(module)
        assert spec, module
        if spec.submodule_search_locations:
            spec = importlib.util.find_spec(f"{module}.__main__")
            assert spec, module
        options = set(re.findall(r"--[a-z][a-z-]*", words))
        assert options <= set(re.findall(r'add_argument\("(--[a-z-]+)"', Path(str(spec.origin)).read_text())), module


# ---- the command line


def check_command(words: list[str], *, complete: bool) -> None:
    """Fails unless the command, its options and, where it is complete, its arguments are right."""
    command: Any = COMMAND
    while words and not words[0].startswith("-") and getattr(command, "commands", None):
        if words[0].isupper() or words[0] == "…":  # `stemtube COMMAND --help`
            return
        assert words[0] in command.commands, words
        command = command.commands[words[0]]
        words = words[1:]
    if complete:
        command.make_context(command.name, list(words))
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if re.fullmatch("-[-a-z]+", word)} <= known | {"--help"}, words


@every_document
def test_every_command_that_is_shown_is_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMTUBE_NEW_PASSWORD", "asked for unless given")
    text = text_of(path)
    for span in spans(text):
        if span.startswith("stemtube "):
            check_command(shlex.split(span)[1:], complete=False)
    for block in blocks(text):
        for line in block.splitlines():
            if line.startswith("stemtube "):
                check_command(shlex.split(line, comments=True)[1:], complete=True)


def test_the_page_on_the_command_line_has_all_commands() -> None:
    def paths(command: Any, before: str) -> Iterator[str]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from paths(inner, f"{before} {name}") if getattr(inner, "commands", None) else [f"{before} {name}"]

    text = text_of("docs/command-line.md")
    assert [path for path in paths(COMMAND, "stemtube") if f"\n{path}" not in text] == []


# ---- HTTP


def operations(address: str) -> tuple[dict[str, Any], str]:
    """The operations at an address of an example, by verb, and its query."""
    path, _, query = address.partition("?")
    for template in (path, *API["paths"]):
        if template in API["paths"] and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return API["paths"][template], query
    raise AssertionError(f"{address} is no route")


def check_query(operation: dict[str, Any], query: str) -> None:
    known = {parameter["name"] for parameter in operation.get("parameters", [])}
    assert set(re.findall(r"(\w+)=", query)) <= known, query


@every_document
def test_every_route_that_is_named_exists(path: Path) -> None:
    for span in spans(text_of(path)):
        if found := re.fullmatch(r"(?:([A-Z]+) )?(/api/v1/[^\s*]+)", span):
            if found[2] == "/api/v1/openapi.json":
                continue
            verbs, query = operations(found[2])
            assert not found[1] or found[1].lower() in verbs, span
            check_query(verbs.get((found[1] or "get").lower(), {}), query)


def curls() -> list[str]:
    return ["curl " + call for block in blocks(text_of("docs/http.md")) for call in re.split(r"\bcurl ", block)[1:]]


@pytest.mark.parametrize("call", curls())
def test_every_http_example_is_a_valid_request(call: str) -> None:
    (address,) = re.findall(r"localhost:8080(/[^'\s]+)", call)
    bodies, fields = re.findall(r"-d '([^']+)'", call), re.findall(r"-F '?(\w+)=", call)
    verbs, query = operations(address)
    operation = verbs["post" if bodies or fields else "get"]
    check_query(operation, query)
    content = operation.get("requestBody", {}).get("content", {})
    for body in bodies:
        schema = {**API, **content["application/json"]["schema"]}
        jsonschema.Draft202012Validator(schema).validate(json.loads(body))
    if fields:
        assert set(fields) <= set(content["multipart/form-data"]["schema"]["properties"])
    for options in re.findall(r"-F 'options=([^']+)'", call):
        json_format.Parse(options, track_job_pb2.ProcessingOptions())


def test_the_example_of_options_is_valid() -> None:
    (block,) = blocks(text_of("docs/http.md"), "json")
    options = json_format.Parse(block, track_job_pb2.ProcessingOptions())
    assert list(options.separations[0].stems) == ["vocals", "no_vocals"]


def test_the_table_of_exports_is_complete() -> None:
    rows = [line.strip("| ").split(" | ") for line in text_of("docs/exports.md").splitlines() if line.startswith("| `")]
    told = {name: "".join(row[2:]) for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    assert set(told) == set(EXPORTS)
    for name, export in EXPORTS.items():
        options = set(re.findall(r"`(\w+)=", told[name]))
        assert options == {option.name for option in export.options}, name


# ---- gRPC


def test_every_rpc_of_the_examples_takes_its_message() -> None:
    pool = descriptor_pool.Default()
    calls = "\n".join(blocks(text_of("docs/grpc.md"))).splitlines()
    assert len(calls) > 3
    for call in calls:
        ((name, rpc),) = re.findall(r"(stemtube\.\w+\.v1\.\w+)(?:/(\w+))?", call)
        service = pool.FindServiceByName(name)
        if rpc:
            message = message_factory.GetMessageClass(service.methods_by_name[rpc].input_type)()
            json_format.Parse(re.findall(r"-d '([^']+)'", call)[0], message)
