"""Models to start from, their preflight, and pretraining."""


localrules:
    preflight,


rule model:
    """A checkpoint to start from: a link to given weights, or a fresh model with its tokenizer."""
    input:
        unpack(parents("model")),
    output:
        manifest=update("<results>/{paper}/model/{node}/seed{seed}/manifest.json"),
    log:
        "<logs>/{paper}/model/{node}/seed{seed}.log",
    conda:
        "../envs/train.yaml"
    threads: ask("model", "cpus")
    resources:
        gpu=ask("model", "gpu"),
        mem_mb=ask("model", "mem_mb"),
        runtime=ask("model", "runtime"),
    params:
        cfg=job_config("model"),
        code=job_code("model"),
    message:
        "model: {wildcards.paper}/{wildcards.node} seed {wildcards.seed}"
    shell:
        r"""
        export OMP_NUM_THREADS={threads}
        exec python -m opd_steps.process.warm model --config {params.cfg:q} --code {params.code:q} --out {output.manifest:q} >>{log:q} 2>&1
        """


rule preflight:
    """Tokenizers, end tokens, chat templates and sizes of vocabularies must fit what a paper compares, before any training."""
    input:
        models=flow.preflight_models,
    output:
        report=update("<results>/{paper}/preflight/seed{seed}.json"),
    log:
        "<logs>/{paper}/preflight/seed{seed}.log",
    conda:
        "../envs/train.yaml"
    params:
        config=flow.root_config(),
        code=flow.preflight_code,
    message:
        "preflight: {wildcards.paper} seed {wildcards.seed}"
    shell:
        r"""
        exec python -m opd_steps.process.warm preflight --config {params.config:q} --code {params.code:q} --inputs {input.models:q} --paper {wildcards.paper:q} --seed {wildcards.seed:q} --out {output.report:q} >>{log:q} 2>&1
        """


rule pretrain:
    """Next-token training on the task's corpus."""
    input:
        unpack(parents("pretrain")),
        preflight=preflight,
    output:
        manifest=update("<results>/{paper}/pretrain/{node}/seed{seed}/manifest.json"),
    log:
        "<logs>/{paper}/pretrain/{node}/seed{seed}.log",
    conda:
        "../envs/train.yaml"
    threads: ask("pretrain", "cpus")
    resources:
        gpu=ask("pretrain", "gpu"),
        processes=processes("pretrain"),
        mem_mb=ask("pretrain", "mem_mb"),
        runtime=ask("pretrain", "runtime"),
    params:
        cfg=job_config("pretrain"),
        code=job_code("pretrain"),
    message:
        "pretrain: {wildcards.paper}/{wildcards.node} seed {wildcards.seed}"
    shell:
        r"""
        export OMP_NUM_THREADS={threads}
        exec python -m opd_steps.process.warm pretrain --processes {resources.processes} --config {params.cfg:q} --code {params.code:q} --out {output.manifest:q} >>{log:q} 2>&1
        """
