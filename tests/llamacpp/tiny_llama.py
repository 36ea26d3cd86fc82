"""Runs a real llama.cpp server on loopback, with a tiny model made here. Run by the Python that llama.cpp is in.

    python tiny_llama.py --port 0 --dir /tmp/tiny [--alias tiny-llama]

It writes DIR/tiny-llama-1.gguf if that is not there (0.4 MB, from a fixed seed), serves it, and prints one line when
ready: "ready http://127.0.0.1:8091 model=tiny-llama". It ends on SIGTERM at once, cutting off what is in flight.

The model is a Llama of one layer with random weights. Its embedding and output head are laid out so that it answers
every prompt with one sentence and then ends the turn, at any usual temperature. For other ends: `max_tokens` below 16
gives "length"; `"ignore_eos": true`, as long an answer as one likes; tools with `tool_choice` "required", a call.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
from pathlib import Path
from typing import Any

SENTENCE = [
    *("A", "▁tiny", "▁model", "▁answers", "▁every", "▁prompt", "▁with", "▁this"),
    *("▁one", "▁short", "▁sentence", ",", "▁then", "▁stops", "."),
]
WORDS = [
    *("▁the", "▁you", "▁are", "▁user", "▁hello", "▁what", "▁is", "▁and"),
    *("▁weather", "system", "user", "assistant"),
]
EMBD, HEADS, FF = 64, 4, 128
EDITION = 1  # Part of the file's name: raise it when the model's layout changes.
TEMPLATE = (
    "{%- if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n"
    "{% endif -%}"
    "{%- for m in messages -%}<|im_start|>{{ m.role }}\n"
    "{% if m.content %}{{ m.content }}{% endif -%}"
    '{%- for c in m.tool_calls or [] %}<tool_call>{"name": "{{ c.function.name }}", '
    '"arguments": {{ c.function.arguments | tojson }}}</tool_call>{% endfor -%}'
    "<|im_end|>\n{% endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}"
)


def vocabulary(gguf: Any) -> tuple[list[str], list[float], list[int]]:
    """Pieces, scores and types of a small SentencePiece vocabulary."""
    kinds = gguf.TokenType
    pieces = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    pieces += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    pieces += [("<|im_start|>", kinds.CONTROL), ("<|im_end|>", kinds.CONTROL)]
    pieces += [("<tool_call>", kinds.USER_DEFINED), ("</tool_call>", kinds.USER_DEFINED)]
    seen = {piece for piece, _ in pieces}
    plain = ["▁"] + [chr(code) for code in range(33, 127)]
    # Merges are pairwise, so that every prefix of a word must be a piece as well.
    for word in SENTENCE + WORDS:
        plain += [word[:size] for size in range(2, len(word) + 1)]
    for piece in plain:
        if piece not in seen:
            seen.add(piece)
            pieces.append((piece, kinds.NORMAL))
    scores = [-float(index) if kind == kinds.NORMAL else 0.0 for index, (_, kind) in enumerate(pieces)]
    return [piece for piece, _ in pieces], scores, [int(kind) for _, kind in pieces]


def embedding_and_head(np: Any, rng: Any, ids: dict[str, int]) -> tuple[Any, Any]:
    """The two tensors that make the model say its sentence: each word of it leads to the next, all others to the first.

    Where a grammar forbids the end of the turn, it opens a tool call, and closes it as soon as the grammar lets it.
    """

    def random(*shape: int, scale: float) -> Any:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    embedding = random(len(ids), EMBD, scale=1.0)
    head = random(len(ids), EMBD, scale=1.0)
    chain, end = [ids[token] for token in SENTENCE], ids["<|im_end|>"]
    embedding[:, 0] = 0
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    off_chain = np.setdiff1d(np.arange(len(ids)), chain)
    embedding[off_chain, 1:] *= 0.25
    embedding[off_chain, 0] = 1.0
    head *= 0.02
    head[chain[0], 0] += 3.0
    for here, following in zip(chain, [*chain[1:], end], strict=True):
        head[following] += 3.0 * embedding[here]
    call, end_call = ids["<tool_call>"], ids["</tool_call>"]
    embedding[[call, end_call]] = random(2, EMBD, scale=1.0 / 8)
    embedding[[call, end_call], 0] = 0
    head[call] += 2.0 * embedding[chain[-1]]
    head[ids['"']] += 2.0 * embedding[call]
    head[end] += 3.0 * embedding[end_call]
    for token, weight in ((end_call, 1.5), (ids["}"], 1.0), (ids['"'], 0.6), (ids[":"], 0.6), (ids["{"], 0.6)):
        head[token, 0] += weight
    embedding *= 2.0
    return embedding, head


def write_model(path: Path) -> None:
    """Writes the model's file."""
    gguf, np = importlib.import_module("gguf"), importlib.import_module("numpy")
    tokens, scores, types = vocabulary(gguf)
    ids = {token: index for index, token in enumerate(tokens)}
    rng = np.random.default_rng(20240229)
    embedding, head = embedding_and_head(np, rng, ids)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny-llama")
    writer.add_context_length(32_768)
    writer.add_embedding_length(EMBD)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(EMBD // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)
    ones = np.ones(EMBD, dtype=np.float32)
    shapes = {f"attn_{part}": (EMBD, EMBD) for part in ("q", "k", "v", "output")}
    shapes |= {"ffn_gate": (FF, EMBD), "ffn_up": (FF, EMBD), "ffn_down": (EMBD, FF)}
    tensors = {"token_embd": embedding, "output_norm": ones, "output": head}
    tensors |= {"blk.0.attn_norm": ones, "blk.0.ffn_norm": ones}
    for part, shape in shapes.items():
        tensors[f"blk.0.{part}"] = (rng.standard_normal(shape) * 0.02).astype(np.float32)
    for name, tensor in tensors.items():
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def model_file(folder: Path) -> Path:
    """The model's path in a folder; it is written first where it is missing."""
    path = folder / f"tiny-llama-{EDITION}.gguf"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}")
        write_model(part)
        part.replace(path)
    return path


def serve(path: Path, options: argparse.Namespace) -> Any:
    """Starts the server."""
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {options.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.api_keys = options.api_key
    params.n_ctx = options.ctx * options.slots  # llama.cpp shares it out among the slots.
    params.n_parallel = options.slots
    params.n_batch = params.n_ubatch = 512
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_threads_http = max(8, 2 * options.slots)
    params.n_gpu_layers = 0
    params.fit_params = False
    params.cache_ram_mib = 16
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.ui = False
    params.verbosity = 1
    return xllamacpp.Server(params)


def main() -> None:
    """Serves the model until it is told to end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--dir", type=Path, required=True, help="where the model's file is kept")
    parser.add_argument("--alias", default="tiny-llama", help="the model's name")
    parser.add_argument("--ctx", type=int, default=2048, help="tokens in one slot")
    parser.add_argument("--slots", type=int, default=4, help="requests served at once")
    parser.add_argument("--api-key", action="append", default=[])
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        # The library's own end takes a second or two.
        signal.signal(number, lambda *_: os._exit(0))
    server = serve(model_file(options.dir), options)
    print(f"ready {server.listening_address} model={options.alias}", flush=True)  # noqa: T201 - for who waits for it
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
