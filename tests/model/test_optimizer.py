"""Muon orthogonalises, follows the reference update, and both rules resume exactly."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from model.batches import Batch
from model.loss import target_nats
from model.optimizer import POLYNOMIALS, ROOM, Optimizer, OptimizerSettings, orthogonalise
from model.parallel import Workers, add_gradients
from model.schedule import Schedule
from model.shape import Shape
from model.transformer import Transformer, initialise

SHAPE = Shape(64, 2, 32, 2, 1, 16, 48, 16)
SETTINGS = OptimizerSettings(matrix_rate=0.02, embedding_rate=0.01, weight_decay=0.1)


def new_model() -> Transformer:
    model = Transformer(SHAPE)
    initialise(model, seed=1)
    return model


def give_gradients(model: Transformer, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def by_singular_values(matrices: torch.Tensor) -> torch.Tensor:
    """What `orthogonalise` is to give of wide matrices, plainly, in float64."""
    x = matrices.double()
    left, singular, right = torch.linalg.svd(x, full_matrices=False)
    singular = singular / (singular.pow(4).sum(-1, keepdim=True).pow(0.25) * ROOM)
    assert float(singular.max()) <= 1 / ROOM + 1e-9
    for a, b, c in POLYNOMIALS:
        singular = a * singular + b * singular**3 + c * singular**5
    return (left * singular[..., None, :]) @ right


MATRICES = torch.randn(4, 24, 48, generator=torch.Generator().manual_seed(0))
STEEP = MATRICES * torch.logspace(0, -3, 24)[:, None]  # rows of very different lengths
ALIKE = MATRICES * 0.01 + 1.0  # one singular value far above all others, after scaling at the limit


@pytest.mark.parametrize("matrices", [MATRICES, STEEP, ALIKE, MATRICES * 1e-6, MATRICES * 1e6])
@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-3), (torch.bfloat16, 0.12)])
def test_a_matrix_becomes_what_its_singular_values_say(matrices: torch.Tensor, dtype: torch.dtype, off: float) -> None:
    expected = by_singular_values(matrices.to(dtype))
    given = orthogonalise(matrices, dtype).double()
    assert float((given - expected).norm() / expected.norm()) < off
    assert float(torch.linalg.svdvals(given).max()) < 1.3, "the polynomials lead away from above 1"


def test_singular_values_come_near_one_and_the_directions_stay() -> None:
    result = orthogonalise(MATRICES, torch.float32)
    singular = torch.linalg.svdvals(result)
    assert float(singular.min()) > 0.7
    assert float(singular.max()) < 1.3
    left, _, right = torch.linalg.svd(MATRICES, full_matrices=False)
    exact = left @ right
    assert float((result * exact).sum() / (result.norm() * exact.norm())) > 0.97


def test_what_has_no_gradient_stays_and_leaves_the_others_alone() -> None:
    matrices = MATRICES.clone()
    matrices[1], matrices[2, 3] = 0.0, 0.0
    result = orthogonalise(matrices, torch.bfloat16)
    assert not result[1].any() and not result[2, 3].any()
    assert bool(result.isfinite().all()) and torch.equal(result[0], orthogonalise(MATRICES, torch.bfloat16)[0])


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_matrices_follow_torch_s_own_muon(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but how a matrix is orthogonalised, for which it is given the plain form of ours; whatever is stacked."""
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        pytest.skip("this torch has no Muon")
    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", lambda matrix, *_: plain(matrix))
    monkeypatch.setattr("model.optimizer.CACHE_BYTES", 10_000)

    def plain(matrix: torch.Tensor) -> torch.Tensor:
        tall = matrix.shape[0] > matrix.shape[1]
        return (by_singular_values(matrix.mT).mT if tall else by_singular_values(matrix)).float()

    def made() -> Transformer:
        model = Transformer(dataclasses.replace(SHAPE, layers=layers))
        initialise(model, seed=1)
        return model

    ours, theirs, start = made(), made(), dict(made().named_parameters())
    matrices = [p for name, p in theirs.named_parameters() if name.endswith("_proj.weight")]
    reference = muon(matrices, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True)
    optimizer = Optimizer(ours, SETTINGS)
    for step in range(3):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step(1.0)
        reference.step()
    for name, parameter in theirs.named_parameters():
        if name.endswith("_proj.weight"):
            moved = (dict(ours.named_parameters())[name] - start[name]).detach()
            expected = (parameter - start[name]).detach()
            assert float((moved - expected).norm() / expected.norm()) < 1e-3, name


def test_gradients_are_scaled_down_where_they_are_too_long_and_left_alone_elsewhere() -> None:
    model = new_model()
    for longest in (1.0, 1e6):
        give_gradients(model, 1)
        before = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
        length = torch.cat([gradient.flatten() for gradient in before]).norm()
        optimizer = Optimizer(model, dataclasses.replace(SETTINGS, clip_norm=longest))
        assert optimizer.clip() == pytest.approx(float(length))
        factor = min(1.0, longest / float(length))
        for gradient, parameter in zip(before, model.parameters(), strict=True):
            assert parameter.grad is not None and torch.allclose(parameter.grad, gradient * factor, atol=1e-6)


def test_every_parameter_is_updated_by_exactly_one_rule() -> None:
    model = new_model()
    optimizer = Optimizer(model, SETTINGS)
    by_muon = [id(p) for group in optimizer.muon for p in group.parameters]
    by_adamw = [id(p) for group in optimizer.adamw for p in group.parameters]
    assert sorted(by_muon + by_adamw) == sorted(id(p) for p in model.parameters())
    assert len(by_muon) == 7 * SHAPE.layers


class Other(torch.nn.Module):
    """A model that shares no name with ours: two blocks with a table of their own each, an input and an output."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(16, 8)
        self.steps = torch.nn.ModuleList(
            torch.nn.ModuleDict(
                {
                    "mix": torch.nn.Linear(8, 12),
                    "back": torch.nn.Linear(12, 8, bias=False),
                    "gain": torch.nn.LayerNorm(8),
                    "places": torch.nn.Embedding(4, 8),
                }
            )
            for _ in range(2)
        )
        self.out = torch.nn.Linear(8, 16, bias=False)


def rules(optimizer: Optimizer) -> tuple[list[list[str]], list[str]]:
    """Names of the matrices of each group, and of what AdamW trains."""
    others = [parameter for group in optimizer.adamw for parameter in group.parameters]
    groups = [[optimizer.names[parameter] for parameter in group.parameters] for group in optimizer.muon]
    return groups, [optimizer.names[parameter] for parameter in others]


def test_the_rule_follows_from_shape_and_place_and_not_from_a_name() -> None:
    groups, others = rules(Optimizer(Other(), SETTINGS))
    assert groups == [[f"steps.{step}.{name}.weight" for step in (0, 1) for name in ("mix", "back")]]
    kept = ("mix.bias", "gain.weight", "gain.bias", "places.weight")
    assert others == ["words.weight", *(f"steps.{step}.{name}" for step in (0, 1) for name in kept), "out.weight"]


def test_our_matrices_are_those_of_the_projections_in_their_order() -> None:
    model = Transformer(Shape(64, 2, 32, 2, 1, 16, 48, 16, tied_embeddings=False))
    groups, others = rules(Optimizer(model, SETTINGS))
    projections = [name for name, _ in model.named_parameters() if name.endswith("_proj.weight")]
    assert sorted(name for group in groups for name in group) == sorted(projections)
    assert others == [name for name, _ in model.named_parameters() if name not in projections]
    assert groups[0] == [f"model.layers.{layer}.self_attn.{name}_proj.weight" for layer in (0, 1) for name in "qo"]


def test_embeddings_that_are_not_the_head_learn_at_a_rate_of_their_own() -> None:
    moved: dict[float, dict[str, float]] = {}
    for factor in (1.0, 40.0):
        model = Transformer(Shape(64, 2, 32, 2, 1, 16, 48, 16, tied_embeddings=False))
        initialise(model, seed=1)
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimizer = Optimizer(model, dataclasses.replace(SETTINGS, embedding_factor=factor))
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step(1.0)
        moved[factor] = {
            name: float((parameter.detach() - before[name]).abs().max()) for name, parameter in model.named_parameters()
        }
        other = Optimizer(model, optimizer.settings)
        other.load_state(optimizer.state())
        assert other.state().keys() == optimizer.state().keys()
        assert all(torch.equal(value, optimizer.state()[name]) for name, value in other.state().items())
    for name, distance in moved[40.0].items():
        times = 40 if name == "model.embed_tokens.weight" else 1
        assert distance == pytest.approx(times * moved[1.0][name], rel=1e-3), name


@pytest.mark.parametrize("trained", ["words", "steps", "mix.weight", "gain", "out"])
def test_what_is_frozen_stays_as_it_is_and_the_rest_moves(trained: str) -> None:
    """One kind of parameter at a time: there may be no matrix, or nothing but matrices."""
    model = Other()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained in name)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = Optimizer(model, SETTINGS)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step(1.0)
    moved = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
    assert moved == [name for name in before if trained in name]
    optimizer.load_state(optimizer.state())
    optimizer.zero_gradients()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_frozen_parameter_has_no_gradient() -> None:
    model = new_model()
    model.model.embed_tokens.requires_grad_(False)
    ids = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(0)).numpy()
    batch = Batch(ids[:, :-1], ids[:, 1:])
    add_gradients(model, batch, batch.losses, 64, target_nats, Workers(1))
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == ["model.embed_tokens.weight"]


@pytest.mark.parametrize("steps_before", [0, 3])
def test_a_restored_state_continues_bit_for_bit(steps_before: int) -> None:
    straight, resumed = new_model(), new_model()
    first, second = Optimizer(straight, SETTINGS), Optimizer(resumed, SETTINGS)
    for step in range(6):
        if step == steps_before:
            saved = {name: tensor.clone() for name, tensor in first.state().items()}
            resumed.load_state_dict(straight.state_dict())
            second.load_state(saved)
        give_gradients(straight, step)
        first.step(0.5)
        if step >= steps_before:
            give_gradients(resumed, step)
            second.step(0.5)
    for name, tensor in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_the_rate_rises_holds_and_falls_to_zero() -> None:
    schedule = Schedule(steps=100, warmup_steps=10, decay_steps=40)
    factors = [schedule.factor(step) for step in range(100)]
    assert factors[0] == 0.1
    assert factors[9:60] == [1.0] * 51
    assert all(a > b for a, b in pairwise(factors[60:]))
    assert factors[99] == pytest.approx(1 / 40)
    assert Schedule(5, 0, 0).factor(4) == 1.0
