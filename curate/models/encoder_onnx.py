"""Write the sentence encoder as an ONNX graph: a BERT of fused operators, with the mean over tokens at its end."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

LAYERS = 6
HEADS = 12
DIMENSIONS = 384
MOST_TOKENS = 256
EPSILON = 1e-12
FUSED = "com.microsoft"
"""ONNX Runtime's own operators; one such operator stands for several of the standard ones."""


def export_minilm(folder: Path, target: Path) -> None:
    """Write `target`/model.onnx from the weights of all-MiniLM-L6-v2 in `folder`.

    Inputs: `ids` (texts, tokens) int64 and `mask` (texts, tokens) int32, 1 for a token and 0 behind the end
    of a text. Output: `vector` (texts, 384), of length 1.
    """
    graph = Graph(load_file(folder / "model.safetensors"))
    states = graph.embeddings()
    for layer in range(LAYERS):
        states = graph.layer(f"encoder.layer.{layer}.", states)
    graph.mean(states)
    onnx.save(graph.model(), target / "model.onnx")


class Graph:
    """Nodes and weights as they are added."""

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def embeddings(self) -> str:
        """The states before the first layer: word, position and type, normalized."""
        words = self._constant(self._weights["embeddings.word_embeddings.weight"])
        # Every text is of type 0, so its row goes into the positions.
        places = self._weights["embeddings.position_embeddings.weight"][:MOST_TOKENS]
        kind = self._weights["embeddings.token_type_embeddings.weight"][0]
        zero = self._constant(np.array([0]))
        count = self._node("Shape", "ids", start=1, end=2)
        place = self._node("Slice", self._constant(places + kind), zero, count, zero)
        summed = self._node("Add", self._node("Gather", words, "ids"), place)
        scale, shift = self._weight("embeddings.LayerNorm.weight"), self._weight("embeddings.LayerNorm.bias")
        return self._node("LayerNormalization", summed, scale, shift, axis=-1, epsilon=EPSILON)

    def layer(self, name: str, states: str) -> str:
        """The states after the layer whose weights begin with `name`."""
        parts = [f"{name}attention.self.{part}." for part in ("query", "key", "value")]
        weight = self._constant(np.concatenate([self._weights[f"{part}weight"].T for part in parts], axis=1))
        bias = self._constant(np.concatenate([self._weights[f"{part}bias"] for part in parts]))
        attended = self._node("Attention", states, weight, bias, "mask", domain=FUSED, num_heads=HEADS)
        attended = self._joined(attended, states, f"{name}attention.output.")
        inner = self._times(attended, f"{name}intermediate.dense.weight")
        inner = self._node("BiasGelu", inner, self._weight(f"{name}intermediate.dense.bias"), domain=FUSED)
        return self._joined(inner, attended, f"{name}output.")

    def mean(self, states: str) -> None:
        """The mean over the tokens of a text, of length 1: so the sum will do."""
        rows = self._constant(np.array([1]))
        mask = self._node("Unsqueeze", self._node("Cast", "mask", to=TensorProto.FLOAT), rows)
        summed = self._node("Squeeze", self._node("MatMul", mask, states), rows)
        self._nodes.append(helper.make_node("LpNormalization", [summed], ["vector"], axis=-1, p=2))

    def model(self) -> onnx.ModelProto:
        """The whole graph."""
        inputs = [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "tokens"]),
            helper.make_tensor_value_info("mask", TensorProto.INT32, ["texts", "tokens"]),
        ]
        outputs = [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["texts", DIMENSIONS])]
        graph = helper.make_graph(self._nodes, "minilm", inputs, outputs, self._constants)
        operators = [helper.make_opsetid("", 18), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=operators, ir_version=10)

    def _joined(self, states: str, before: str, name: str) -> str:
        """A dense layer, added to the states before and normalized."""
        norm = [self._weight(f"{name}LayerNorm.{part}") for part in ("weight", "bias")]
        bias = self._weight(f"{name}dense.bias")
        dense = self._times(states, f"{name}dense.weight")
        return self._node("SkipLayerNormalization", dense, before, *norm, bias, domain=FUSED, epsilon=EPSILON)

    def _times(self, states: str, name: str) -> str:
        return self._node("MatMul", states, self._constant(self._weights[name].T))

    def _weight(self, name: str) -> str:
        return self._constant(self._weights[name])

    def _constant(self, values: NDArray[np.generic]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"node_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        return name
