"""The configuration file: what is read, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from koda.config import AuditConfig, DiscrepancyConfig, load_config, parse_override
from koda.errors import ConfigError

MINIMAL = "baseline: {name: 'local-dir:a'}\ncandidate: {name: ViT-B-32, pretrained: openai}\ndata: {path: pairs.tsv}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "audit.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_three_keys_are_enough(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert config.discrepancy.max_reference_share == config.significance.materiality == 0.003
    assert config.discrepancy.n_directions == 10
    assert config.policy is None  # the default policy depends on what can be measured


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, MINIMAL)
    monkeypatch.chdir("/")
    config = load_config(path)
    assert config.data.path == str(tmp_path / "pairs.tsv")
    assert config.baseline.name == f"local-dir:{tmp_path / 'a'}"
    assert config.candidate.pretrained == "openai"


def test_a_folder_with_a_model_in_it_needs_no_prefix(tmp_path: Path) -> None:
    (tmp_path / "step_9").mkdir()
    (tmp_path / "step_9" / "open_clip_config.json").write_text("{}", encoding="utf-8")
    config = load_config(write(tmp_path, MINIMAL.replace("local-dir:a", "step_9")))
    assert config.baseline.name == f"local-dir:{tmp_path / 'step_9'}"


@pytest.mark.parametrize(
    ("addition", "words"),
    [
        ("discrepency: {seed: 1}", ["'discrepency'", "did you mean 'discrepancy'?"]),
        ("discrepancy: {n_direction: 5}", ["'discrepancy.n_direction'", "did you mean 'n_directions'?"]),
        ("n_directions: 5", ["'n_directions'", "did you mean 'discrepancy.n_directions'?"]),
        ("policy: [{figur: lost.max_share, fail: 1}]", ["'policy.0.figur'", "did you mean 'figure'?"]),
        ("policy: [{figure: lost.max_share}]", ["policy.0", "neither a warn nor a fail limit"]),
        ("policy: {figure: lost.max_share, fail: 1}", ["policy: input should be a list."]),
        ("waivers: [{figure: x, person: ' ', reason: r, expires: 2030-01-01}]", ["waivers.0.person: it is empty"]),
        ("discrepancy: {n_directions: 0}", ["discrepancy.n_directions", "greater than or equal to 1"]),
        ("discrepancy: {sigma: -1.0}", ["discrepancy.sigma", "positive"]),
        ("discrepancy: {eps: 0}", ["discrepancy.eps", "greater than 0"]),
        ("discrepancy: {eps: .nan}", ["discrepancy.eps", "finite"]),
        ("discrepancy: {eps: 0.1, eps_quantile: 0.5}", ["eps_quantile and eps", "one of them"]),
        ("discrepancy: {kernel: laplace}", ["discrepancy.kernel", "'cosine'", "'laplace'"]),
        ("discrepancy: {kernel: cosine, sigma: 2.0}", ["sigma is for the gaussian kernel"]),
        ("discrepancy: {kernel: cosine, features: orf}", ["orf do not approximate", "sketch or tensorsketch"]),
        ("discrepancy: {kernel: polynomial, features: rff}", ["rff do not approximate", "sketch or tensorsketch"]),
        ("discrepancy: {features: sketch}", ["sketch do not approximate the gaussian kernel", "orf or rff"]),
        ("discrepancy: {features: tensorsketch}", ["tensorsketch do not", "auto, exact, orf or rff"]),
        ("discrepancy: {n_features: 0}", ["discrepancy.n_features", "greater than or equal to 1"]),
        ("discrepancy: {eta: 2.0}", ["eta is the fixed weight of method spec"]),
        ("discrepancy: {method: spec, eps: 0.01}", ["eps is a limit of method koda"]),
        ("discrepancy: {method: spec, max_reference_share: 0.01}", ["max_reference_share is a limit of method koda"]),
        ("discrepancy: {method: spec, eta: 0}", ["discrepancy.eta", "greater than 0"]),
        ("data: {path: x.tsv}", ["audit.yaml, line 4", "'data'", "twice"]),
        ("report: [", ["audit.yaml, line", "not YAML"]),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, addition: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, MINIMAL + addition + "\n"))
    for word in words:
        assert word in str(error.value)


def test_missing_file_and_missing_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no configuration file .*nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="holds no settings"):
        load_config(write(tmp_path, "# nothing\n"))
    with pytest.raises(ConfigError, match="'candidate' is missing"):
        load_config(write(tmp_path, "baseline: {name: a}\n"))


def test_overrides_reach_nested_keys(tmp_path: Path) -> None:
    overrides = dict([parse_override("discrepancy.max_reference_share=0.002"), parse_override("report.title=A b=c")])
    config = load_config(write(tmp_path, MINIMAL), overrides)
    assert config.discrepancy.max_reference_share == 0.002
    assert config.report.title == "A b=c"
    with pytest.raises(ConfigError, match="not KEY=VALUE"):
        parse_override("seed")
    with pytest.raises(ConfigError, match="did you mean 'seed'"):
        load_config(write(tmp_path, MINIMAL), {"discrepancy.sed": 3})
    with pytest.raises(ConfigError, match="single value"):
        load_config(write(tmp_path, MINIMAL), {"data.path.x": 3})


def test_one_way_to_set_eps_is_the_default() -> None:
    assert DiscrepancyConfig().max_reference_share == 0.003
    assert DiscrepancyConfig(eps_quantile=0.5).max_reference_share is None
    assert DiscrepancyConfig(max_reference_share=0.0).max_reference_share == 0.0


def test_a_configuration_survives_json(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert AuditConfig.model_validate(config.model_dump(mode="json")) == config


def test_features_and_method_have_defaults_that_fit_each_kernel() -> None:
    for kernel in ("gaussian", "cosine", "polynomial"):
        config = DiscrepancyConfig.model_validate({"kernel": kernel})
        assert (config.features, config.n_features, config.method, config.eta) == ("auto", None, "koda", 1.0)
        for features in ("exact", "orf" if kernel == "gaussian" else "tensorsketch"):
            chosen = DiscrepancyConfig.model_validate({"kernel": kernel, "features": features, "n_features": 5})
            assert DiscrepancyConfig.model_validate(chosen.model_dump(mode="json")) == chosen
    spec = DiscrepancyConfig(method="spec", eta=0.5)
    assert DiscrepancyConfig.model_validate(spec.model_dump(mode="json")) == spec


def test_every_part_of_a_data_path_is_made_absolute_by_itself(tmp_path: Path) -> None:
    def resolved(path: str) -> str:
        return load_config(write(tmp_path, MINIMAL.replace("pairs.tsv", f"'{path}'"))).data.path

    assert resolved("shards/{00000..00010}.tar") == f"{tmp_path}/shards/{{00000..00010}}.tar"
    assert resolved("a.tar::/b/c.tar::s3://d/{0..9}.tar") == f"{tmp_path}/a.tar::/b/c.tar::s3://d/{{0..9}}.tar"
    assert resolved("s3://bucket/pairs.tsv") == "s3://bucket/pairs.tsv"
    assert resolved("a.tar::") == f"{tmp_path}/a.tar::"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match=r"'loop/x\.tsv' is not a path"):
        resolved("loop/x.tsv")


def test_links_stay_links(tmp_path: Path) -> None:
    store, work = tmp_path / "store", tmp_path / "work"
    for folder in (store / "sub", work):
        folder.mkdir(parents=True)
    for name in ("9f86d081", "model", "photos", "config"):
        (store / name).mkdir() if name == "photos" else (store / name).write_text("x", encoding="utf-8")
    links = {"pairs.tsv": "9f86d081", "epoch_1.pt": "model", "images": "photos", "far": "sub"}
    for link, target in links.items():
        (work / link).symlink_to(store / target)
    text = MINIMAL.replace("pairs.tsv", "pairs.tsv, images: images, roots: [images]")
    written = write(store, f"{text}\n")
    (work / "audit.yaml").symlink_to(written)  # as a mounted configuration is
    overrides = {"candidate.name": "ViT-B-32", "candidate.pretrained": "epoch_1.pt"}
    config = load_config(work / "audit.yaml", overrides)
    assert config.data.path == f"{work}/pairs.tsv"
    assert (config.data.images, config.data.roots) == (f"{work}/images", (f"{work}/images",))
    assert config.candidate.pretrained == f"{work}/epoch_1.pt"
    # `..` after a link steps out of what it leads to; elsewhere it is only another way to write a path
    again = load_config(work / "audit.yaml", {"data.path": "far/../x.tsv", "data.images": "x/../images"})
    assert (again.data.path, again.data.images) == (f"{work}/far/../x.tsv", f"{work}/images")
    local = load_config(work / "audit.yaml", {"data.path": f"file://{work}/a%20b.tsv"})
    assert local.data.path == f"{work}/a b.tsv"


def test_a_range_of_shards_is_no_mapping() -> None:
    assert parse_override("data.path={00000..00010}.tar") == ("data.path", "{00000..00010}.tar")
    assert parse_override("data.path=s3://b/{a,b}/0.tar") == ("data.path", "s3://b/{a,b}/0.tar")
    with pytest.raises(ConfigError, match="not YAML"):
        parse_override("data.path={1, 2")


def test_sigma_is_auto_matched_or_a_bandwidth() -> None:
    assert DiscrepancyConfig().sigma == "auto"
    assert DiscrepancyConfig(sigma="matched").sigma == "matched"
    with pytest.raises(ValueError, match="no bandwidth"):
        DiscrepancyConfig(sigma="matched", kernel="cosine")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("-1.0", "positive bandwidth"),
        ("best", "'auto' or 'matched', or .* number"),
        ("tune", "tune is gone.*use auto"),  # which an earlier koda had
    ],
)
def test_another_sigma_is_refused_in_words(tmp_path: Path, value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"audit\.yaml, line 4: discrepancy\.sigma: .*{words}"):
        load_config(write(tmp_path, MINIMAL + f"discrepancy: {{sigma: {value}}}\n"))


def test_an_item_of_a_list_can_be_set(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "policy: [{figure: lost.max_share, fail: 1}, {figure: lost.confirmed, fail: 2}]\n")
    config = load_config(path, {"policy.1.fail": 3, "policy.0": {"figure": "lost.confirmed", "warn": 1}})
    assert [(rule.figure, rule.warn, rule.fail) for rule in config.policy] == [
        ("lost.confirmed", 1, None),
        ("lost.confirmed", None, 3),
    ]
    for key, words in (("policy.2.fail", "no item '2'"), ("policy.fail", "no item 'fail'"), ("data.path.x", "single")):
        with pytest.raises(ConfigError, match=words):
            load_config(path, {key: 3})


def test_fewer_directions_than_a_step_has_are_refused_with_both_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "discrepancy: {n_directions: 12, max_directions: 7}\n")
    with pytest.raises(ConfigError, match="max_directions, 7, is less than n_directions, 12"):
        load_config(path)


def test_a_change_to_larger_steps_makes_room_for_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text(
        "baseline: {name: a}\ncandidate: {name: b}\ndata: {path: c.csv}\n"
        "discrepancy: {n_directions: 5, max_directions: 10}\n"
    )
    assert load_config(path, {"discrepancy.n_directions": 12}).discrepancy.max_directions == 12
    with pytest.raises(ConfigError, match="max_directions, 10, is less than n_directions, 12"):
        load_config(path, {"discrepancy.n_directions": 12, "discrepancy.max_directions": 10})


def test_a_large_step_raises_the_most_directions_that_nobody_stated() -> None:
    config = DiscrepancyConfig(n_directions=40)
    assert config.max_directions == 40
    assert DiscrepancyConfig.model_validate(config.model_dump()) == config
    assert DiscrepancyConfig().max_directions == 30
