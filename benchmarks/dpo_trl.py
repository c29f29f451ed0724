"""One measured run of TRL's DPO trainer in a process of its own: `dpo_trl.py JOB RESULT`, started by `dpo.py`.

Tuned means what TRL offers and what it does on a GPU by itself: no gradient checkpointing, the reference
log-probabilities computed before training, batches alike in length, and logits of response positions alone. The last
is decided in `trl.trainer.utils.add_fused_lm_head` by `_use_triton`, which is false on a CPU; there `compact` picks
`hidden_states[mask]` over all positions, and it is switched on here. The kernels ask a `_use_triton` of their own
module, which stays false, so the arithmetic is that of a CPU.
"""

import contextlib
import tempfile
import warnings
from pathlib import Path
from typing import Any

from curate.flags import set_defaults

set_defaults()

import torch  # noqa: E402
import trl.trainer.utils as trl_utils  # noqa: E402
from datasets import Dataset, disable_progress_bars  # noqa: E402
from dpo_measured import ADAPTER, BETA, RATE, Meter, run_job, set_adapter, set_threads, shaken, write_gradients  # noqa: E402
from dpo_pairs import Pair, read_steps  # noqa: E402
from peft import LoraConfig  # noqa: E402
from torch.utils.data import SequentialSampler  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402
from trl import DPOConfig, DPOTrainer  # noqa: E402


class InOrder(DPOTrainer):
    """The trainer on pairs in the order they come: they are grouped already."""

    def _get_train_sampler(self, *arguments: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class Steps(TrainerCallback):
    """Hold a meter to every step of the optimizer."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.scored: list[int] = []

    def on_step_begin(self, *arguments: Any, **named: Any) -> None:
        CountedHead.scored = 0
        self.meter.begin()

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        self.meter.end()
        self.scored.append(CountedHead.scored)


class CountedHead(trl_utils._ChunkedLogProbFunction):
    """TRL's head, which tells how many positions met the vocabulary with a gradient to follow."""

    scored = 0

    @classmethod
    def apply(cls, hidden: torch.Tensor, *arguments: Any) -> Any:
        CountedHead.scored += len(hidden) if torch.is_grad_enabled() else 0
        return trl_utils_head.apply(hidden, *arguments)


trl_utils_head = trl_utils._ChunkedLogProbFunction


def steps(job: dict[str, Any]) -> dict[str, Any]:
    """A warm-up and the measured steps."""
    micros = read_steps(Path(job["steps"]))
    with scratch() as folder:
        trainer = make_trainer(job, micros, folder)
        set_adapter(trainer.model, 0.0)
        watch = Steps(Meter(job["device"]))
        trainer.add_callback(watch)
        trl_utils._ChunkedLogProbFunction = CountedHead
        trainer.train()
    return watch.meter.report() | {"loss": losses(trainer), "scored": watch.scored[1:]}


def curve(job: dict[str, Any]) -> dict[str, Any]:
    """The loss of every step."""
    with scratch() as folder:
        trainer = make_trainer(job, read_steps(Path(job["steps"])), folder)
        set_adapter(trainer.model, 0.0)
        trainer.train()
    return {"loss": losses(trainer)}


def equality(job: dict[str, Any]) -> dict[str, Any]:
    """The loss of every batch, and the gradients of their mean, at adapter weights that are not zero."""
    micros = read_steps(Path(job["steps"]))
    with scratch() as folder:
        trainer = make_trainer(job, micros, folder)
        shaken(trainer.model).train()
        found = []
        for inputs in trainer.get_train_dataloader():
            with trainer.compute_loss_context_manager():
                loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(inputs))
            (loss / len(micros)).backward()
            found.append(loss.item())
        write_gradients(trainer.model, Path(job["gradients"]))
    return {"loss": found}


def make_trainer(job: dict[str, Any], micros: list[list[list[Pair]]], folder: str) -> InOrder:
    """TRL's trainer with what the two arms share, and what makes one of them tuned."""
    set_threads(job)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    is_tuned, on_gpu = job["arm"] == "trl_tuned", job["device"] == "cuda"
    if is_tuned and not on_gpu:
        trl_utils._use_triton = lambda device: True
    pairs = [pair for step in micros for micro in step for pair in micro]
    tokenizer = AutoTokenizer.from_pretrained(job["tokenizer"])
    cfg = DPOConfig(
        output_dir=folder,
        per_device_train_batch_size=len(micros[0][0]),
        gradient_accumulation_steps=len(micros[0]),
        num_train_epochs=1,
        learning_rate=RATE,
        beta=BETA,
        max_length=job["max_length"],
        max_grad_norm=0.0,
        weight_decay=0.0,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
        **({"gradient_checkpointing": False, "precompute_ref_log_probs": True} if is_tuned else {}),
    )
    with warnings.catch_warnings():
        # peft asks transformers for what transformers has renamed
        warnings.simplefilter("ignore", FutureWarning)
        trainer = InOrder(
            model=AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.bfloat16 if on_gpu else torch.float32),
            args=cfg,
            train_dataset=Dataset.from_list([texts(pair) for pair in pairs]),
            processing_class=tokenizer,
            peft_config=LoraConfig(**ADAPTER, task_type="CAUSAL_LM"),
        )
    check_tokens(trainer, pairs)
    return trainer


def texts(pair: Pair) -> dict[str, str]:
    return {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}


def check_tokens(trainer: InOrder, pairs: list[Pair]) -> None:
    """The two must train on the same tokens, and on what was chosen in the order it was chosen."""
    for row, pair in zip(trainer.train_dataset, pairs, strict=True):
        if (row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) != (
            pair.prompt_ids,
            pair.chosen_ids,
            pair.rejected_ids,
        ):
            raise RuntimeError("TRL tokenizes a pair otherwise than it was chosen by")


def losses(trainer: InOrder) -> list[float]:
    """Mean training loss of each step."""
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@contextlib.contextmanager
def scratch() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        yield folder


if __name__ == "__main__":
    run_job({"steps": steps, "curve": curve, "equality": equality})
