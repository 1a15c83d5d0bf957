"""What can be known of a paper's models before any of them is trained."""


localrules:
    preflight,


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
