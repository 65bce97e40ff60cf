"""The flows that Prefect starts, what is served, and prefect.yaml."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_SERVER_API_PORT, temporary_settings
from rich.console import Console
from typer.testing import CliRunner

from flows.cli.app import app
from flows.deployments import audit, checkpoint
from flows.serve import deployments_of
from flows.server import port_to_serve
from flows.service import load, service_of
from koda.config.naming import with_candidate
from koda.errors import ConfigError, MachineError
from tests.catcher import catching
from tests.flows.workplace import Workplace, make_workplace

_PREFECT_YAML = Path(__file__).parents[2] / "prefect.yaml"


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return make_workplace(tmp_path)


def change(place: Workplace, **sections: Any) -> Path:
    settings = yaml.safe_load(place.config.read_text(encoding="utf-8"))
    place.config.write_text(yaml.safe_dump({**settings, **sections}), encoding="utf-8")
    return place.config


def message(state: Any) -> str:
    assert state.is_failed()
    return str(state.message)


def test_the_parameters_are_plain_typed_and_documented() -> None:
    properties = audit.parameters.properties
    assert list(properties) == ["config", "candidate", "overrides", "home"]
    assert properties["config"]["format"] == "path" and audit.parameters.required == ["config"]
    assert all("description" in each for each in properties.values())
    assert checkpoint.parameters.required == ["checkpoint", "config"]


def test_bad_input_is_a_failed_state_in_words(place: Workplace) -> None:
    given = {"config": place.config, "home": place.home}
    nowhere = message(audit(**{**given, "config": place.folder / "no.yaml"}, return_state=True))
    assert "no.yaml" in nowhere and "Traceback" not in nowhere
    assert "n_directons" in message(audit(**given, overrides={"discrepancy.n_directons": "1"}, return_state=True))
    gone = message(audit(**given, candidate="local-dir:gone", return_state=True))
    assert str(place.folder / "gone") in gone and "Traceback" not in gone
    assert "names no checkpoint" in message(checkpoint(checkpoint="", **given, return_state=True))
    secret = message(audit(**given, overrides={"data.path": "https://me:hidden@host/a.tsv"}, return_state=True))
    assert "credentials" in secret and "hidden" not in secret
    assert audit(**given, candidate=["no"], return_state=True).is_failed()  # which Prefect itself refuses


def test_what_is_refused_before_its_audit_is_told(place: Workplace) -> None:
    with catching() as catcher:
        given = {"config": change(place, notify=[{"url": catcher.url, "on": ["error"]}]), "home": place.home}
        assert audit(**given, overrides={"discrepancy.n_directons": "1"}, return_state=True).is_failed()
        assert audit(**given, candidate="", return_state=True).is_failed()
        assert checkpoint(checkpoint="", **given, return_state=True).is_failed()
        said = [told["message"] for told in catcher.received]
    assert len(said) == 3
    assert "n_directons" in said[0] and "empty" in said[1] and "names no checkpoint" in said[2]


def test_an_audit_started_by_prefect_is_that_of_the_command(place: Workplace) -> None:
    result = audit(config=place.config, candidate="new", overrides={"discrepancy.n_directions": "1"}, home=place.home)
    code, again, _ = place.run("--set", "discrepancy.n_directions=1")
    assert result["id"] == again["id"] and again["steps_executed"] == 0 and code == 0


def test_a_candidate_is_a_name_or_a_checkpoint_of_the_model_that_is_trained(tmp_path: Path) -> None:
    (tmp_path / "e@1.pt").touch()
    settings = {"baseline": {"name": "ViT-B-32", "pretrained": "openai"}, "data": {"path": "p.tsv"}}
    settings |= {
        "candidate": {"name": "ViT-B-32", "pretrained": "e@1.pt", "image_mean": [0.5] * 3, "image_std": [0.2] * 3}
    }
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    config = load(tmp_path / "a.yaml", None)
    (tmp_path / "e2.pt").touch()
    for name in ("e2.pt", f"{tmp_path}/e2.pt", "ViT-B-32@e2.pt"):
        found = with_candidate(config, name, tmp_path).candidate
        assert (found.name, found.pretrained, found.image_mean) == ("ViT-B-32", str(tmp_path / "e2.pt"), (0.5,) * 3)
    tagged = with_candidate(config, "ViT-B-32@laion2b_s34b_b79k", tmp_path).candidate
    assert tagged.pretrained == "laion2b_s34b_b79k" and tagged.image_mean is None
    assert with_candidate(config, "hf-hub:a/b", tmp_path).candidate.name == "hf-hub:a/b"
    for wrong, why in ((" ", "empty"), ("runs/e3.pt", f"no file {tmp_path}/runs/e3.pt"), ("e3.pt", "no file")):
        with pytest.raises(ConfigError, match=why):
            with_candidate(config, wrong, tmp_path)


def test_what_is_served_follows_the_configuration(place: Workplace) -> None:
    with pytest.raises(ConfigError, match="neither a section schedule nor a section watch"):
        service_of(place.config, {}, place.home)
    schedule = {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}
    by_clock = service_of(change(place, schedule=schedule), {"discrepancy.seed": "3"}, place.home)
    assert by_clock.missing == ["no watch: section: no checkpoint is looked for"]
    due = by_clock.next_audit()
    assert due is not None and (due.hour, due.minute, str(due.tzinfo)) == (3, 0, "Europe/Berlin")
    made = deployments_of(by_clock)
    assert [each.name for each in made] == [by_clock.name, f"{by_clock.name}-schedule"]
    assert all(each.parameters["overrides"] == {"discrepancy.seed": "3"} for each in made)
    properties = {"config", "candidate", "overrides", "home"}
    schema = made[0]._parameter_openapi_schema.model_dump(exclude_unset=True)
    assert set(schema["properties"]) == properties and schema["additionalProperties"] is False
    both = service_of(change(place, watch={"path": "runs/*"}), {}, place.home)
    strategy = {
        f"{each.flow_name}/{each.name.removeprefix(both.name)}": each.concurrency_options.collision_strategy
        for each in deployments_of(both)
        if each.concurrency_options is not None
    }
    enqueue, cancel = ConcurrencyLimitStrategy.ENQUEUE, ConcurrencyLimitStrategy.CANCEL_NEW
    assert strategy == {
        "koda-audit/": enqueue,
        "koda-audit/-schedule": cancel,
        "koda-watch/": cancel,
        "koda-checkpoint/": enqueue,
    }


def test_the_command_says_what_is_missing_and_a_server_that_does_not_answer(place: Workplace) -> None:
    told = CliRunner().invoke(app, ["serve", str(place.config)])
    assert told.exit_code == 2 and "schedule" in told.stderr and "watch" in told.stderr
    change(place, schedule={"cron": "0 3 * * *"})
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        told = CliRunner().invoke(app, ["serve", str(place.config)])
    assert told.exit_code == 3 and "no Prefect server answers there" in told.stderr


def test_the_port_of_the_server_is_the_one_that_was_set_or_that_of_the_last_time(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, temporary_settings({PREFECT_HOME: tmp_path}):
        port = taken.getsockname()[1]
        with (
            temporary_settings({PREFECT_SERVER_API_PORT: port}),
            pytest.raises(MachineError, match=f"PREFECT_SERVER_API_PORT is {port}"),
        ):
            port_to_serve()
        (tmp_path / "serve-port").write_text(str(port))
        assert port_to_serve() != port
        taken.close()
        assert port_to_serve() == port


def test_prefect_reads_prefect_yaml_and_every_entry_is_there() -> None:
    from prefect.cli.deploy._config import _load_deploy_configs_and_actions
    from prefect.flows import load_flow_from_entrypoint

    console = Console(record=True, quiet=True)
    deployments, _ = _load_deploy_configs_and_actions(_PREFECT_YAML, console=console)
    names = [(each["name"], each["work_pool"]["name"]) for each in deployments]
    assert names == [
        ("process", "koda"),
        ("checkpoints", "koda"),
        ("checkpoints", "koda"),
        ("docker", "koda-docker"),
        ("kubernetes", "koda-kubernetes"),
    ]
    for each in deployments:
        flow = load_flow_from_entrypoint(each["entrypoint"])
        assert set(each["parameters"]) <= set(flow.parameters.properties)
