import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from shared.data.dataset import Dataset, SampleTable
from shared.data.generic import TEXT
from shared.data.image_files import IMAGE
from shared.errors import (
    ConfigError,
    DataError,
    DependencyError,
    EvaluationError,
    SchemaError,
    UnknownNameError,
    WeightsError,
)
from shared.evaluation.embeddings.extract import extract
from shared.evaluation.foreign import callable_embedder, foreign_embedder, is_foreign
from shared.schema import Channel, Schema

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "star", "galaxy", "of", "the", "dust", "##s"]
TEXTS = ["stars of the galaxy", "dust", "the dust of the stars of dust", "galaxy galaxy", "of"]
IMAGES = [
    np.random.default_rng(i).integers(0, 256, (24 + 8 * i, 40, 3), dtype=np.uint8) for i in range(5)
]
ULTRAVIOLET = Schema("image", IMAGE.axes, (Channel("uv", valid_range=(0, 255)),), "uint8")
CURVE = Schema("curve", ("time", "channel"), (Channel("flux", "mJy"),))


class InMemory(Dataset):
    """Samples that a test made."""

    name = "in_memory"

    def __init__(self, schemas, **values):
        self.schemas = {schema.modality: schema for schema in schemas}
        self._values = values

    def make_table(self):
        n = len(next(iter(self._values.values())))
        return SampleTable(
            [str(i) for i in range(n)], labels=[i % 2 for i in range(n)], classes=("a", "b")
        )

    def read(self, index):
        return {m: values[index] for m, values in self._values.items()}

    def content_fingerprint(self):
        return "1"


IMAGE_DATA = InMemory([IMAGE], image=IMAGES)
TEXT_DATA = InMemory([TEXT], text=TEXTS)


def foreign(name, weights=None, **changes):
    options = {"device": "cpu", "precision": "float32", "modality": None, "offline": True}
    return foreign_embedder(name, weights=weights, **{**options, **changes})


def vectors(embedder, data, batch_size=64, **options):
    (result,) = extract(embedder, data, batch_size=batch_size, **options).vectors.values()
    return result


def test_foreign_names_are_known_by_their_prefix():
    assert all(map(is_foreign, ("timm:resnet18", "transformers:a/b", "python:m:f", "timm")))
    assert not any(map(is_foreign, ("star-clip:base", "./timm:x", "runs/timm", "Timm:x", "")))


@pytest.mark.parametrize("name", ["timm", "transformers:", "python"])
def test_a_prefix_alone_is_told_the_form(name):
    with pytest.raises(ConfigError, match=rf"Write {name.rstrip(':')}:"):
        foreign(name)


def test_importing_needs_none_of_the_libraries():
    code = (
        "import sys, shared.evaluation.foreign as f; f.is_foreign('timm:x');"
        "print([m for m in ('torch', 'timm', 'transformers', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("library", "extra"), [("timm", "vision"), ("transformers", "text")])
def test_a_missing_library_is_named_with_its_extra(monkeypatch, library, extra):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DependencyError, match=rf"pip install 'domain-zoo\[{extra}\]'"):
        foreign(f"{library}:x")


# Python functions

FUNCTIONS = """
import numpy as np
SIZE = 3
def embed(images):
    return [[image.mean(), image.std()] for image in images]
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the current folder, which Python's path does not have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", os.getcwd())])

    def write(name, content=FUNCTIONS):
        (tmp_path / f"{name}.py").write_text(content)
        sys.modules.pop(name, None)
        return f"python:{name}"

    return write


def test_a_function_is_imported_from_the_current_folder(module, tmp_path):
    embedder = foreign(module("zoo_test_good") + ":embed")
    assert (embedder.name, embedder.revision) == ("python:zoo_test_good:embed", "")
    result = vectors(embedder, IMAGE_DATA, batch_size=2, cache=tmp_path / "cache")
    assert np.allclose(result, [[i.mean(), i.std()] for i in IMAGES])
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("tail", "error", "words"),
    [
        (":embed_all", UnknownNameError, ["no function 'embed_all'", "'embed'"]),
        (":SIZE", ConfigError, ["SIZE is a int"]),
        ("", ConfigError, ["python:module:function"]),
        ("_else:embed", UnknownNameError, ["no module 'zoo_test_names_else'", "PYTHONPATH"]),
    ],
)
def test_a_function_that_is_not_there_is_told(module, tail, error, words):
    with pytest.raises(error) as caught:
        foreign(module("zoo_test_names") + tail)
    assert all(word in str(caught.value) for word in words), caught.value


def test_what_goes_wrong_inside_a_module_is_not_hidden(module):
    with pytest.raises(DependencyError, match="zoo_test_needs needs zoo_no_such_package"):
        foreign(module("zoo_test_needs", "import zoo_no_such_package") + ":embed")
    with pytest.raises(ZeroDivisionError):
        foreign(module("zoo_test_broken", "1 / 0") + ":embed")


def test_a_function_takes_no_weights(module):
    with pytest.raises(ConfigError, match="drop weights"):
        foreign(module("zoo_test_weights") + ":embed", weights="random")


def test_a_function_embeds_one_modality():
    both = InMemory([IMAGE, TEXT], image=IMAGES, text=TEXTS)

    def lengths(raws):
        return [[len(raw)] for raw in raws]

    with pytest.raises(ConfigError, match=r"image, text.*modalities=\[image\]"):
        extract(callable_embedder(lengths, None), both)
    with pytest.raises(ConfigError, match=r"no modality 'texts'.*'text'"):
        extract(callable_embedder(lengths, "texts"), both)
    assert vectors(callable_embedder(lengths, "text"), both).ravel().tolist() == list(
        map(len, TEXTS)
    )


def test_tensors_are_taken():
    import torch

    def embed(raws):
        return torch.tensor([[len(raw)] for raw in raws], dtype=torch.bfloat16, requires_grad=True)

    assert vectors(callable_embedder(embed, None), TEXT_DATA).ravel().tolist() == [19, 4, 29, 13, 2]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda raws: np.zeros((len(raws) + 1, 2)), ["shape (6, 2)", "5 inputs"]),
        (lambda raws: np.zeros(len(raws)), ["shape (5,)"]),
        (lambda raws: np.zeros((len(raws), 0)), ["shape (5, 0)"]),
        (lambda raws: None, ["shape ()", "object"]),
        (lambda raws: raws, ["shape (5,)"]),
        (lambda raws: [["a"] for _ in raws], ["<U1"]),
        (lambda raws: [[1j] for _ in raws], ["complex"]),
        (lambda raws: [[0] * (1 + i) for i, _ in enumerate(raws)], ["no array of shape (5, d)"]),
        (lambda raws: [[np.nan if i == 3 else 0] for i in range(5)], ["NaN", "1 of 5", "ition 3"]),
        (lambda raws: [[1e300] for _ in raws], ["5 of 5"]),
    ],
)
def test_what_is_no_embedding_is_told(function, words):
    with pytest.raises(EvaluationError) as caught:
        extract(callable_embedder(function, None), TEXT_DATA)
    assert all(word in str(caught.value) for word in words), caught.value


def test_the_width_may_not_change_between_batches():
    def embed(raws):
        return np.zeros((len(raws), len(raws)))

    with pytest.raises(EvaluationError, match="gave 1 numbers an input, and 2 in the batch before"):
        extract(callable_embedder(embed, None), TEXT_DATA, batch_size=2)


# timm


@pytest.fixture(scope="module")
def backbone():
    """A timm model with a classifier, weights of no published file, and running statistics."""
    import timm
    import torch

    torch.manual_seed(7)
    model = timm.create_model("resnet10t", pretrained=False).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    return model


def without_classifier(model, images):
    """Pooled features by timm's own calls."""
    import timm.data
    import torch
    from PIL import Image

    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    batch = torch.stack([transform(Image.fromarray(image)) for image in images])
    with torch.inference_mode():
        return model.forward_head(model.forward_features(batch), pre_logits=True).numpy()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", "wrapped.pth"])
def test_timm_with_weights_of_a_file(backbone, tmp_path, caplog, suffix):
    import torch
    from safetensors.torch import save_file

    path, state = tmp_path / f"x{suffix}", backbone.state_dict()
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": state} if "wrapped" in suffix else state, path)
    with caplog.at_level(logging.WARNING):
        embedder = foreign("timm:resnet10t", str(path))
    assert "left out the classifier fc.bias, fc.weight" in caplog.text
    assert embedder.name == f"timm:resnet10t ({path.name} weights)"
    expected = without_classifier(backbone, IMAGES)
    assert expected.std() > 0.01
    assert np.allclose(vectors(embedder, IMAGE_DATA, batch_size=5), expected, atol=1e-5)
    assert np.allclose(vectors(embedder, IMAGE_DATA, batch_size=2), expected, atol=1e-5)


def test_timm_selects_the_colours_by_name(tmp_path):
    more = (Channel("blue"), Channel("infrared"), Channel("green"), Channel("red"))
    schema = Schema("photo", IMAGE.axes, more, "uint8")
    arrays = [np.dstack([i[..., 2], 255 - i[..., 0], i[..., 1], i[..., 0]]) for i in IMAGES]
    embedder = foreign("timm:test_resnet", "random")
    expected = vectors(embedder, IMAGE_DATA)
    assert np.array_equal(vectors(embedder, InMemory([schema], photo=arrays)), expected)


def test_timm_random_weights_are_asked_for_and_repeatable(tmp_path):
    import torch

    state = torch.get_rng_state()
    one, two = foreign("timm:test_vit", "random"), foreign("timm:test_vit", "random")
    assert torch.equal(torch.get_rng_state(), state)
    assert one.name == "timm:test_vit (random weights)"
    assert one.revision == two.revision
    assert one.revision != foreign("timm:test_vit", "random", precision="bfloat16").revision
    first = vectors(one, IMAGE_DATA, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert np.array_equal(vectors(two, IMAGE_DATA, cache=tmp_path), first)


def test_timm_in_bfloat16(tmp_path):
    full = vectors(foreign("timm:test_vit", "random"), IMAGE_DATA)
    half = vectors(foreign("timm:test_vit", "random", precision="bfloat16"), IMAGE_DATA)
    assert 0 < np.abs(full - half).max() < 0.1 * np.abs(full).max()


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty local cache of the hub; returns a function that puts a file of weights into it."""
    from huggingface_hub import constants
    from safetensors.torch import save_file

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(repo, tensors):
        folder = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0" * 40)
        (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
        save_file(tensors, folder / "snapshots" / ("0" * 40) / "model.safetensors")

    return put


def test_timm_published_weights_come_from_the_cache_offline(hub_cache):
    import timm

    model = timm.create_model("test_vit", pretrained=False).eval()
    with pytest.raises(WeightsError, match=r"timm/test_vit.r160_in1k.*offline.*weights=random"):
        foreign("timm:test_vit")
    hub_cache("timm/test_vit.r160_in1k", model.state_dict())
    for name in ("timm:test_vit", "timm:test_vit.r160_in1k"):
        embedder = foreign(name)
        assert embedder.name == name
        expected = without_classifier(model, IMAGES)
        assert np.allclose(vectors(embedder, IMAGE_DATA), expected, atol=1e-5)


def test_timm_published_weights_are_whole(hub_cache):
    import timm

    state = timm.create_model("test_vit", pretrained=False).state_dict()
    del state["norm.weight"]
    hub_cache("timm/test_vit.r160_in1k", state)
    with pytest.raises(WeightsError, match=r"does not fit the model.*norm\.weight"):
        foreign("timm:test_vit")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:resnet18x", ["no model 'resnet18x'", "'resnet18'", "in all"]),
        ("timm:resnet18.a1_in1", ["no weights 'resnet18.a1_in1'", "'resnet18.a1_in1k'"]),
    ],
)
def test_timm_unknown_names_are_told(name, words):
    with pytest.raises(UnknownNameError) as caught:
        foreign(name, "random")
    assert all(word in str(caught.value) for word in words), caught.value


def test_timm_files_that_do_not_fit_are_told(backbone, tmp_path):
    import torch

    path = tmp_path / "x.pth"
    with pytest.raises(WeightsError, match="no weights file"):
        foreign("timm:resnet10t", str(path))
    state = backbone.state_dict()
    torch.save({k: v for k, v in state.items() if k != "bn1.weight"}, path)
    with pytest.raises(WeightsError, match=r"1 tensors are missing \(bn1\.weight"):
        foreign("timm:resnet10t", str(path))
    torch.save({**state, "other.weight": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match=r"not of this model \(other\.weight"):
        foreign("timm:resnet10t", str(path))
    torch.save({**state, "conv1.0.weight": state["conv1.0.weight"] * np.nan}, path)
    with pytest.raises(WeightsError, match="NaN"):
        foreign("timm:resnet10t", str(path))
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="no state dict"):
        foreign("timm:resnet10t", str(path))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsError, match="damaged"):
        foreign("timm:resnet10t", str(path))


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_timm_never_unpickles_code(tmp_path):
    import torch

    path = tmp_path / "x.pth"
    torch.save({"fc.weight": Payload(tmp_path / "made")}, path)
    with pytest.raises(WeightsError, match=r"holds code \(.*mkdir\)"):
        foreign("timm:resnet10t", str(path))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("data", [TEXT_DATA, InMemory([CURVE], curve=[np.ones((3, 1))])])
def test_timm_takes_rgb_images_only(data):
    embedder = foreign("timm:test_resnet", "random")
    with pytest.raises(SchemaError, match=r"takes 8-bit images.*the data give (text|curve) \("):
        extract(embedder, data)
    with pytest.raises(SchemaError, match="uint8, height × width × channel: uv"):
        embedder.modalities({"image": ULTRAVIOLET})
    embedder = foreign("timm:test_resnet", "random", modality="photo")
    with pytest.raises(SchemaError, match="'photo' was asked for"):
        extract(embedder, IMAGE_DATA)


@pytest.mark.parametrize("name", ["timm:test_resnet", "transformers:x"])
def test_unknown_devices_and_precisions_are_told(name):
    with pytest.raises(ConfigError, match="precision='float8'"):
        foreign(name, "random", precision="float8")
    with pytest.raises(ConfigError, match="device=nowhere"):
        foreign(name, "random", device="nowhere")


# transformers


def save_tokenizer(folder, **options):
    from transformers import BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt"), **options).save_pretrained(folder)


def save_image_processor(folder, size=32):
    from transformers import ViTImageProcessor

    ViTImageProcessor(size={"height": size, "width": size}).save_pretrained(folder)


def tiny(config_class, **changes):
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    return config_class(**{**sizes, **changes})


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    config = tiny(BertConfig, vocab_size=len(WORDS), max_position_embeddings=12)
    BertModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    from transformers import ViTConfig, ViTModel

    folder = tmp_path_factory.mktemp("vit")
    ViTModel(tiny(ViTConfig, image_size=32, patch_size=8)).save_pretrained(folder)
    save_image_processor(folder)
    return folder


def bert_ids(text):
    """Ids of a text of known words, written out by hand."""
    words = text.replace("stars", "star ##s").split()
    return [WORDS.index(word) for word in ["[CLS]", *words, "[SEP]"]]


def test_texts_are_the_mean_over_their_tokens(bert):
    import torch
    from transformers import BertModel

    model = BertModel.from_pretrained(bert).eval()
    with torch.inference_mode():
        hidden = [model(torch.tensor([bert_ids(t)])).last_hidden_state[0] for t in TEXTS]
    expected = torch.stack([h.mean(0) for h in hidden]).numpy()
    embedder = foreign(f"transformers:{bert}")
    for batch_size in (1, 2, 5):
        assert np.allclose(vectors(embedder, TEXT_DATA, batch_size), expected, atol=1e-5)


def test_long_texts_are_cut_and_told(bert, caplog):
    embedder = foreign(f"transformers:{bert}")
    long = " ".join(["dust"] * 30)
    data = InMemory([TEXT], text=[long, " ".join(["dust"] * 10), "dust", long])
    with caplog.at_level(logging.WARNING):
        result = vectors(embedder, data, batch_size=2)
    assert [r.getMessage() for r in caplog.records] == [
        f"{embedder.name}: texts are cut to 12 tokens (1 in this batch; not told again)"
    ]
    assert np.allclose(result[0], result[1], atol=1e-6)
    assert not np.allclose(result[1], result[2], atol=1e-3)


def test_positions_that_begin_after_the_padding(tmp_path, caplog):
    from transformers import RobertaConfig, RobertaModel

    config = tiny(RobertaConfig, vocab_size=len(WORDS), max_position_embeddings=12, pad_token_id=0)
    RobertaModel(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    data = InMemory([TEXT], text=[" ".join(["dust"] * 30), "dust"])
    assert vectors(foreign(f"transformers:{tmp_path}"), data).shape == (2, 16)
    assert "cut to 11 tokens" in caplog.text


def test_of_an_encoder_decoder_the_encoder(tmp_path):
    import torch
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    model = T5EncoderModel(config).eval()  # a file without the decoder, as published for proteins
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path, model_input_names=["input_ids", "attention_mask"])
    with torch.inference_mode():
        hidden = [model(torch.tensor([bert_ids(t)])).last_hidden_state[0].mean(0) for t in TEXTS]
    result = vectors(foreign(f"transformers:{tmp_path}"), TEXT_DATA, batch_size=2)
    assert np.allclose(result, torch.stack(hidden).numpy(), atol=1e-5)


def test_a_tokenizer_without_padding_token(tmp_path):
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    save_tokenizer(tmp_path / "words")
    PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "words" / "tokenizer.json"), eos_token="[SEP]"
    ).save_pretrained(tmp_path)
    GPT2Model(
        GPT2Config(vocab_size=len(WORDS), n_positions=16, n_embd=16, n_layer=2, n_head=2)
    ).save_pretrained(tmp_path)
    embedder = foreign(f"transformers:{tmp_path}")
    assert np.allclose(vectors(embedder, TEXT_DATA, 1), vectors(embedder, TEXT_DATA, 5), atol=1e-5)


def test_images_are_the_pooler_output(vit):
    import torch
    from transformers import ViTImageProcessor, ViTModel

    model, processor = ViTModel.from_pretrained(vit).eval(), ViTImageProcessor.from_pretrained(vit)
    with torch.inference_mode():
        rows = [model(**processor(i, return_tensors="pt")).pooler_output[0] for i in IMAGES]
    embedder = foreign(f"transformers:{vit}")
    for batch_size in (1, 2, 5):
        result = vectors(embedder, IMAGE_DATA, batch_size)
        assert np.allclose(result, torch.stack(rows).numpy(), atol=1e-5)


def test_a_low_image_is_not_taken_for_channels_first(vit):
    import torch
    from PIL import Image
    from transformers import ViTImageProcessor, ViTModel

    model, processor = ViTModel.from_pretrained(vit).eval(), ViTImageProcessor.from_pretrained(vit)
    low = [image[:3] for image in IMAGES]  # (3, 40, 3)
    with torch.inference_mode():
        pixels = processor([Image.fromarray(i) for i in low], return_tensors="pt")
        expected = model(**pixels).pooler_output.numpy()
    result = vectors(foreign(f"transformers:{vit}"), InMemory([IMAGE], image=low))
    assert np.allclose(result, expected, atol=1e-5)


def test_images_of_a_classifier_are_the_mean_of_its_tokens(tmp_path):
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    model = ViTForImageClassification(tiny(ViTConfig, image_size=32, patch_size=8)).eval()
    model.save_pretrained(tmp_path)  # its file has no pooler
    save_image_processor(tmp_path)
    processor = ViTImageProcessor.from_pretrained(tmp_path)
    with torch.inference_mode():
        inputs = [processor(i, return_tensors="pt") for i in IMAGES]
        rows = [model.vit(**i).last_hidden_state[0].mean(0) for i in inputs]
    result = vectors(foreign(f"transformers:{tmp_path}"), IMAGE_DATA, batch_size=2)
    assert np.allclose(result, torch.stack(rows).numpy(), atol=1e-5)


def test_maps_are_pooled_to_vectors(tmp_path):
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path)
    save_image_processor(tmp_path)
    assert vectors(foreign(f"transformers:{tmp_path}"), IMAGE_DATA).shape == (5, 16)


def test_a_masked_autoencoder_sees_the_whole_image(tmp_path):
    from transformers import ViTMAEConfig, ViTMAEModel

    ViTMAEModel(tiny(ViTMAEConfig, image_size=32, patch_size=8)).save_pretrained(tmp_path)
    save_image_processor(tmp_path)
    embedder = foreign(f"transformers:{tmp_path}")
    first, second = vectors(embedder, IMAGE_DATA), vectors(embedder, IMAGE_DATA, batch_size=2)
    assert np.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("family", ["CLIP", "Siglip"])
def test_a_model_of_texts_and_images_embeds_both(tmp_path, family):
    import torch
    import transformers

    towers = {
        "text_config": tiny(
            getattr(transformers, f"{family}TextConfig"),
            vocab_size=len(WORDS),
            max_position_embeddings=12,
            eos_token_id=WORDS.index("[SEP]"),
            pad_token_id=0,
            projection_size=16,
        ).to_dict(),
        "vision_config": tiny(
            getattr(transformers, f"{family}VisionConfig"), image_size=32, patch_size=8
        ).to_dict(),
    }
    model = getattr(transformers, f"{family}Model")(
        getattr(transformers, f"{family}Config")(
            **towers, **({"projection_dim": 16} if family == "CLIP" else {})
        )
    ).eval()
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path, model_input_names=["input_ids"])
    save_image_processor(tmp_path)
    processor = transformers.ViTImageProcessor.from_pretrained(tmp_path)
    pixels = [processor(i, return_tensors="pt")["pixel_values"] for i in IMAGES]
    ids = [(bert_ids(t) + 12 * [0])[:12] for t in TEXTS]
    with torch.inference_mode():
        out = model(input_ids=torch.tensor(ids), pixel_values=torch.cat(pixels))
    result = extract(
        foreign(f"transformers:{tmp_path}"),
        InMemory([IMAGE, TEXT], image=IMAGES, text=TEXTS),
        batch_size=2,
    ).vectors
    for kind, expected in (("image", out.image_embeds), ("text", out.text_embeds)):
        unit = result[kind] / np.linalg.norm(result[kind], axis=1, keepdims=True)
        assert np.allclose(unit, expected.numpy(), atol=1e-5), kind


def test_transformers_random_weights_are_asked_for_and_repeatable(bert, tmp_path):
    import shutil

    for file in bert.iterdir():
        if file.name != "model.safetensors":
            shutil.copy(file, tmp_path)
    with pytest.raises(WeightsError, match="cannot be loaded"):
        foreign(f"transformers:{tmp_path}")
    one, two = (foreign(f"transformers:{tmp_path}", "random") for _ in range(2))
    assert one.name.endswith("(random weights)")
    assert one.revision == two.revision
    assert one.revision != foreign(f"transformers:{bert}").revision
    assert np.array_equal(vectors(one, TEXT_DATA), vectors(two, TEXT_DATA))


def test_the_revision_follows_tokenizer_and_precision(bert, tmp_path):
    import shutil

    def revision(folder, **options):
        return foreign(f"transformers:{folder}", **options).revision

    shutil.copytree(bert, tmp_path / "same")
    shutil.copytree(bert, tmp_path / "cased")
    save_tokenizer(tmp_path / "cased", do_lower_case=False)
    assert revision(bert) == revision(tmp_path / "same")
    assert revision(bert) != revision(tmp_path / "cased")
    assert revision(bert) != revision(bert, precision="bfloat16")


def test_transformers_weights_must_be_whole(bert, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "bert"
    shutil.copytree(bert, folder)
    state = load_file(folder / "model.safetensors")
    without_pooler = {k: v for k, v in state.items() if not k.startswith("pooler")}
    save_file(without_pooler, folder / "model.safetensors", {"format": "pt"})
    expected = vectors(foreign(f"transformers:{bert}"), TEXT_DATA)
    assert np.array_equal(vectors(foreign(f"transformers:{folder}"), TEXT_DATA), expected)
    without_layer = {k: v for k, v in state.items() if "layer.1" not in k}
    save_file(without_layer, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks 16 tensors.*layer\.1.*random"):
        foreign(f"transformers:{folder}")
    whole = (bert / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:1000])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        foreign(f"transformers:{folder}")


def test_pickled_transformers_weights_are_not_read(bert, tmp_path):
    import shutil

    import torch

    folder = tmp_path / "bert"
    shutil.copytree(bert, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"x": Payload(tmp_path / "made")}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        foreign(f"transformers:{folder}")
    assert not (tmp_path / "made").exists()


def test_what_is_not_there_is_told(bert, vit, tmp_path, hub_cache):
    import shutil

    with pytest.raises(WeightsError, match="there is no such folder"):
        foreign("transformers:./nowhere")
    with pytest.raises(WeightsError, match=r"offline.*transformers:FOLDER"):
        foreign("transformers:nobody/nothing")
    with pytest.raises(ConfigError, match="weights=random"):
        foreign(f"transformers:{bert}", "x.safetensors")
    with pytest.raises(SchemaError, match=r"takes texts; the data give image \(uint8"):
        extract(foreign(f"transformers:{bert}"), IMAGE_DATA)
    with pytest.raises(SchemaError, match=r"takes 8-bit images.*the data give text \(str"):
        extract(foreign(f"transformers:{vit}"), TEXT_DATA)
    bare = tmp_path / "bare"
    for source in (bert, vit):
        shutil.rmtree(bare, ignore_errors=True)
        bare.mkdir()
        for name in ("config.json", "model.safetensors"):
            shutil.copy(source / name, bare)
        with pytest.raises(WeightsError, match="lacks its tokenizer or image processor"):
            foreign(f"transformers:{bare}")


def test_a_tokenizer_of_another_model_is_told(bert, tmp_path):
    from transformers import BertConfig, BertModel

    BertModel(tiny(BertConfig, vocab_size=5)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(WeightsError, match="the tokenizer has token 10, the model only 5"):
        foreign(f"transformers:{tmp_path}")


def test_an_empty_text_never_reaches_a_model(bert):
    with pytest.raises(DataError, match="not a non-empty text"):
        extract(foreign(f"transformers:{bert}"), InMemory([TEXT], text=["dust", " "]))
