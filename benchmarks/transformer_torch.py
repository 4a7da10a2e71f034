"""The peers of `transformer_step.py`: KD steps of Hugging Face's models in PyTorch, and of TRL's trainer."""

import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

TEMPERATURE, TASK, KD = 4.0, 0.1, 0.9
RATE, DECAY = 1e-4, 0.01

# Where a Linen param is in `BertForSequenceClassification` and `LlamaForCausalLM`.
PLACES = {
    "encoder": (
        ("^embed/", "bert/embeddings/word_embeddings/"),
        ("^positions/", "bert/embeddings/position_embeddings/"),
        ("^segments/", "bert/embeddings/token_type_embeddings/"),
        ("^embed_norm/", "bert/embeddings/LayerNorm/"),
        (r"^block(\d+)/", r"bert/encoder/layer/\1/"),
        ("attention/(query|key|value)/", r"attention/self/\1/"),
        ("attention/out/", "attention/output/dense/"),
        ("norm1/", "attention/output/LayerNorm/"),
        ("feed_forward/up/", "intermediate/dense/"),
        ("feed_forward/down/", "output/dense/"),
        ("norm2/", "output/LayerNorm/"),
        ("^pooler/", "bert/pooler/dense/"),
        ("^head/", "classifier/"),
    ),
    "decoder": (
        ("^embed/", "model/embed_tokens/"),
        (r"^block(\d+)/", r"model/layers/\1/"),
        ("attention/(q|k|v)[a-z]+/", r"self_attn/\1_proj/"),
        ("attention/out/", "self_attn/o_proj/"),
        ("norm1/", "input_layernorm/"),
        ("norm2/", "post_attention_layernorm/"),
        ("feed_forward/(gate|up|down)/", r"mlp/\1_proj/"),
        ("^final_norm/", "model/norm/"),
        ("^head/", "lm_head/"),
    ),
}


def model(kind: str, shape: Mapping[str, Any], params: Mapping[str, np.ndarray]) -> nn.Module:
    """Builds BERT or Llama of a shape, with scaled-dot-product attention and without dropout, and gives it weights.

    Args:
        shape: `layers`, `width`, `heads`, `hidden`, `vocabulary`, `length` and `classes`.
        params: path -> array, all of our params.
    """
    from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": shape["width"], "num_hidden_layers": shape["layers"], "vocab_size": shape["vocabulary"]}
    sizes |= {"num_attention_heads": shape["heads"], "intermediate_size": shape["hidden"]}
    sizes |= {"max_position_embeddings": shape["length"], "attn_implementation": "sdpa", "use_cache": False}
    if kind == "encoder":
        none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": shape["classes"]}
        model = BertForSequenceClassification(BertConfig(**sizes, **none))
    else:
        model = LlamaForCausalLM(LlamaConfig(**sizes, rms_norm_eps=1e-5, tie_word_embeddings=False))
    arrays = {_name(kind, path): torch.from_numpy(_transpose(path, array)) for path, array in params.items()}
    buffers = {name: x for name, x in model.state_dict().items() if name not in dict(model.named_parameters())}
    model.load_state_dict(buffers | arrays, strict=True)
    return model


def _name(kind: str, path: str) -> str:
    for ours, theirs in PLACES[kind]:
        path = re.sub(ours, theirs, path)
    return re.sub("/(kernel|embedding|scale)$", "/weight", path).replace("/", ".")


def _transpose(path: str, array: np.ndarray) -> np.ndarray:
    if path.endswith("embedding"):
        return np.array(array)
    if path.endswith("kernel"):
        rows = -1 if path.endswith("out/kernel") else array.shape[0]
        return np.ascontiguousarray(array.reshape(rows, array.shape[-1] if rows == -1 else -1).T)
    return np.array(array).reshape(-1)


def text_kd(student: torch.Tensor, teacher: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    student_log, teacher_log = F.log_softmax(student / TEMPERATURE, -1), F.log_softmax(teacher / TEMPERATURE, -1)
    divergence = F.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True) * TEMPERATURE**2
    return TASK * F.cross_entropy(student, label) + KD * divergence


def token_kl(student: torch.Tensor, teacher: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The forward KL of next tokens, a mean over tokens, as TRL computes it for beta = 0."""
    student_log, teacher_log = F.log_softmax(student[:, :-1], -1), F.log_softmax(teacher[:, :-1], -1)
    divergence = F.kl_div(student_log, teacher_log, reduction="none", log_target=True)
    return divergence.sum() / (divergence.shape[0] * divergence.shape[1])


class TorchSteps:
    """The KD step of two such models on tokens that are on the device.

    Args:
        form: "eager", "compiled", or "bfloat16" (compiled under autocast).
        indices: yields the indices of the batches.
    """

    def __init__(self, kind: str, teacher: nn.Module, student: nn.Module, data: Any, indices: Iterator, form: str):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.teacher = teacher.to(self.device).eval().requires_grad_(False)
        self.student = student.to(self.device).train()
        self.tokens, self.label = (torch.from_numpy(data[n]).long().to(self.device) for n in ("tokens", "label"))
        optimizer = torch.optim.AdamW(student.parameters(), RATE, weight_decay=DECAY, fused=form != "eager" or None)
        self.optimizer, self._indices, self.losses = optimizer, indices, np.zeros(0)
        compare = text_kd if kind == "encoder" else token_kl

        def loss(tokens: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=form == "bfloat16"):
                with torch.no_grad():
                    teacher = self.teacher(input_ids=tokens).logits
                student = self.student(input_ids=tokens).logits
            return compare(student.float(), teacher.float(), label)

        self._loss: Callable = loss if form == "eager" else torch.compile(loss)

    def step(self) -> torch.Tensor:
        index = torch.from_numpy(next(self._indices)).to(self.device)
        loss = self._loss(self.tokens[index], self.label[index])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def run(self, steps: int) -> None:
        losses = torch.stack([self.step().clone() for _ in range(steps)])
        self.losses = losses.cpu().numpy()  # waits


class TrlSteps(TorchSteps):
    """TRL's `GKDTrainer` on the same texts: its `training_step`, then its optimizer's.

    beta = 0 and lmbda = 0 are the forward KL on given texts, unless `options` have others; its defaults of gradient
    checkpointing and bfloat16 are off, as in the others.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, data: Any, indices: Iterator, **options: Any):
        super().__init__("decoder", teacher, student, data, indices, "eager")
        logging.getLogger("transformers").setLevel(logging.ERROR)
        from datasets import Dataset
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        words = Tokenizer(models.WordLevel({"<pad>": 0, "<end>": 1}, unk_token="<pad>"))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>")
        settings = {"bf16": False, "gradient_checkpointing": False, "report_to": [], "save_strategy": "no"}
        with tempfile.TemporaryDirectory() as folder:
            settings |= {"lmbda": 0.0, "beta": 0.0, "temperature": 1.0, "use_cpu": self.device.type == "cpu"}
            config = GKDConfig(output_dir=folder, **settings | options)
            rows = Dataset.from_dict({"input_ids": [[1, 1]]})
            self.trainer = GKDTrainer(
                model=student,
                teacher_model=teacher,
                args=config,
                data_collator=lambda rows: rows,
                train_dataset=rows,
                processing_class=tokenizer,
                optimizers=(self.optimizer, None),
            )
        self.trainer.current_gradient_accumulation_steps = 1  # which its loop would set

    def step(self) -> torch.Tensor:
        tokens = self.tokens[torch.from_numpy(next(self._indices)).to(self.device)]
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}
        loss = self.trainer.training_step(self.student, inputs)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


class TrlOnPolicySteps(TrlSteps):
    """TRL's `GKDTrainer` on texts that the student writes after prompts (lmbda = 1), in its own way.

    Args:
        prompt, tokens: numbers of tokens of a prompt, and of those that are written, none of which ends a text.
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, data: Any, indices: Iterator, *, prompt: int, tokens: int
    ):
        super().__init__(teacher, student, data, indices, lmbda=1.0, beta=0.5, max_new_tokens=tokens)
        self._prompt, self.texts, generate = prompt, torch.zeros(0), self.trainer.generate_on_policy_outputs
        self.trainer.generation_config.min_new_tokens = self.trainer.generation_kwargs["min_new_tokens"] = tokens
        self.trainer.generation_config.eos_token_id = None
        student.generation_config.eos_token_id = None

        def recorded(*arguments: Any) -> Any:
            outputs = generate(*arguments)
            self.texts = outputs[0]
            return outputs

        self.trainer.generate_on_policy_outputs = recorded

    def take_likeliest(self, is_greedy: bool) -> None:
        """Makes it write the likeliest tokens, or draw them from the student's own distribution."""
        self.trainer.generation_config.top_k = self.trainer.generation_kwargs["top_k"] = 1 if is_greedy else 0

    def step(self) -> torch.Tensor:
        tokens = self.tokens[torch.from_numpy(next(self._indices)).to(self.device)]
        prompts = tokens[:, : self._prompt]
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}
        inputs |= {"prompts": prompts, "prompt_attention_mask": torch.ones_like(prompts)}
        loss = self.trainer.training_step(self.student, inputs)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()
