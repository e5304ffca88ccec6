"""What a model of a shape costs: operations, memory, and the time of a training on devices that were measured."""

from dataclasses import dataclass

from model.shape import Shape

FLOAT32 = 4  # bytes of a number


@dataclass(frozen=True, slots=True)
class Device:
    """Operations of a model that a device carries out a second, for models that are large enough to fill it.

    `processor` is the name of a card, as its driver has it, or CPU_CORE; `dtype` and `compiled` say how it computes.
    """

    name: str
    processor: str
    dtype: str
    compiled: bool
    flop_per_second: float
    least_parameters: int

    def seconds(self, shape: Shape, tokens: int) -> float:
        """Of a training on so many tokens, without start, validation and saving."""
        return training_flop(shape) * tokens / self.flop_per_second


CPU_CORE = "cpu"
DEVICES = (  # benchmarks/README.md, "Training speed": 124m on the GPU; on a core 124m, mini, micro and nano
    Device("NVIDIA H200, bfloat16, compiled", "NVIDIA H200", "bfloat16", True, 428e12, 80_000_000),
    Device("NVIDIA H200, bfloat16", "NVIDIA H200", "bfloat16", False, 294e12, 80_000_000),
    Device("a CPU core that is fast in bfloat16", CPU_CORE, "bfloat16", False, 274e9, 80_000_000),
    Device("a CPU core, float32", CPU_CORE, "float32", False, 137e9, 80_000_000),
    Device("a CPU core that is fast in bfloat16", CPU_CORE, "bfloat16", False, 316e9, 20_000_000),
    Device("a CPU core, float32", CPU_CORE, "float32", False, 147e9, 20_000_000),
    Device("a CPU core that is fast in bfloat16", CPU_CORE, "bfloat16", False, 256e9, 4_000_000),
    Device("a CPU core, float32", CPU_CORE, "float32", False, 127e9, 4_000_000),
    Device("a CPU core that is fast in bfloat16", CPU_CORE, "bfloat16", False, 196e9, 0),
    Device("a CPU core, float32", CPU_CORE, "float32", False, 108e9, 0),
)


def devices_filled_by(shape: Shape) -> list[Device]:
    """The devices that a model of this shape fills, each by the first of its rows that holds: the largest model's."""
    found: dict[str, Device] = {}
    for device in DEVICES:
        if shape.parameters >= device.least_parameters:
            found.setdefault(device.name, device)
    return list(found.values())


def training_flop(shape: Shape) -> float:
    """Floating-point operations of training on one token: 6 N of the products with N weights forwards and backwards,
    12 L d T of attention over a context of T tokens (Chowdhery et al. 2022, appendix B)."""
    return 6.0 * shape.parameters + 12.0 * shape.layers * shape.heads * shape.head_dim * shape.context_length


def training_bytes(shape: Shape) -> int:
    """Weights, their gradients, and what the optimizer keeps: one number of each weight of a matrix (Muon), two of
    embeddings, head and norms (AdamW). Activations, which follow from `micro_batch_tokens`, come on top."""
    tables = shape.vocabulary_size * shape.width * (1 if shape.tied_embeddings else 2)
    return FLOAT32 * (3 * shape.parameters + tables)


def cache_bytes(shape: Shape) -> int:
    """Keys and values, float32, of one answer that fills the context."""
    return 2 * FLOAT32 * shape.layers * shape.key_value_heads * shape.head_dim * shape.context_length
