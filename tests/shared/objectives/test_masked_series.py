"""Hidden spans: how many, where, what is predicted and how it is weighed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn

from shared.data.batch import Batch
from shared.encoders.base import Embedding, Encoder
from shared.encoders.transformer import put_mask_token
from shared.errors import ConfigError
from shared.model import Model
from shared.model_config import ModalityConfig, ModelConfig
from shared.objectives.base import Request
from shared.objectives.masked_series import MaskedSeries, hide_spans
from shared.preprocess import Prepared, Preprocessor, Series, SeriesPreprocessor
from shared.schema import Array, Channel, Schema
from shared.training.runner import Runner

SCHEMA = Schema("tide", ("time", "channel"), (Channel("height"), Channel("error")))


class Tide(SeriesPreprocessor):
    """Heights with errors; `present` says where there are any."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema, schema.channels, {})

    @property
    def sizes(self) -> Mapping[str, int]:
        return {}

    def __call__(self, raw: Array) -> Prepared:
        raise NotImplementedError

    def series(self, inputs: Mapping[str, Tensor]) -> Series:
        return Series(inputs["values"], inputs["error"], inputs["present"])

    def hide(self, inputs: Mapping[str, Tensor], hidden: Tensor) -> dict[str, Tensor]:
        shown = {n: inputs[n].masked_fill(hidden, 0) for n in ("values", "error")}
        return {**inputs, **shown, "hidden": hidden}


class Neighbours(Encoder):
    """A token for `patch` heights, which sees the patches beside it, after one of another kind."""

    leading_tokens = 1

    def __init__(self, patch: int = 1, gives_tokens: bool = True, lost: int = 0) -> None:
        super().__init__()
        self.dim, self.positions_per_token, self.gives_tokens = 4, patch, gives_tokens
        self.lost = lost
        self.embed = nn.Conv1d(1, 4, patch, stride=patch)
        self.mix = nn.Conv1d(4, 4, 3, padding=1)
        self.mask_token = nn.Parameter(torch.randn(1, 4))

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        values, hidden = inputs["values"], inputs.get("hidden")
        patch = self.positions_per_token
        missing = -values.shape[1] % patch
        x = self.embed(nn.functional.pad(values, (0, missing))[:, None]).transpose(1, 2)
        if hidden is not None:
            hidden = hidden[:, ::patch]
        x = put_mask_token(x, self.mask_token, hidden)
        x = self.mix(x.transpose(1, 2)).transpose(1, 2)
        tokens = torch.cat([torch.full_like(x[:, :1], 9.0), x], dim=1)
        return Embedding(x.mean(1), tokens[:, : tokens.shape[1] - self.lost])


def make(encoder: Encoder | None = None, **settings: Any) -> Runner:
    torch.manual_seed(0)
    config = ModelConfig("m", 4, {"tide": ModalityConfig({}, {}, head=None)})
    model = Model(config, {"tide": Tide(SCHEMA)}, {"tide": encoder or Neighbours()}, None, {})
    return Runner(model, {"masked": MaskedSeries(["tide"], **settings)}, {"masked": 1.0})


def make_batch(rows: int = 4, length: int = 10, absent: tuple[int, ...] = ()) -> Batch:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(rows, length, generator=generator)
    error = torch.rand(rows, length, generator=generator)
    present = torch.rand(rows, length, generator=generator) < 0.8
    inputs = {"values": values, "error": error, "present": present}
    there = torch.tensor([row not in absent for row in range(rows + len(absent))])
    numbers = torch.arange(len(there))
    return Batch({"tide": inputs}, {"tide": there}, *[numbers] * 4)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 30),
    span=st.integers(1, 8),
    ratio=st.floats(0.01, 0.99),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_number_of_hidden_tokens(
    length: int, span: int, ratio: float, share: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(5, length, generator=generator) < share
    hidden = hide_spans(torch.rand(5, length + span - 1, generator=generator), present, ratio)
    assert not (hidden & ~present).any()
    for row, there in zip(hidden, present, strict=True):
        n = int(there.sum())
        # as torch does, half to even and in float32
        wanted = int(torch.tensor(n).mul(ratio).round())
        assert int(row.sum()) == (min(max(1, wanted), n - 1) if n else 0)


def test_the_first_spans_are_hidden_whole_and_the_last_is_cut() -> None:
    keys = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.1, 0.5, 0.99, 0.99, 0.2, 0.99, 0.99, 0.99]])
    present = torch.ones(1, 10, dtype=torch.bool)
    # key i starts a span of three at token i - 2: first tokens 2 to 4, then 6 to 8
    assert hide_spans(keys, present, 0.3)[0].nonzero()[:, 0].tolist() == [2, 3, 4]
    assert hide_spans(keys, present, 0.5)[0].nonzero()[:, 0].tolist() == [2, 3, 4, 6, 7]
    present[0, 3] = False  # 2.7 tokens, rounded
    assert hide_spans(keys, present, 0.3)[0].nonzero()[:, 0].tolist() == [2, 4, 6]


def test_all_places_are_hidden_about_as_often() -> None:
    torch.manual_seed(0)
    hidden = hide_spans(torch.rand(1000, 24), torch.ones(1000, 20, dtype=torch.bool), 0.3)
    # the last span is cut at its end, which favours the first token a little
    torch.testing.assert_close(hidden.float().mean(0), torch.full((20,), 0.3), atol=0.1, rtol=0)


@pytest.mark.parametrize("patch", [1, 3])
def test_the_loss_is_the_formula(patch: int) -> None:
    runner = make(Neighbours(patch), mask_ratio=0.5, span=2, error_floor=0.2)
    batch = runner.make_views(make_batch())
    view, inputs = batch.views["masked/masked"], batch.inputs["tide"]
    hidden = view.inputs["tide"]["hidden"].numpy()
    objective = runner.objectives["masked"]
    embedding = runner.model.encode("tide", view.inputs["tide"])
    assert embedding.tokens is not None
    predicted = objective.decoder(embedding.tokens[:, 1:]).flatten(1).detach().numpy()
    total = count = spread = 0.0
    for row, values in enumerate(inputs["values"].numpy()):
        present = inputs["present"][row].numpy()
        weights = 1 / (inputs["error"][row].numpy() ** 2 + 0.2**2)
        visible = [i for i in range(10) if present[i] and not hidden[row, i]]
        mean = np.average(values[visible], weights=weights[visible])
        for i in range(10):
            if present[i] and hidden[row, i]:
                total += weights[i] * (predicted[row, i] - values[i]) ** 2
                spread += weights[i] * (mean - values[i]) ** 2
                count += weights[i]
    output = runner(batch, with_metrics=True)
    (term,) = output.terms.values()
    assert float(term.total) == pytest.approx(total, rel=1e-4)
    assert float(term.count) == pytest.approx(count, rel=1e-4)
    explained = output.metrics["masked/explained_variance"]
    assert float(explained.mean) == pytest.approx(1 - total / spread, rel=1e-3)


def test_patches_are_hidden_as_a_whole() -> None:
    runner, batch = make(Neighbours(3), mask_ratio=0.5, span=1), make_batch()
    batch.inputs["tide"]["present"][:, 0::3] = True
    hidden = runner.make_views(batch).views["masked/masked"].inputs["tide"]["hidden"]
    patches = nn.functional.pad(hidden.float(), (0, 2), value=-1.0).unflatten(1, (-1, 3))
    assert {tuple(p) for p in patches.flatten(0, 1).tolist()} <= {
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        (0.0, -1.0, -1.0),
        (1.0, -1.0, -1.0),
    }
    assert (patches[..., 0].sum(1) == 2).all()


def test_the_prediction_does_not_depend_on_what_is_hidden() -> None:
    runner = make()
    batch = runner.make_views(make_batch())
    view = batch.views["masked/masked"]
    hidden = view.inputs["tide"]["hidden"]
    other = make_batch()
    for name in ("values", "error"):
        other.inputs["tide"][name] += 5.0 * hidden
    shown = Tide(SCHEMA).hide(other.inputs["tide"], hidden)
    for name, tensor in view.inputs["tide"].items():
        torch.testing.assert_close(shown[name], tensor)


def test_precise_measurements_count_more() -> None:
    """Where only one measurement is precise, the gradient is that of this one alone."""
    runner = make(mask_ratio=0.6, error_floor=1e-3)
    batch = make_batch(1)
    batch.inputs["tide"]["present"].fill_(True)
    batch.inputs["tide"]["error"].fill_(1e3)
    objective = runner.objectives["masked"]
    assert isinstance(objective, MaskedSeries)
    keys = torch.rand(1, 14, generator=torch.Generator().manual_seed(0))
    place = int(objective.view(batch, keys).inputs["tide"]["hidden"][0].nonzero()[0])
    batch.inputs["tide"]["error"][0, place] = 0.0
    batch.views = {"masked/masked": objective.view(batch, keys)}
    loss = runner(batch).loss
    tokens = runner.model.encode("tide", batch.views["masked/masked"].inputs["tide"]).tokens
    assert tokens is not None
    predicted = objective.decoder(tokens[:, 1:])[0, place, 0]
    expected = (predicted - batch.inputs["tide"]["values"][0, place]) ** 2
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-3)


def test_absent_samples_and_empty_series_do_not_count() -> None:
    runner = make()
    full, some = make_batch(), make_batch(absent=(0, 3))
    objective = runner.objectives["masked"]
    assert isinstance(objective, MaskedSeries)
    keys = torch.rand(4, 14)
    losses = []
    for batch in (full, some):
        batch.views = {"masked/masked": objective.view(batch, keys)}
        losses.append(float(runner(batch).loss.detach()))
    assert losses[0] == pytest.approx(losses[1])
    nothing = make_batch()
    nothing.inputs["tide"]["present"].fill_(False)
    nothing.inputs["tide"]["values"].fill_(torch.nan)  # what is not there may be anything
    batch = runner.make_views(nothing)
    assert not batch.views["masked/masked"].targets["values"].any()
    batch.views["masked/masked"].inputs["tide"]["values"].zero_()
    output = runner(batch, with_metrics=True)
    assert float(output.loss.detach()) == 0
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in runner.parameters())
    one = make_batch(1, 1)
    one.inputs["tide"]["present"].fill_(True)
    assert float(runner(runner.make_views(one)).loss.detach()) == 0


def test_it_learns_what_can_be_known() -> None:
    runner = make(mask_ratio=0.2, span=1, decoder={"name": "mlp", "hidden_dim": 16})
    optimizer = torch.optim.Adam(runner.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    steps = torch.arange(24) / 3
    for _ in range(100):
        batch = make_batch(32, 24)
        phase = 6.3 * torch.rand(32, 1, generator=generator)
        batch.inputs["tide"] |= {
            "values": torch.sin(steps + phase),
            "error": torch.full((32, 24), 0.1),
            "present": torch.ones(32, 24, dtype=torch.bool),
        }
        output = runner(runner.make_views(batch), with_metrics=True)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert float(output.metrics["masked/explained_variance"].mean) > 0.8


class Flat(Preprocessor):
    def __init__(self, schema: Schema) -> None:
        super().__init__(schema, schema.channels, {})

    @property
    def sizes(self) -> Mapping[str, int]:
        return {}

    def __call__(self, raw: Array) -> Prepared:
        return {"values": raw}


def test_mistakes_are_messages() -> None:
    for settings, message in (
        ({"mask_ratio": 1.0}, "mask_ratio=1.0"),
        ({"span": 0}, "span=0"),
        ({"error_floor": 0.0}, "error_floor=0.0"),
        ({"modality": "wave"}, "modality=wave, and the run trains tide"),
    ):
        with pytest.raises(ConfigError, match=message):
            MaskedSeries(["tide"], **settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"decoder: name='tree'"):
        make(decoder={"name": "tree"})
    with pytest.raises(ConfigError, match=r"objective.masked reads tokens.*tide gives none"):
        make(Neighbours(gives_tokens=False))
    config = ModelConfig("m", 4, {"tide": ModalityConfig({}, {}, head=None)})
    model = Model(config, {"tide": Flat(SCHEMA)}, {"tide": Neighbours()}, None, {})
    with pytest.raises(ConfigError, match="tide is no series of measurements as Flat prepares it"):
        MaskedSeries(["tide"]).bind(model)
    runner = make(Neighbours(lost=2))
    with pytest.raises(ConfigError, match="gives 8 tokens for 10 positions"):
        runner(runner.make_views(make_batch()))


def test_tokens_of_a_fusion_are_checked_too() -> None:
    """The fusion reads tokens of every modality."""

    class Joint(MaskedSeries):
        def bind(self, model: Model) -> None:
            self.requests = (Request(("tide",), "pooled"),)

    config = ModelConfig("m", 4, {"tide": ModalityConfig({}, {}, head=None)})
    encoder = Neighbours(gives_tokens=False)
    model = Model(config, {"tide": Tide(SCHEMA)}, {"tide": encoder}, None, {})
    with pytest.raises(ConfigError, match="tide gives none"):
        Runner(model, {"joint": Joint(["tide"])}, {"joint": 1.0})
