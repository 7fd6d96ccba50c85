"""The documentation page: the OpenAPI document as plain HTML, without scripts, fonts or other hosts."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

import msgspec

METHODS: Final = ("get", "post", "put", "patch", "delete")
STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
color: #222 }
h2 { margin-top: 3rem; border-bottom: 1px solid #ccc } h3 { margin: 2rem 0 .3rem; font-size: 1rem }
code, pre { font: 13px/1.45 ui-monospace, monospace; background: #f4f4f2; border-radius: 3px }
code { padding: .1em .3em } pre { padding: .7rem; overflow: auto } pre code { padding: 0 }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top;
padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #e5e5e0 } summary { cursor: pointer }
.method { display: inline-block; min-width: 4rem; font-weight: 700; text-transform: uppercase }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd }
code, pre { background: #262626 }
a { color: #8bf } td, th, h2 { border-color: #444 } }
"""


def page(document: Mapping[str, Any]) -> bytes:
    """The whole page."""
    info, components = document["info"], document["components"]["schemas"]
    body = "\n".join(
        [
            f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
            _prose(info.get("description", "")),
            '<p>The same for programs: <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>',
            _contents(document),
            *_sections(document),
            "<h2 id='objects'>Objects</h2>",
            *(_component(name, schema) for name, schema in sorted(components.items())),
        ]
    )
    head = f"<meta charset='utf-8'><title>{escape(info['title'])}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>".encode()


def _operations(document: Mapping[str, Any], tag: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if (operation := item.get(method)) and tag in operation.get("tags", ()):
                yield method, path, operation


def _contents(document: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td><span class='method'>{method}</span> <a href='#{_anchor(method, path)}'>"
        f"<code>{escape(path)}</code></a></td><td>{escape(operation.get('summary', ''))}</td></tr>"
        for tag in document["tags"]
        for method, path, operation in _operations(document, tag["name"])
    ]
    return f"<table>{''.join(rows)}</table>"


def _sections(document: Mapping[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2>{_prose(tag.get('description', ''))}"
        for method, path, operation in _operations(document, tag["name"]):
            yield _operation(method, path, operation)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    title = f"<span class='method'>{method}</span> <code>{escape(path)}</code>"
    parts = [
        f"<h3 id='{_anchor(method, path)}'>{title}</h3>",
        f"<p><b>{escape(operation.get('summary', ''))}.</b></p>{_prose(operation.get('description', ''))}",
    ]
    if parameters := operation.get("parameters"):
        rows = "".join(_parameter(parameter) for parameter in parameters)
        parts.append(f"<table><tr><th>Parameter</th><th>Type</th><th>Meaning</th></tr>{rows}</table>")
    if body := operation.get("requestBody"):
        for media_type, content in body["content"].items():
            schema = content["schema"]
            parts.append(f"<p>Body: {_kind(schema)} as <code>{escape(media_type)}</code></p>")
            parts.extend(_example(value) for value in schema.get("examples", [])[:1])
    parts.append("<details><summary>Answers</summary>")
    parts.extend(_answer(status, answer) for status, answer in sorted(operation["responses"].items()))
    parts.append("</details>")
    return "\n".join(parts)


def _parameter(parameter: Mapping[str, Any]) -> str:
    needed = ", required" if parameter.get("required") and parameter["in"] != "path" else ""
    return (
        f"<tr><td><code>{escape(parameter['name'])}</code> ({escape(parameter['in'])}{needed})</td>"
        f"<td>{_kind(parameter['schema'])}</td><td>{escape(parameter.get('description') or '')}</td></tr>"
    )


def _answer(status: str, answer: Mapping[str, Any]) -> str:
    text = f"<p><b>{escape(status)}</b> {_prose(answer.get('description', ''), inline=True)}</p>"
    for content in (answer.get("content") or {}).values():
        text += f"<p>{_kind(content.get('schema', {}))}</p>"
        text += "".join(_example(example["value"]) for example in (content.get("examples") or {}).values())
    return text


def _component(name: str, schema: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code>{' *' if field in schema.get('required', ()) else ''}</td>"
        f"<td>{_kind(kind)}</td><td>{escape(str(kind.get('description', '')))}</td></tr>"
        for field, kind in schema.get("properties", {}).items()
    )
    values = ", ".join(f"<code>{escape(str(value))}</code>" for value in schema.get("enum", ()))
    described = _prose(schema.get("description", ""))
    return f"<h3 id='object-{escape(name)}'>{escape(name)}</h3>{described}{values}<table>{rows}</table>"


def _kind(schema: Mapping[str, Any]) -> str:
    if reference := schema.get("$ref"):
        name = escape(reference.rsplit("/", 1)[-1])
        return f"<a href='#object-{name}'>{name}</a>"
    for several in ("oneOf", "anyOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[several]))
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return escape(str(schema.get("format") or schema.get("type") or "any"))


def _example(value: object) -> str:
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return f"<pre><code>{escape(text)}</code></pre>"


def _prose(text: str, inline: bool = False) -> str:
    """Paragraphs, with `code` between backticks."""
    pieces = escape(text).split("`")
    marked = "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))
    return (
        marked
        if inline
        else "".join(f"<p>{paragraph}</p>" for paragraph in marked.split("\n\n") if paragraph)
    )


def _anchor(method: str, path: str) -> str:
    return f"{method}{''.join(character if character.isalnum() else '-' for character in path)}"
