"""What a model node of causal language models publishes: a link to weights that exist already, or fresh ones of a config and a seed."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase

from opd_steps.errors import UserError
from opd_steps.models import external
from opd_steps.models.ends import end_ids, stated_ends
from opd_steps.models.folder import LINK, MODEL, read_tokenizer, save_model
from opd_steps.models.fresh import fresh_model
from opd_steps.models.given import judge
from opd_steps.models.speaking import write_speaking
from opd_steps.models.special import leading_ids
from opd_steps.models.tokenizers import bpe_tokenizer, byte_tokenizer, char_tokenizer, describe
from opd_steps.rollout.positions import positions
from opd_steps.store.artifacts import Job
from opd_steps.store.files import write_json
from opd_steps.store.jsonl import read_jsonl


def linked(job: Job, path: str, revision: str | None) -> dict:
    """Write the link to a checkpoint that exists; its facts. Raises UserError for one that cannot be trained."""
    if job.options["config"]:
        raise UserError("config", "a model from a path has its own config; leave out path or config")
    folder = external.locate(path, revision)
    external.check(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each architecture has its own way to refuse a field
        raise UserError(str(folder / "config.json"), str(error)) from None
    tokenizer = read_tokenizer(str(folder))
    judge(folder, config, tokenizer)
    if "speaks" in job.manifests:
        tokenizer = write_speaking(folder, tokenizer, job.path("speaks"), job.stage / MODEL)
    link = {"path": path, "revision": external.commit(folder)}
    files = job.sources.get("path") or external.file_hashes(
        folder
    )  # a folder is hashed by its job already, a hub's snapshot is not
    if "speaks" not in job.manifests:
        write_json(job.stage / LINK, {**link, "files": files})
    return {
        "kind": "external",
        "source": path,
        "revision": link["revision"],
        "weights": {name: entry for name, entry in files.items() if name.endswith(".safetensors")},
        **tokens(tokenizer, job.stage / MODEL if "speaks" in job.manifests else folder, config),
        "architectures": config.architectures,
    }


def fresh(job: Job) -> dict:
    """Write a model with random weights; its facts."""
    options = job.options
    if "speaks" in job.manifests:
        raise UserError("speaks", "a fresh model has no tokenizer to replace: name one with tokenizer")
    if options["revision"] is not None:
        raise UserError("revision", "a revision needs a path")
    tokenizer = tokenizer_of(job)
    made = fresh_model(options["architecture"], options["config"], tokenizer, job.seed)
    save_model(made, tokenizer, job.stage / MODEL)
    return {
        "kind": "fresh",
        **tokens(tokenizer, job.stage / MODEL, made.config),
        "parameters": sum(p.numel() for p in made.parameters()),
        "architectures": made.config.architectures,
    }


def tokens(tokenizer: PreTrainedTokenizerBase, folder: Path, config: PreTrainedConfig) -> dict:
    """Facts of what a model reads and says. Raises UserError for an end, padding or leading token that its embedding lacks."""
    vocab = config.get_text_config().vocab_size
    leading = (("leading", token) for token in leading_ids(tokenizer))
    for name, token in (("end", tokenizer.eos_token_id), ("padding", tokenizer.pad_token_id), *leading):
        if token >= (known := min(vocab, len(tokenizer))):
            message = f"the tokenizer's {name} token is {token}; tokenizer and embedding have {known} tokens in common"
            raise UserError(str(folder), message)
    ends = list(end_ids(tokenizer, stated_ends(folder)))
    return {"tokenizer": describe(tokenizer), "vocab_size": vocab, "ends": ends, "positions": positions(config)}


def tokenizer_of(job: Job) -> PreTrainedTokenizerBase:
    name = job.options["tokenizer"]
    if name == "byte":
        return byte_tokenizer()
    if name not in ("char", "bpe"):
        return read_tokenizer(str(external.locate(name)))
    if "data" not in job.manifests:
        raise UserError("tokenizer", f"{name} takes its alphabet from a data node: set data, or tokenizer: byte")
    if "alphabet" not in job.manifests["data"]["facts"]:
        raise UserError("data", f"tokenizer: {name} is made of a data set's text; {job.path('data')} holds none")
    if name == "bpe":
        rows = read_jsonl(job.path("data", "train.jsonl"))
        return bpe_tokenizer(job.manifests["data"]["facts"]["alphabet"], [r[c] for r in rows for c in ("prompt", "corpus")])
    return char_tokenizer(job.manifests["data"]["facts"]["alphabet"])
