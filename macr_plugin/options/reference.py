"""The reference of all options and the schema that editors complete our files with, both made from the descriptions."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter

from macr_plugin.options.blocks import RUNS, CommonTrainOptions, GANRun, GANTrainOptions, Run, TrainOptions
from macr_plugin.options.datasets import DATASETS

Schema = dict[str, Any]

HEAD = """# Options

Every key of the option files of `python -m macr_plugin.train|test` (and BasicSR's own commands) and of
`macr benchmark`, with its type, its default and its meaning. This page is written by `make options` from the
descriptions that also check the files: every mistake in a file is reported at once, as
`file:line:column: key: what is wrong, and what is right`, before a folder is made.

Editors complete and check the files with [options.schema.json](options.schema.json) and
[benchmark.schema.json](benchmark.schema.json). With the YAML extension of VS Code, or any editor that has
yaml-language-server, put one line at the top of a file:

```yaml
# yaml-language-server: $schema=../docs/options.schema.json
```

"Needed" stands where a key has no default; `~` is YAML's empty value.
"""
TITLES = {
    "path": "Block path",
    "train": "Block train",
    "acceleration": "Block train.acceleration",
    "val": "Block val",
    "logger": "Block logger",
    "wandb": "Block logger.wandb",
    "dist_params": "Block dist_params",
    "io_backend": "Block io_backend of a dataset",
}


def reference(benchmark: type) -> str:
    """Write the page of all options.

    Args:
        benchmark: Description of a benchmark's option file.

    Returns:
        Markdown.
    """
    parts = [HEAD, "## Training and test\n", _run_tables()]
    parts += ["## Datasets\n", *(_dataset_table(name) for name in DATASETS)]
    parts += ["## Networks\n", *_class_tables("ARCH_REGISTRY"), "## Losses\n", *_class_tables("LOSS_REGISTRY")]
    parts += ["## Optimizers and schedules\n", _optimization(), "## Benchmark\n", *_tables_below(schema_of(benchmark))]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def run_schema() -> Schema:
    """JSON Schema of the option file of a training or a test with one of the plugin's model classes."""
    kinds = []
    for name, run in RUNS.items():
        schema = schema_of(run)
        definitions = schema.setdefault("$defs", {})
        schema["properties"]["model_type"]["const"] = name
        schema["patternProperties"] = {"^network_": {"type": ["object", "null"]}}
        datasets = []
        for kind, options in DATASETS.items():
            described = schema_of(options)
            definitions.update(described.pop("$defs", {}))
            described["properties"]["type"]["const"] = kind
            definitions[kind] = described
            datasets.append({"$ref": f"#/$defs/{kind}"})
        others: Schema = {"type": "object", "properties": {"type": {"not": {"enum": list(DATASETS)}}}}
        schema["properties"]["datasets"]["additionalProperties"] = {"anyOf": [*datasets, others]}
        kinds.append(_inlined(schema))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Training or test with macr_plugin",
        "anyOf": kinds,
    }


def schema_of(description: type) -> Schema:
    """JSON Schema of a description, a pydantic model or a dataclass with the annotations of one."""
    return TypeAdapter(description).json_schema()


def as_json(schema: Schema) -> str:
    """A schema as the text of its file."""
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _inlined(schema: Schema) -> Schema:
    """A schema whose references are replaced by what they refer to, so that it can be a part of another."""
    definitions = schema.pop("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, dict) and "$ref" in part:
            found = definitions[part["$ref"].rsplit("/", 1)[-1]]
            return resolve({**found, **{key: value for key, value in part.items() if key != "$ref"}})
        if isinstance(part, dict):
            return {key: resolve(value) for key, value in part.items()}
        return [resolve(value) for value in part] if isinstance(part, list) else part

    return resolve(schema)


def _run_tables() -> str:
    top = [
        _table("Top of the file", _inlined(schema_of(Run))),
        "Beside these keys stand `network_g`, the `type` of a network and its arguments, and `network_d` likewise.\n",
    ]
    for block, kind in Run.model_fields.items():
        top += _block_tables(block, kind.annotation)
    gan, common = GANTrainOptions.model_fields.keys() - TrainOptions.model_fields.keys(), _inlined(schema_of(GANRun))
    train = _block(common["properties"]["train"])
    extra = {**train, "properties": {key: value for key, value in train["properties"].items() if key in gan}}
    top.append(_table("Block train of MultiScaleDeblurGANModel, beside the keys above", extra))
    left_out = sorted(TrainOptions.model_fields.keys() - CommonTrainOptions.model_fields.keys())
    top.append(f"`MotionClassifierModel` reads all of `train` but {', '.join(f'`{key}`' for key in left_out)}.\n")
    return "\n".join(top)


def _block_tables(name: str, annotation: Any) -> Iterator[str]:
    for kind in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield _table(TITLES[name], _inlined(schema_of(kind)))
            for below, field in kind.model_fields.items():
                if below in TITLES:
                    yield from _block_tables(below, field.annotation)


def _dataset_table(name: str) -> str:
    schema = _inlined(schema_of(DATASETS[name]))
    schema["properties"]["type"] = {"const": name, "description": "class of the data"}
    return _table(name, {**schema, "required": ["type"]})


def _class_tables(registry_name: str) -> Iterator[str]:
    """Arguments of the plugin's classes, as their signatures and docstrings tell them."""
    from basicsr.utils import registry

    for class_name, kind in getattr(registry, registry_name):
        if kind.__module__.startswith("macr_plugin."):
            meanings = _documented_arguments(kind)
            rows = [
                (name, _annotation(argument), _default(argument.default), meanings.get(name, ""))
                for name, argument in inspect.signature(kind).parameters.items()
            ]
            summary = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
            yield f"### {class_name}\n\n{_plain(summary)}\n\n{_rows(rows)}\n"


def _annotation(argument: inspect.Parameter) -> str:
    return getattr(argument.annotation, "__name__", None) or str(argument.annotation)


def _documented_arguments(kind: type) -> dict[str, str]:
    """What the section "Args" of a class docstring says of each argument."""
    found = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.getdoc(kind) or "", re.MULTILINE | re.DOTALL)
    meanings: dict[str, str] = {}
    name = ""
    for line in (found[1] if found else "").splitlines():
        start = re.match(r" {4}(\**\w+): (.*)", line)
        if start:
            name = start[1]
            meanings[name] = start[2]
        elif name and line.strip():
            meanings[name] += f" {line.strip()}"
    return {name.lstrip("*"): _plain(text) for name, text in meanings.items()}


def _optimization() -> str:
    from macr_plugin.options.optimization import UNFIT_OPTIMIZERS, UNFIT_SCHEDULERS

    unfit = [", ".join(f"`{name}`" for name in names[1:]) for names in (UNFIT_OPTIMIZERS, UNFIT_SCHEDULERS)]
    return (
        "`train.optim_g` and `train.optim_d` take the `type` and the arguments of any class of `torch.optim` but "
        f"{unfit[0]}. `train.scheduler` takes those of any class of `torch.optim.lr_scheduler` but {unfit[1]}, and of "
        "BasicSR's `MultiStepLR` (also called `MultiStepRestartLR`) and `CosineAnnealingRestartLR`. Both are built "
        "once while the file is checked, so that what torch refuses is named before a run starts.\n"
    )


def _tables_below(schema: Schema) -> Iterator[str]:
    """A table for the top of a schema, and one for each block of it."""
    definitions = schema.get("$defs", {})
    yield _table("Top of the file", _inlined({**schema, "$defs": dict(definitions)}))
    for name, block in definitions.items():
        title = _plain(block.get("description", name)).split(":")[0].rstrip(".")
        yield _table(title, _inlined({**block, "$defs": dict(definitions)}))


def _block(schema: Schema) -> Schema:
    """The block among the types that a key may have."""
    return next(kind for kind in (schema, *schema.get("anyOf", ())) if "properties" in kind)


def _table(title: str, schema: Schema) -> str:
    needed = schema.get("required", ())
    rows = [
        (
            key,
            _type(part),
            "needed" if key in needed else _default(part.get("default")),
            _plain(part.get("description", "")),
        )
        for key, part in schema["properties"].items()
    ]
    return f"### {title}\n\n{_rows(rows)}\n"


def _rows(rows: Sequence[tuple[str, str, str, str]]) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, kind, default, meaning in rows:
        cells = (f"`{key}`", kind, default, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _type(schema: Schema) -> str:
    """A type in words, with its range."""
    if "anyOf" in schema:
        kinds = [_type(kind) for kind in schema["anyOf"]]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "empty"))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        inner: Schema = schema.get("items") or next(iter(schema.get("prefixItems", ())), {})
        return f"list of {_type(inner)}" if inner else "list"
    words = {
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "string": "text",
        "object": "block",
        "null": "empty",
    }
    ends = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "to {}",
        "exclusiveMaximum": "below {}",
    }
    bounds = [text.format(schema[key]) for key, text in ends.items() if key in schema]
    return " ".join([words.get(schema.get("type", ""), "anything"), *bounds])


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "needed"
    if value is None:
        return "`~`"
    if isinstance(value, dict):
        return "as below" if value else "`{}`"
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


def _plain(text: str) -> str:
    """A docstring's text as Markdown."""
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
