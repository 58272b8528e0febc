"""Scores of pictures with captions: a tiny CLIP from a folder, and a dual encoder trained on coloured discs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from tests import tiny
from tests.evaluation.test_sprite_features import MeanColour
from torch import Tensor, nn
from transformers import AutoConfig, CLIPConfig, CLIPModel, CLIPTokenizer, SiglipConfig, SiglipModel

from lazydiffusion.errors import BadInput, BadModel
from lazydiffusion.evaluation import text_image
from lazydiffusion.evaluation.sprite_features import render
from lazydiffusion.evaluation.text_image import Clip, DualEncoder, Heads, recall_among, word_means
from lazydiffusion.models.prompt_encoder import PromptEncoder
from lazydiffusion.training.sprites import SpriteBank

pytestmark = pytest.mark.unit
WORDS = ["<|startoftext|>", "<|endoftext|>", "red</w>", "green</w>", "disc</w>", "a</w>"]
SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 12,
}  # fmt: skip
NAMES = ["a red disc", "a green disc", "a blue disc"]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights."""
    text = SIZES | {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "vocab_size": 64}
    vision = SIZES | {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    return save_with_tokenizer(model, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP with random weights, and the CLIP's tokenizer: its own would need sentencepiece."""
    vision = SIZES | {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=SIZES | {"vocab_size": 64}, vision_config=vision))
    return save_with_tokenizer(model, tmp_path_factory.mktemp("models") / "tiny-siglip")


def save_with_tokenizer(model: nn.Module, folder: Path) -> Path:
    """The model with noise on every parameter, a tokenizer that knows four words and the letters, and how it looks."""
    tiny.perturbed(model).save_pretrained(folder)
    letters = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    vocabulary = {word: number for number, word in enumerate([*WORDS, *letters[2:]])}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=12).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.48, 0.45, 0.4], "image_std": [0.26, 0.26, 0.27]})
    )
    return folder


@pytest.fixture(scope="module")
def prompts() -> PromptEncoder:
    return PromptEncoder()


@pytest.fixture(autouse=True)
def _enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many steps on a few sprites as on thousands."""
    monkeypatch.setattr(text_image, "EPOCHS", 150)


def pictures(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def discs(count: int = 96) -> SpriteBank:
    """Red, green and blue discs that are called so; a quarter of them is held out."""
    colours = [[30, 30, 30] for _ in range(3)]
    for channel in range(3):
        colours[channel][channel] = 255
    pixels = [
        torch.from_numpy(tiny.disc(64, (red, green, blue))).permute(2, 0, 1) for red, green, blue in colours
    ]
    kinds = torch.arange(count) % 3
    return SpriteBank(
        pixels=torch.stack(pixels)[kinds],
        captions=[[NAMES[kind]] for kind in kinds.tolist()],
        sets=torch.zeros(count, dtype=torch.long),
        set_names=["discs"],
        styles=["flat"] * count,
        keys=[f"{number * 16:016x}" for number in range(count)],
    )


def test_clips_score_is_the_cosine_of_its_embeddings(clip_folder: Path) -> None:
    clip = Clip(clip_folder)
    captions = ["a red disc", "disc", "green"]
    scores = clip(pictures(), captions)
    assert clip.name == "clip-tiny"
    assert scores.shape == (3,)

    model, tokenizer = CLIPModel.from_pretrained(clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
    mean, deviation = torch.tensor([0.48, 0.45, 0.4]), torch.tensor([0.26, 0.26, 0.27])
    for picture, caption, score in zip(pictures(), captions, scores.tolist(), strict=True):
        normal = ((picture + 1) / 2 - mean[:, None, None]) / deviation[:, None, None]
        with torch.no_grad():
            made = model(pixel_values=normal[None], **tokenizer(caption, return_tensors="pt"))
            cosine = made.logits_per_image / model.logit_scale.exp()
        assert score == pytest.approx(cosine.item(), abs=1e-5)
    assert scores.std() > 0.001


def test_a_siglip_will_do(siglip_folder: Path) -> None:
    scores = Clip(siglip_folder)(pictures(), ["a red disc", "disc", "green"])
    assert scores.std() > 0.001
    alone = Clip(siglip_folder)(pictures()[1:2], ["disc"])
    assert torch.allclose(alone, scores[1:2], atol=1e-5)


def test_clip_takes_any_number_of_pictures_of_any_size(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Clip(clip_folder)
    captions = ["red", "a green disc", "disc " * 40]  # the last is cut
    whole = clip(pictures(), captions)
    monkeypatch.setattr(text_image, "BATCH", 2)
    assert torch.allclose(clip(pictures(), captions), whole, atol=1e-5)
    larger = torch.nn.functional.interpolate(pictures(), (64, 64), mode="nearest")
    assert torch.allclose(clip(larger, captions), whole, atol=0.1)
    with pytest.raises(BadInput, match="3 pictures, 2 captions"):
        clip(pictures(), captions[:2])


def test_what_is_no_clip_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="There is no CLIP in"):
        Clip(tmp_path / "nowhere")
    for names, lacks in (
        (["config.json"], "has no configuration (config.json)"),
        (["preprocessor_config.json"], "has no settings for pictures (preprocessor_config.json)"),
        (["tokenizer.json", "vocab.json"], "has no tokenizer (tokenizer.json, vocab.json, spiece.model"),
        (["model.safetensors"], "has no weights (model.safetensors, model.safetensors.index.json)"),
    ):
        part = shutil.copytree(clip_folder, tmp_path / names[0])
        for name in names:
            (part / name).unlink(missing_ok=True)
        with pytest.raises(BadModel, match=re.escape(f"cannot be used as a CLIP: it {lacks}")):
            Clip(part)
    copy = shutil.copytree(clip_folder, tmp_path / "copy")
    (copy / "preprocessor_config.json").write_text("{}")
    with pytest.raises(BadModel, match="cannot be used as a CLIP: 'image_mean'"):
        Clip(copy)


def test_the_whole_reason_is_told(clip_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(clip_folder, tmp_path / "copy")
    (copy / "config.json").write_text('{"model_type": "no such model"}')
    with pytest.raises(ValueError, match="does not recognize") as library:
        AutoConfig.from_pretrained(copy, local_files_only=True)
    with pytest.raises(BadModel) as told:
        Clip(copy)
    assert "\n" in str(library.value)
    assert str(told.value).endswith(" ".join(str(library.value).split()))


def test_a_pickled_clip_is_never_loaded(clip_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(clip_folder, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    torch.save(CLIPModel.from_pretrained(clip_folder).state_dict(), copy / "pytorch_model.bin")
    with pytest.raises(BadModel, match="cannot be used as a CLIP"):
        Clip(copy)


def test_the_dual_encoder_tells_whose_caption_it_is(prompts: PromptEncoder, tmp_path: Path) -> None:
    sprites = discs()
    score = DualEncoder.trained(MeanColour(), prompts, sprites, tmp_path)
    assert score.held_out_recall > 0.6  # of three names; the mean colour is mostly the background's
    seen = render(sprites.pixels, torch.Generator().manual_seed(9))
    own = score(seen, [captions[0] for captions in sprites.captions])
    other = score(seen, [NAMES[(number + 1) % 3] for number in range(len(sprites))])
    assert own.shape == (96,)
    assert own.abs().max() <= 1 + 1e-5
    assert own.mean() > other.mean() + 0.3


def test_the_dual_encoder_is_trained_once(prompts: PromptEncoder, tmp_path: Path) -> None:
    network = MeanColour()
    first = DualEncoder.trained(network, prompts, discs(), tmp_path)
    assert network.shown == 96
    assert len(list(tmp_path.glob("dual-encoder-*.safetensors"))) == 1
    again = DualEncoder.trained(network, prompts, discs(), tmp_path)
    assert network.shown == 96
    assert again.held_out_recall == first.held_out_recall
    assert torch.equal(first(pictures(), NAMES), again(pictures(), NAMES))
    renamed = discs()
    renamed.captions = [[captions[0].replace("disc", "ball")] for captions in renamed.captions]
    DualEncoder.trained(network, prompts, renamed, tmp_path)
    assert len(list(tmp_path.glob("dual-encoder-*.safetensors"))) == 2


def test_held_out_sprites_are_not_trained_on(prompts: PromptEncoder) -> None:
    sprites = discs()
    for row in sprites.held_out().nonzero().flatten().tolist():
        number = NAMES.index(sprites.captions[row][0])
        sprites.captions[row] = [NAMES[(number + 1) % 3]]  # names that contradict all others
    assert DualEncoder.trained(MeanColour(), prompts, sprites).held_out_recall < 0.3


def test_rows_of_one_name_are_not_held_against_each_other() -> None:
    torch.manual_seed(0)
    heads = Heads(4, 5).eval()
    image, text = torch.randn(6, 4), torch.randn(3, 5).repeat(2, 1)
    images, texts = heads(image, text)
    products = images @ texts.T * heads.log_scale.exp()
    # By hand: of each row's six, the one other column of the same name is left out.
    losses = []
    for table in (products, products.T):
        for row in range(6):
            kept = [column for column in range(6) if column == row or column % 3 != row % 3]
            losses.append(table[row, kept].logsumexp(0) - table[row, row])
    expected = torch.stack(losses).mean()
    assert torch.allclose(heads.loss(image, text, torch.arange(3).repeat(2)), expected, atol=1e-5)


def test_recall_is_expected_over_which_captions_are_shown() -> None:
    scores = torch.eye(5)
    assert recall_among(scores, list("abcde"), among=5) == 1
    scores[0, 1] = 2  # one of four others is better than the first row's own:
    assert recall_among(scores, list("abcde"), among=5) == pytest.approx(4 / 5)  # it is always shown,
    assert recall_among(scores, list("abcde"), among=2) == pytest.approx((4 + 3 / 4) / 5)  # or once in four
    assert recall_among(scores, list("aacde"), among=5) == 1  # or is the same name
    assert recall_among(torch.ones(5, 5), list("abcde")) == 0  # a tie is no find


def test_a_captions_words_count_alike(prompts: PromptEncoder) -> None:
    captions = ["a red hat", "cat", "a red hat"]
    means = word_means(prompts, captions)
    states, mask = prompts(captions[:2])
    assert torch.allclose(means[0], states[0][mask[0]].mean(dim=0), atol=1e-5)
    assert torch.allclose(means[1], states[1][mask[1]].mean(dim=0), atol=1e-5)
    assert torch.equal(means[0], means[2])
