"""Count the arithmetic of a DPO step from the real lengths, and measure how fast this machine multiplies matrices."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from curate.flags import set_defaults

set_defaults()

from dpo_measured import run_job, set_threads  # noqa: E402
from dpo_pairs import Pair  # noqa: E402

RANK = 8
SQUARE = 2048


@dataclass(frozen=True)
class Shape:
    """What of a model decides its arithmetic."""

    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int

    def token(self) -> int:
        """Multiply-adds of the linear layers for one token, LoRA on query and value among them."""
        query, kv = self.heads * self.head_width, self.kv_heads * self.head_width
        layer = self.width * (2 * query + 2 * kv + 3 * self.inner) + RANK * (2 * self.width + query + kv)
        return self.layers * layer

    def attended(self) -> int:
        """Multiply-adds for one query that looks at one key: a product for the score and one for the value."""
        return self.layers * 2 * self.heads * self.head_width

    def scored(self) -> int:
        """Multiply-adds of the head for one position."""
        return self.width * self.vocabulary


@dataclass(frozen=True)
class Work:
    """What a step goes over."""

    tokens: int
    """Positions that pass the layers, padding among them."""
    attended: int
    """Pairs of a query and a key that are computed."""
    scored: int
    """Positions that meet the vocabulary."""


def shape_of(config: Any) -> Shape:
    """The shape of a transformers configuration of the Llama kind."""
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        head_width,
        config.vocab_size,
    )


def packed_work(micros: Sequence[Sequence[Pair]], on_cpu: bool = False) -> Work:
    """Ours: no padding, a prompt once for both responses, every token looks only back, responses alone are scored.

    A pair of P prompt, C chosen and R rejected tokens is P+C+R tokens and (P+C)(P+C+1)/2 + PR + R(R+1)/2 looks; on a
    CPU the last R(R+1)/2 are R^2, for a rejected response has a mask, and under a mask the kernel computes it all.
    """
    tokens = attended = scored = 0
    for pair in (pair for micro in micros for pair in micro):
        prompt, chosen, rejected = pair.lengths()
        tokens += prompt + chosen + rejected
        attended += (prompt + chosen) * (prompt + chosen + 1) // 2
        attended += prompt * rejected + (rejected**2 if on_cpu else rejected * (rejected + 1) // 2)
        scored += chosen + rejected
    return Work(tokens, attended, scored)


def padded_work(micros: Sequence[Sequence[Pair]], only_responses: bool) -> Work:
    """TRL: both sides of every pair padded to the longest of the micro-batch, and the square of that attended.

    With padding transformers gives SDPA a mask, and under a mask the CPU kernel computes the whole square.
    """
    tokens = attended = scored = 0
    for micro in micros:
        longest, lines = max(pair.longest() for pair in micro), 2 * len(micro)
        tokens += lines * longest
        attended += lines * longest**2
        responses = sum(sum(pair.lengths()[1:]) for pair in micro)
        scored += responses if only_responses else lines * (longest - 1)
    return Work(tokens, attended, scored)


def forward_flops(shape: Shape, work: Work) -> int:
    """2 (tokens x linear + attended x attention + scored x head), a multiply-add being two."""
    return 2 * (work.tokens * shape.token() + work.attended * shape.attended() + work.scored * shape.scored())


def backward_flops(shape: Shape, work: Work) -> int:
    """Gradients of the inputs, the weights being frozen: as much as forward; twice that for attention.

    Attention has two inputs a product, so each product has two gradients. The weights of LoRA, under a hundredth of
    a layer, and what the first layer is spared are left out.
    """
    return forward_flops(shape, work) + 2 * work.attended * shape.attended()


def needed_flops(shape: Shape, work: Work) -> int:
    """Forward and the gradients of the inputs: the least a step of DPO with a cached reference is, for that work."""
    return forward_flops(shape, work) + backward_flops(shape, work)


def done_flops(shape: Shape, work: Work, arm: str) -> int:
    """What the arm really computes.

    Ours is what its work needs. TRL's head makes its logits again in the backward pass, one head more. TRL's default
    also passes a reference forward and, with checkpointing, every layer forward once more.
    """
    if arm == "ours":
        return needed_flops(shape, work)
    flops = needed_flops(shape, work) + 2 * work.scored * shape.scored()
    if arm == "trl_default":
        flops += 2 * forward_flops(shape, work) - 2 * work.scored * shape.scored()
    return flops


def gemm_rates(shape: Shape, device: str, seconds: float = 0.3) -> dict[str, float]:
    """Shape -> billions of operations a second of CPU time of all threads; on a GPU, in bf16 and wall time.

    A large square, and what the model multiplies 2,048 tokens with, forward and `back`.
    """
    import torch

    query, kv = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    sizes = {
        "square": (SQUARE, SQUARE, SQUARE),
        "query": (SQUARE, shape.width, query),
        "key": (SQUARE, shape.width, kv),
        "up": (SQUARE, shape.width, shape.inner),
        "down": (SQUARE, shape.inner, shape.width),
        "head": (SQUARE, shape.width, min(shape.vocabulary, 16_384)),
    }
    if device == "cuda":
        sizes["square"] = (4 * SQUARE, 4 * SQUARE, 4 * SQUARE)
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    found = {}
    for name, (rows, inner, columns) in sizes.items():
        weight = torch.randn(columns, inner, device=device, dtype=kind)
        flops = 2 * rows * inner * columns
        for way, right in ((name, weight.t()), (f"{name} back", weight)):
            left = torch.randn(rows, len(right), device=device, dtype=kind)
            out = torch.empty(rows, right.shape[1], device=device, dtype=kind)
            found[way] = rate(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), flops, device, seconds)
    return found


def rate(product: Callable[[], Any], flops: int, device: str, seconds: float) -> float:
    """Billions of operations a second, the best of three repeats: what the machine can do, not what it did.

    A repeat lasts, for the CPU time of other threads is brought up to date at the kernel's ticks alone.
    """
    import torch

    def spent(times: int, clock: Callable[[], float]) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        start = clock()
        for _ in range(times):
            product()
        if device == "cuda":
            torch.cuda.synchronize()
        return clock() - start

    spent(3, time.perf_counter)
    times = max(3, int(3 * seconds / spent(3, time.perf_counter)))
    clock = time.perf_counter if device == "cuda" else time.process_time
    return max(times * flops / spent(times, clock) / 1e9 for _ in range(3))


def best_rate(rounds: Sequence[dict[str, float]]) -> tuple[str, float]:
    """The shape that multiplies fastest and its rate, the median over the rounds."""
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    name = max(medians, key=medians.__getitem__)
    return name, medians[name]


def gemm(job: dict[str, Any]) -> dict[str, Any]:
    """The rates of one round, for the model of the job."""
    set_threads(job)
    from transformers import AutoConfig

    return {"rates": gemm_rates(shape_of(AutoConfig.from_pretrained(job["model"])), job["device"])}


if __name__ == "__main__":
    run_job({"gemm": gemm})
