"""Loss and gradients of DPO as plainly as they can be written, in float64: `dpo_float64.py JOB RESULT`."""

from pathlib import Path
from typing import Any

from curate.flags import set_defaults

set_defaults()

import torch  # noqa: E402
from dpo_measured import ADAPTER, BETA, run_job, set_threads, shaken, write_gradients  # noqa: E402
from dpo_pairs import Pair, read_steps  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402


def equality(job: dict[str, Any]) -> dict[str, Any]:
    """The loss of every batch, and the gradients of their mean, at adapter weights that are not zero."""
    set_threads(job)
    batches = [[pair for micro in step for pair in micro] for step in read_steps(Path(job["steps"]))]
    plain = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    model = shaken(get_peft_model(plain, LoraConfig(**ADAPTER, task_type="CAUSAL_LM"))).double().eval()
    exact_norms(model)
    found = []
    for batch in batches:
        total = 0.0
        for pair in batch:
            loss = pair_loss(model, pair)
            (loss / len(batch) / len(batches)).backward()
            total += loss.item()
        found.append(total / len(batch))
    write_gradients(model, Path(job["gradients"]))
    return {"loss": found}


def exact_norms(model: Any) -> None:
    """Compute every norm in the model's precision; transformers computes it in float32."""

    def replace(module: Any) -> None:
        module.forward = lambda states: (
            module.weight * states * (states.square().mean(-1, keepdim=True) + module.variance_epsilon).rsqrt()
        )

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            replace(module)


def pair_loss(model: Any, pair: Pair) -> Tensor:
    """Equation 7 of https://arxiv.org/abs/2305.18290 for one pair."""
    with torch.no_grad(), model.disable_adapter():
        reference = [logp(model, pair.prompt_ids, ids) for ids in (pair.chosen_ids, pair.rejected_ids)]
    policy = [logp(model, pair.prompt_ids, ids) for ids in (pair.chosen_ids, pair.rejected_ids)]
    margin = BETA * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
    return torch.log1p(torch.exp(-margin))


def logp(model: Any, prompt: list[int], response: list[int]) -> Tensor:
    """Log-probability of a response after a prompt, one sequence by itself with full logits."""
    ids = torch.tensor([prompt + response])
    logps = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
    return logps.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum()


if __name__ == "__main__":
    run_job({"equality": equality})
