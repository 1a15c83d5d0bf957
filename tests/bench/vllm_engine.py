"""What vLLM costs and brings: start-up, tokens per CPU second against the local engine and `generate`, scoring by top-k, new weights.

python -m tests.bench.vllm_engine --hidden 128 --layers 4 --vocab 512 --batch 64 --new 64
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from opd_steps.graph.options import Engine
from opd_steps.rollout.local import decode
from opd_steps.rollout.vllm_engine import VllmEngine
from opd_steps.seeds import rng
from tests.bench.measuring import chip, median_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in {"hidden": 128, "layers": 4, "vocab": 512, "batch": 64, "prompt": 32, "new": 64}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = Qwen3Config(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=3 * args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 32,
        num_key_value_heads=max(args.hidden // 64, 1),
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config).to(device).eval()
    eos = args.vocab - 1  # likely no sample's end: every row has its full length, or nearly
    contexts = [rng("prompt", i).integers(0, eos, args.prompt).tolist() for i in range(args.batch)]
    rows = [c + rng("answer", i).integers(0, eos, args.new).tolist() for i, c in enumerate(contexts)]
    sampling = {"max_new_tokens": args.new, "temperature": 1.0, "top_p": 1.0}
    tokens = args.batch * args.new

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "model")
        begun = time.process_time(), time.perf_counter()
        import vllm  # noqa: F401

        imported = time.process_time(), time.perf_counter()
        options = dataclasses.asdict(Engine()) | {"kv_cache_mb": 256, "max_model_len": 512, "batch": args.batch}
        engine = VllmEngine(str(Path(folder) / "model"), options, "float32", [eos], learns=True, scores=-1)
        started = time.process_time(), time.perf_counter()

    @torch.no_grad()
    def hf_generate():
        ids = torch.tensor(contexts, device=device)
        model.generate(ids, do_sample=True, max_new_tokens=args.new, eos_token_id=None, pad_token_id=0, top_k=0)

    @torch.no_grad()
    def hf_score():
        ids = torch.tensor(rows, device=device)
        torch.log_softmax(model(ids).logits[:, args.prompt - 1 : -1].float(), -1).gather(-1, ids[:, args.prompt :, None]).cpu()

    seeds = range(args.batch)
    local = lambda: decode(model, contexts, seeds, **sampling, ends=[eos], pad_id=0)
    parameters = sum(p.numel() for p in model.parameters())
    sizes = f"{parameters / 1e6:.2f} M parameters, {args.batch} x ({args.prompt} + {args.new}) tokens"
    print(f"{chip(device)}, torch {torch.__version__}, fp32; {sizes}")
    print(f"import vllm    {imported[0] - begun[0]:6.1f} CPU s {imported[1] - begun[1]:6.1f} s wall")
    print(f"start engine   {started[0] - imported[0]:6.1f} CPU s {started[1] - imported[1]:6.1f} s wall")
    for name, work in {
        "local": local,
        "vllm": lambda: engine.generate(contexts, seeds, **sampling),
        "generate": hf_generate,
    }.items():
        print(f"sample {name:9}{tokens / median_seconds(work, device):8.0f} tokens / s")
    print(f"score torch    {tokens / median_seconds(hf_score, device):8.0f} tokens / s")
    for k in (0, 1, 20, 64, -1):
        work = lambda k=k: engine.score(rows, [args.prompt] * args.batch, k)
        print(f"score vllm k={k:3}{tokens / median_seconds(work, device):8.0f} tokens / s")
    print(
        f"new weights    {1000 * median_seconds(lambda: engine.sync(model, 1), device):8.1f} ms, the comparison on a fixed sequence included"
    )
    engine.close()


if __name__ == "__main__":
    main()
