from collections.abc import Sequence

import numpy as np
import pytest

from shared.data.generic import TEXT
from shared.errors import ConfigError, EvaluationError, SchemaError, UnknownNameError
from shared.evaluation.embeddings.prompts import build_prompts, embed_prompts, with_prompts

CLASSES = ("cat", "dog")


class Speller:
    """Embeds a text as how often each of some letters is in it."""

    name, revision = "speller", ""

    def __init__(self, letters: str = "acdgot{}", modality: str = "text") -> None:
        self.letters, self.modality, self.batches = letters, modality, []

    def modalities(self, schemas):
        if self.modality not in schemas:
            raise SchemaError(f"speller reads {self.modality}.")
        return (self.modality,)

    def embed(self, modality: str, raws: Sequence[str], schema):
        assert schema is TEXT
        self.batches.append(len(raws))
        return np.array([[t.count(letter) for letter in self.letters] for t in raws], float)


def test_templates_and_names():
    found = build_prompts(CLASSES, ["a {}", "{} or {}, 100 %"], {"dog": "hound {x}"})
    assert found == [
        ["a cat", "cat or cat, 100 %"],
        ["a hound {x}", "hound {x} or hound {x}, 100 %"],
    ]


@pytest.mark.parametrize(
    ("classes", "templates", "names", "error", "words"),
    [
        (CLASSES, [], {}, ConfigError, "give one at least"),
        (CLASSES, ["a {}", "a cat"], {}, ConfigError, "'a cat' has no {}"),
        ((), ["a {}"], {}, ConfigError, "these have none"),
        (CLASSES, ["a {}"], {"dgo": "x"}, UnknownNameError, "Did you mean 'dog'"),
        (CLASSES, ["a {}"], {"dog": "cat"}, ConfigError, "'cat' and 'dog' have the same prompts"),
    ],
)
def test_mistakes(classes, templates, names, error, words):
    with pytest.raises(error, match=words):
        build_prompts(classes, templates, names)


def test_embeddings_are_by_class_and_template():
    prompts = build_prompts([*"abcdefghij"], [f"{'t' * i}{{}}" for i in range(10)])
    speller = Speller()
    vectors = embed_prompts(speller, prompts)
    assert speller.batches == [64, 36]
    assert vectors.shape == (10, 10, 8)
    assert vectors.dtype == np.float32
    assert vectors[:, :, speller.letters.index("t")].tolist() == [list(range(10))] * 10
    assert vectors[0, :, 0].tolist() == [1] * 10


def test_a_set_gets_its_prompts(make_set):
    made = make_set()
    found = with_prompts(made, Speller(), ["{}", "a {}"])
    assert found.prompts.shape == (4, 2, 8)
    assert made.prompts is None


def test_models_that_cannot_say_so(make_set):
    with pytest.raises(EvaluationError, match="speller embeds no texts"):
        with_prompts(make_set(), Speller(modality="image"), ["a {}"])
    with pytest.raises(EvaluationError, match=r"8 wide, embeddings 5 \(m0\), 6 \(m1\)"):
        with_prompts(make_set(widths=(5, 6)), Speller(), ["a {}"])


def test_a_clip_model_of_transformers(tmp_path, make_set):
    """Texts go through the same tower as those of a dataset."""
    transformers = pytest.importorskip("transformers")
    from shared.evaluation.foreign import foreign_embedder

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "of"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = transformers.BertTokenizerFast(
        str(tmp_path / "vocab.txt"), model_input_names=["input_ids"]
    )
    tokenizer.save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    small["num_attention_heads"] = 2
    text = {
        **small,
        "vocab_size": len(words),
        "eos_token_id": 3,
        "bos_token_id": 2,
        "pad_token_id": 0,
    }
    config = transformers.CLIPConfig(
        text_config={**text, "max_position_embeddings": 12},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    transformers.CLIPModel(config).eval().save_pretrained(tmp_path)
    embedder = foreign_embedder(
        f"transformers:{tmp_path}", weights=None, device="cpu", precision="float32",
        modality=None, offline=True,
    )  # fmt: skip
    made = make_set(n_classes=2, classes=CLASSES, widths=(8,))
    prompts = with_prompts(made, embedder, ["a {}", "a {} of a {}"]).prompts
    assert prompts.shape == (2, 2, 8)
    alone = embedder.embed("text", ["a dog of a dog"], TEXT)
    assert np.allclose(prompts[1, 1], alone[0], atol=1e-5)
