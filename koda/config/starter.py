"""A commented audit file to begin with, made from the models that check it: what a key means is what they say."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from koda.config.models import ModelSpec
from koda.config.reference import Setting, audit_settings

_WIDTH = 110  # of a comment with its indent
_HEADING = """\
An audit of a candidate model against a baseline: koda audit audit.yaml. Paths are relative to this file.
A line that begins with # and no space is an example that is switched off: without its # it counts. A key without a \
value is not stated, and the report says so: what a model is for, licences, sources, datasheet and owners are for you \
to fill in. Every other setting: koda config. To look before a run: koda models audit.yaml, koda data audit.yaml."""


@dataclass(frozen=True)
class _Example:
    """A key of a section; without a value it is one that the team is asked for.

    Args:
        key: its name in the section.
        value: YAML.
        on: whether it counts as it is written.
    """

    key: str
    value: str = ""
    on: bool = False


_OPENING = {"baseline": "what the candidate is compared with: ", "candidate": "what is audited: "}
_SECTIONS: dict[str, tuple[_Example, ...]] = {
    "discrepancy": (_Example("n_directions", "10"), _Example("max_reference_share", "0.003"), _Example("seed", "0")),
    "significance": (_Example("materiality", "0.003"), _Example("alpha", "0.05")),
    "zero_shot": (_Example("column", "label"), _Example("templates", '["a photo of a {}"]')),
    "policy": (
        _Example("figure", "lost.max_share"),
        _Example("warn", "0.003"),
        _Example("fail", "0.006"),
        _Example("owner", '"whoever set the limits"'),
        _Example("reason", '"why these limits"'),
    ),
    "waivers": (
        _Example("figure", "lost.max_share"),
        _Example("person", '"who decided"'),
        _Example("reason", '"why the figure may be over its limits for a time"'),
        _Example("expires", "2030-01-31"),
    ),
    "schedule": (_Example("cron", '"0 3 * * *"'), _Example("timezone", "UTC")),
    "watch": (
        _Example("path", '"runs/*/checkpoints/epoch_*.pt"'),
        _Example("every", "60"),
        _Example("as", "{name: ViT-B-32}"),
    ),
    "notify": (_Example("url", '"slack://${SLACK_TOKEN}/#models"'), _Example("on", "[fail, inconclusive, error]")),
    "promote": (
        _Example("on", "[pass]"),
        _Example("write", "promoted.json"),
        _Example("run", '["./deploy.sh", "{checkpoint}", "{report}"]'),
    ),
    "limits": (_Example("minutes", "120"),),
}


def starter(baseline: ModelSpec, candidate: ModelSpec, data: str, crosswalk: str) -> str:
    """Return an audit file with its comments.

    Args:
        baseline, candidate: the models.
        data: where the pairs lie.
        crosswalk: the file of references of frameworks, relative to the audit file.
    """
    settings = {setting.key: setting for setting in audit_settings()}
    sections = {
        "baseline": _model(baseline, "in use"),
        "candidate": _model(candidate, "step 9000"),
        "data": (
            _Example("path", _quoted(data), on=True),
            _Example("images", "photos/"),
            _Example("name", '"our pairs"'),
            _Example("limit", "10000"),
            *(_Example(key, on=True) for key in ("licence", "source", "datasheet")),
        ),
        "intended_use": tuple(_Example(key, on=True) for key in ("purpose", "out_of_scope", "owner", "contact")),
        "report": (_Example("title", '"Nightly audit"'), _Example("crosswalk", _quoted(crosswalk), on=True)),
        **_SECTIONS,
    }
    parts = ["\n".join(line for text in _HEADING.split("\n") for line in _comment(text, ""))]
    parts += ["\n".join(_section(name, examples, settings)) for name, examples in sections.items()]
    return "\n\n".join(parts) + "\n"


def _model(spec: ModelSpec, label: str) -> tuple[_Example, ...]:
    return (
        _Example("name", _quoted(spec.name), on=True),
        _Example("pretrained", _quoted(spec.pretrained or "checkpoint.pt"), on=spec.pretrained is not None),
        _Example("label", _quoted(label)),
        *(_Example(key, on=True) for key in ("licence", "source")),
    )


def _section(name: str, examples: tuple[_Example, ...], settings: dict[str, Setting]) -> Iterator[str]:
    """Write a section: what it is, then each key with its meaning; one without a key in force is switched off."""
    is_list = f"{name}[].{examples[0].key}" in settings
    yield from _comment(_OPENING.get(name, "") + settings[name].meaning, "")
    yield f"{'' if any(example.on for example in examples) else '#'}{name}:"
    for place, example in enumerate(examples):
        setting = settings[f"{name}{'[]' if is_list else ''}.{example.key}"]
        dash = "- " if is_list and place == 0 else ""
        indent = "    " if is_list and place else "  "
        told = f"; default: {setting.default}" if setting.default and "default" not in setting.meaning else ""
        yield from _comment(setting.meaning + told, indent)
        yield f"{indent}{'' if example.on else '#'}{dash}{example.key}:{example.value and ' '}{example.value}"


def _comment(text: str, indent: str) -> list[str]:
    mark = f"{indent}# "
    return textwrap.wrap(text, _WIDTH, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False)


def _quoted(text: str) -> str:
    """Write a text so that YAML reads it as it is, on one line; what cannot be printed is spelled."""
    return yaml.safe_dump(text, default_style='"', allow_unicode=text.isprintable(), width=float("inf")).strip()
