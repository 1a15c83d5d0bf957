"""MLflow: a view that can be rebuilt from results/ at any time."""


localrules:
    plan,
    track,


rule plan:
    """What tracking and report must know of the graph, as one file."""
    output:
        plan="<results>/report/plan.json",
    log:
        "<logs>/plan.log",
    conda:
        "../envs/track.yaml"
    params:
        root=flow.root_config(),
        plan=flow.plan_digest(),
    message:
        "plan"
    shell:
        r"""
        exec python -m opd_steps.steps.plan --config {params.root:q} --out {output.plan:q} >{log:q} 2>&1
        """


rule track:
    """Import all results into MLflow, one process at a time; importing twice changes nothing."""
    input:
        plan=rules.plan.output.plan,
        manifests=manifests(),
    output:
        index="<results>/report/mlflow.json",
    log:
        "<logs>/track.log",
    conda:
        "../envs/track.yaml"
    resources:
        mlflow_db=1,
    params:
        tracking=flow.tracking_config(),
        code=flow.step_code("track"),
        results=subpath(output.index, ancestor=2),
    message:
        "track: importing results into MLflow"
    shell:
        r"""
        exec python -m opd_steps.steps.track --plan {input.plan:q} --results {params.results:q} --out {output.index:q} >{log:q} 2>&1
        """
