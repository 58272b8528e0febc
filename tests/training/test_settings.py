"""A training run's settings: read from TOML, and everything that is wrong with them said before anything starts."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path

import pytest

from lazydiffusion.errors import BadInput
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.training.ranges import RANGES
from lazydiffusion.training.settings import Settings, find_settings, load_settings

pytestmark = pytest.mark.unit


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf8")
    return path


def toml(settings: Settings) -> str:
    """The settings as TOML: JSON writes numbers, strings, booleans and lists as TOML does."""
    plain, tables = [], []
    for name, value in dataclasses.asdict(settings).items():
        if isinstance(value, dict):
            tables += [f"[{name}]", *(f"{key} = {json.dumps(item)}" for key, item in value.items())]
        else:
            plain.append(f"{name} = {json.dumps(value)}")
    return "\n".join(plain + tables)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_settings(written(tmp_path, "")) == Settings()


def test_settings_survive_a_file(tmp_path: Path) -> None:
    settings = Settings(
        encoder={"channels": 32, "heads": 2, "rotary_base": 50.0},
        decoder={"context_channels": 32, "prediction": "velocity"},
        compile=False,
        seed=3,
    )
    settings = dataclasses.replace(
        settings,
        data=dataclasses.replace(
            settings.data, shards="elsewhere", buckets=(8, 16), bucket_weights=(1.0, 3.0)
        ),
        optimiser=dataclasses.replace(settings.optimiser, minutes=0.5, muon=False),
        output=dataclasses.replace(settings.output, folder="out", samples=4),
    )

    assert load_settings(written(tmp_path, toml(settings))) == settings


def test_a_whole_number_will_do_for_a_fraction(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "[optimiser]\nclip = 2\n[data]\nbucket_weights = [1, 2, 3]"))

    assert settings.optimiser.clip == 2.0
    assert settings.data.bucket_weights == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 1", "unknown setting `sed`; known here are compile, data, decoder"),
        ("[optimiser]\nbach = 1", r"\[optimiser\]: unknown setting `bach`; known here are adamw_rate, batch"),
        ("[optimiser]\nbatch = 'many'", "`batch` is 'many'; it must be of type int"),
        ("[optimiser]\nbatch = 1.5", "`batch` is 1.5; it must be of type int"),
        ("[optimiser]\nbatch = true", "`batch` is True; it must be of type int"),
        ("[optimiser]\nclip = true", "`clip` is True; it must be of type float"),
        ("compile = 1", "`compile` is 1; it must be of type bool"),
        ("optimiser = 3", r"`optimiser` must be a table, written \[optimiser\]"),
        ("encoder = 3", r"`encoder` must be a table, written \[encoder\]"),
        ("[data]\nbuckets = 28", "`buckets` must be a list with at least one entry"),
        ("[data]\nbuckets = []", "`buckets` must be a list with at least one entry"),
        (
            "[data]\nbuckets = ['28']\nbucket_weights = [1]",
            "an entry of `buckets` is '28'; it must be of type int",
        ),
        ("[data]\nbuckets = [28.5, 3, 4]", "an entry of `buckets` is 28.5; it must be of type int"),
        ("[data]\nbuckets = [28]", "`buckets` and `bucket_weights` must have the same length"),
        (
            "[data]\nwindow_tokens = 8",
            "a bucket of 112 tokens is larger than the window of 8 x 8 tokens",
        ),
        ("seed = ", "is not valid TOML"),
        ("seed = -1", "`seed` is -1; it must be at least 0 and at most 2147483647"),
        ("[optimiser]\nbatch = 0", r"\[optimiser\]: `batch` is 0; it must be finite and at least 1"),
        ("[optimiser]\nbatch = -1", "`batch` is -1; it must be"),
        ("[optimiser]\nsteps = 0", "`steps` is 0; it must be"),
        ("[optimiser]\nclip = inf", "`clip` is inf; it must be finite and above 0"),
        ("[optimiser]\nema = 1.0", "`ema` is 1; it must be at least 0 and below 1"),
        ("[output]\nlog_every = 0", r"\[output\]: `log_every` is 0; it must be"),
        ("[output]\nsamples = 0", "`samples` is 0; it must be"),
        ("[output]\nsample_guidance = nan", "`sample_guidance` is nan; it must be at least 0 and at most 20"),
        ("[data]\nbuckets = [0, 1, 2]", "an entry of `buckets` is 0; it must be"),
        ("[data]\nbucket_weights = [0, 0, 0]", "all of `bucket_weights` are 0; one at least must be above 0"),
        ("[data]\nbucket_weights = [-1, 1, 1]", "an entry of `bucket_weights` is -1; it must be"),
        (
            "[encoder]\nchanels = 3",
            r"\[encoder\]: unknown setting `chanels`; known here are bottleneck, channels",
        ),
        ("[encoder]\nchannels = 'many'", r"\[encoder\]: `channels` is 'many'; it must be of type int"),
        ("[encoder]\nlayers = 0", r"\[encoder\]: `layers` is 0; it must be"),
        ("[encoder]\nheads = 0", r"\[encoder\]: `heads` is 0; it must be"),
        (
            "[encoder]\nheads = 3",
            r"\[encoder\]: `heads` is 3 and `channels` 320; give each head a multiple of 4",
        ),
        (
            "[decoder]\nheads = 5",
            r"\[decoder\]: `heads` is 5 and `channels` 448; give each head a multiple of 4",
        ),
        ("[decoder]\nprediction = 'x0'", "`prediction` is 'x0'; it must be one of sample, velocity, epsilon"),
        ("[decoder]\nout_channels = 5", "no networks can be made of .encoder. and .decoder.: "),
        (
            "[decoder]\ncontext_channels = 160",
            "`context_channels` is 160; it must be the encoder's `channels`, 320",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_setting(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(BadInput, match=message) as refusal:
        load_settings(path)
    assert str(path) in str(refusal.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"run.toml cannot be read: No such file or directory"):
        load_settings(tmp_path / "run.toml")
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        load_settings(tmp_path)
    (tmp_path / "run.toml").write_bytes(b"seed = '\xff'")
    with pytest.raises(BadInput, match="is not valid TOML"):
        load_settings(tmp_path / "run.toml")


def test_every_number_has_a_range() -> None:
    """A setting that is added is checked too."""
    tables = dataclasses.asdict(Settings())
    tables |= {
        name: {key: value.default for key, value in inspect.signature(network).parameters.items()}
        for name, network in (("encoder", ContextEncoder), ("decoder", LazyDecoder))
    }
    for table, ranges in RANGES.items():
        values = tables[table] if table else tables
        numbers = {
            key
            for key, value in values.items()
            if type(value[0] if isinstance(value, tuple) else value) in (int, float)
        }
        assert numbers - set(ranges) == set(), table
        assert set(ranges) - set(values) == set(), table


@pytest.mark.parametrize("name", ["clipart", "clipart-512", "contest", "cpu"])
def test_every_packaged_configuration_is_valid_and_found_by_name(name: str) -> None:
    settings = load_settings(find_settings(name))
    assert settings.data.shards == "data/clipart"
    ContextEncoder(**settings.encoder).to("meta")
    assert LazyDecoder(**settings.decoder).config.context_channels == settings.encoder.get("channels", 320)


def test_a_run_may_be_given_another_end() -> None:
    settings = load_settings(find_settings("clipart"))
    timed = settings.lasting(9.5)
    assert (timed.optimiser.minutes, timed.optimiser.steps) == (9.5, settings.optimiser.steps)
    counted = settings.ending_after(70)
    assert (counted.optimiser.minutes, counted.optimiser.steps) == (0, 70)
    both = settings.ending_after(70).lasting(2)
    assert (both.optimiser.minutes, both.optimiser.steps) == (2, 70)
    assert timed.lasting(settings.optimiser.minutes) == settings
