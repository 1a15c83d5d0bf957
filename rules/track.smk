"""MLflow: a view that can be rebuilt from results/ at any time."""


localrules:
    outline,
    gather,
    track,


rule outline:
    """What tracking and report must know of the graph, as one file."""
    output:
        plan=update("<results>/report/plan.json"),
    log:
        "<logs>/outline.log",
    conda:
        "../envs/track.yaml"
    params:
        root=flow.root_config(),
    message:
        "outline"
    shell:
        r"""
        exec python -m opd_steps.steps.plan --config {params.root:q} --out {output.plan:q} >{log:q} 2>&1
        """


rule gather:
    """A paper's results as one small file: what comes after all of them names it as its reason, not thousands of manifests."""
    input:
        plan=rules.outline.output.plan,
        manifests=flow.manifests_of,
    output:
        index=update("<results>/report/manifests/{paper}.json"),
    log:
        "<logs>/report/{paper}.log",
    conda:
        "../envs/track.yaml"
    params:
        results=subpath(output.index, ancestor=3),
    message:
        "gather: {wildcards.paper}"
    shell:
        r"""
        exec python -m opd_steps.steps.gather --plan {input.plan:q} --results {params.results:q} --paper {wildcards.paper:q} --out {output.index:q} >{log:q} 2>&1
        """


rule track:
    """Import all results into MLflow, one process at a time; importing twice changes nothing."""
    input:
        plan=rules.outline.output.plan,
        manifests=flow.gathered(),
    output:
        index=update("<results>/report/mlflow.json"),
        links=update("<results>/report/mlflow.js"),
    log:
        "<logs>/track.log",
    conda:
        "../envs/track.yaml"
    resources:
        mlflow_db=1,
    params:
        code=flow.step_code("track"),
        results=subpath(output.index, ancestor=2),
    message:
        "track: importing results into MLflow"
    shell:
        r"""
        exec python -m opd_steps.steps.track --plan {input.plan:q} --results {params.results:q} --code {params.code:q} --inputs {input:q} --out {output.index:q} >{log:q} 2>&1
        """
