"""A commented audit file to begin with, made from the models that check it: what a key means is what they say."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from koda.config.audit import AuditConfig, DiscrepancyConfig
from koda.config.models import ModelSpec
from koda.config.reference import Setting, audit_settings

_WIDTH = 110  # of a comment with its indent
_HEADING = """\
An audit of a candidate model against a baseline: koda audit audit.yaml. Paths are relative to this file.
A line that begins with # and no space is an example that is switched off: without its # it counts. A key without a \
value is not stated, and the report says so: what a model is for, licences, sources, datasheet and owners are for you \
to fill in. Every other setting: koda config. To look before a run: koda models audit.yaml, koda data audit.yaml."""

_CONTINUED = """\
The audit {audit} again, as its record has it: koda audit audit.yaml. Paths are relative to this file.
What it left at its default is left out, and so is when it ran, what it watched and whom it told: those stand here as \
examples. A line that begins with # and no space is such an example, which counts without its #. A key without a value \
is not stated, and the report says so: what a model is for, licences, sources, datasheet and owners are for you to \
fill in."""


@dataclass(frozen=True)
class _Example:
    """A key of a section; without a value it is one that the team is asked for.

    Args:
        key: its name in the section.
        value: YAML.
        on: whether it counts as it is written.
        begins: whether an item of a list begins with it.
    """

    key: str
    value: str = ""
    on: bool = False
    begins: bool = False


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
    return _file(_HEADING, _sections(baseline, candidate, data, _Example("crosswalk", _quoted(crosswalk), on=True)))


def continued(config: AuditConfig, audit: str, crosswalk: str) -> str:
    """Return the audit file of an audit that was run, which also asks for what its report could not state.

    Args:
        config: of the audit, as its record has it.
        audit: id.
        crosswalk: the file of references of frameworks in the example of one.
    """
    asked = _sections(config.baseline, config.candidate, config.data.path, _Example("crosswalk", _quoted(crosswalk)))
    stated = config.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    usual = DiscrepancyConfig().model_dump(mode="json")  # with the limit that holds where none is stated
    stated["discrepancy"] = {key: value for key, value in stated.get("discrepancy", {}).items() if value != usual[key]}
    sections: dict[str, tuple[_Example, ...]] = {}
    for name in dict.fromkeys([*asked, *stated]):
        given, examples = stated.get(name), asked.get(name, ())
        if isinstance(given, list):
            sections[name] = tuple(
                _Example(key, _value(value), on=True, begins=place == 0)
                for item in given
                for place, (key, value) in enumerate(item.items())
            )
            continue
        known = {key: _Example(key, _value(value), on=True) for key, value in (given or {}).items()}
        sections[name] = (*known.values(), *(example for example in examples if example.key not in known))
    return _file(_CONTINUED.format(audit=audit), sections)


def _sections(
    baseline: ModelSpec, candidate: ModelSpec, data: str, crosswalk: _Example
) -> dict[str, tuple[_Example, ...]]:
    return {
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
        "report": (_Example("title", '"Nightly audit"'), crosswalk),
        **_SECTIONS,
    }


def _file(heading: str, sections: dict[str, tuple[_Example, ...]]) -> str:
    settings = {setting.key: setting for setting in audit_settings()}
    parts = ["\n".join(line for text in heading.split("\n") for line in _comment(text, ""))]
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
    yield from _comment(_OPENING.get(name, "") + settings[name].meaning, "")
    if not examples:  # a list that is stated to be empty
        yield f"{name}: []"
        return
    is_list, explained = f"{name}[].{examples[0].key}" in settings, set()
    yield f"{'' if any(example.on for example in examples) else '#'}{name}:"
    for place, example in enumerate(examples):
        setting = settings[f"{name}{'[]' if is_list else ''}.{example.key}"]
        dash = "- " if is_list and (place == 0 or example.begins) else ""
        indent = "    " if is_list and not dash else "  "
        told = f"; default: {setting.default}" if setting.default and "default" not in setting.meaning else ""
        if example.key not in explained:
            yield from _comment(setting.meaning + told, indent)
        explained.add(example.key)
        yield f"{indent}{'' if example.on else '#'}{dash}{example.key}:{example.value and ' '}{example.value}"


def _comment(text: str, indent: str) -> list[str]:
    mark = f"{indent}# "
    return textwrap.wrap(text, _WIDTH, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False)


def _value(value: Any) -> str:
    """Write a value so that YAML reads it as it is, on one line."""
    if isinstance(value, str):
        return _quoted(value)
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf")).strip()[1:-1]


def _quoted(text: str) -> str:
    """Write a text so that YAML reads it as it is, on one line; what cannot be printed is spelled."""
    return yaml.safe_dump(text, default_style='"', allow_unicode=text.isprintable(), width=float("inf")).strip()
