"""Pages that the gateway renders itself, such as the API's documentation; they need no scripts and no other sites."""

import html
import json
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from gateway.middleware import PAGE_POLICY

STYLE_PATH = "/api/docs.css"
STYLE = """\
:root { color-scheme: light dark; --faint: color-mix(in srgb, currentColor 55%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--faint); }
h3 { margin-top: 2rem; font: 600 1rem/1.4 ui-monospace, monospace; }
code, .verb { font-family: ui-monospace, monospace; }
.verb { display: inline-block; min-width: 4rem; color: #0a6ed1; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; }
th { font-weight: 600; color: var(--faint); }
td:first-child { white-space: nowrap; }
.text { white-space: pre-line; }
.faint { color: var(--faint); }
"""


def api_page(document: dict[str, Any]) -> str:
    """Renders the OpenAPI document as a page."""
    info = document["info"]
    parts = [
        f"<h1>{_escape(info['title'])}: the HTTP API</h1>",
        f'<p class="text">{_escape(info["description"])}</p>',
        '<p>For programs: <a href="/api/v1/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>',
    ]
    for tag in document["tags"]:
        parts.append(f'<h2>{_escape(tag["name"])}</h2><p class="text">{_escape(tag["description"])}</p>')
        for path, operations in document["paths"].items():
            for verb, operation in operations.items():
                if tag["name"] in operation["tags"]:
                    parts += _operation(verb, path, operation)
    parts.append("<h2>Messages</h2>")
    for name, schema in document["components"]["schemas"].items():
        parts += _schema(name, schema)
    return _page(info["title"] + " API", "\n".join(parts))


def start_page() -> str:
    """A short page for the gateway's root if the real page has not been built."""
    return _page(
        "StemTube",
        "<h1>StemTube</h1><p>Stems, beats, tempo, key, chords, words and structure of songs.</p>"
        "<p>The page to use it in a browser is not built here. On the machine where StemTube runs, "
        "<code>make page</code> builds it; it needs the npm registry once. Then start StemTube again.</p>"
        '<p>The HTTP API of this suite is described at <a href="/api/docs">/api/docs</a>.</p>',
    )


def page_response(text: str) -> web.Response:
    """A response with a page that may load only its style."""
    return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="{STYLE_PATH}"></head>\n<body>\n{body}\n</body></html>\n'
    )


def _operation(verb: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    identifier = _escape(operation["operationId"])
    yield f'<h3 id="{identifier}"><span class="verb">{verb.upper()}</span>{_escape(path)}</h3>'
    text = "\n".join(filter(None, (operation.get("summary"), operation.get("description"))))
    yield f'<p class="text">{_escape(text)}</p>'
    if parameters := operation.get("parameters"):
        yield "<table><tr><th>Parameter</th><th>Where</th><th>Type</th><th></th></tr>"
        for parameter in parameters:
            schema = parameter.get("schema") or parameter["content"]["application/json"]["schema"]
            yield (
                f"<tr><td><code>{_escape(parameter['name'])}</code></td><td>{parameter['in']}</td>"
                f"<td>{_type(schema)}</td><td>{_escape(parameter.get('description', ''))}</td></tr>"
            )
        yield "</table>"
    if body := operation.get("requestBody"):
        for media_type, content in body["content"].items():
            yield f"<p>Body: <code>{_escape(media_type)}</code> {_type(content.get('schema', {}))}</p>"
    yield "<table><tr><th>Status</th><th>Content</th><th></th></tr>"
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        types = ", ".join(_type(media.get("schema", {})) or _escape(name) for name, media in content.items())
        described = response.get("description", "An error, as Status.")
        yield f'<tr><td>{_escape(status)}</td><td>{types}</td><td class="text">{_escape(described)}</td></tr>'
    yield "</table>"


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f'<h3 id="{_escape(name)}">{_escape(name)}</h3>'
    yield f'<p class="text">{_escape(schema.get("description", ""))}</p>'
    if values := schema.get("enum"):
        yield f"<p>{', '.join(f'<code>{_escape(value)}</code>' for value in values)}</p>"
    if properties := schema.get("properties"):
        yield from _properties(properties)


def _properties(properties: dict[str, Any]) -> Iterator[str]:
    yield "<table><tr><th>Field</th><th>Type</th><th></th></tr>"
    for name, schema in properties.items():
        described = _escape(schema.get("description", ""))
        yield (
            f'<tr><td><code>{_escape(name)}</code></td><td>{_type(schema)}</td><td class="text">{described}</td></tr>'
        )
    yield "</table>"


def _type(schema: dict[str, Any]) -> str:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f'<a href="#{_escape(name)}">{_escape(name.rpartition(".")[2])}</a>'
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("type") == "object" and isinstance(values := schema.get("additionalProperties"), dict):
        return f"map to {_type(values)}"
    if schema.get("type") == "object" and schema.get("properties"):
        fields = ", ".join(
            f"<code>{_escape(name)}</code> {_type(inner)}" for name, inner in schema["properties"].items()
        )
        return f"object of {fields}"
    if "const" in schema:
        return f"<code>{_escape(json.dumps(schema['const']))}</code>"
    return _escape(schema.get("format") or schema.get("type") or "")


def _escape(text: str) -> str:
    return html.escape(str(text))
