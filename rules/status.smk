"""What is there, and what the rest would take, without running anything."""


localrules:
    status,
    plan,


rule status:
    """Results that are current, those that would be made again and why, and those that are missing."""
    log:
        "<logs>/status.log",
    conda:
        "../envs/track.yaml"
    params:
        text=lambda wildcards: flow.status(),
    message:
        "status"
    shell:
        r"""
        printf '%s\n' {params.text:q} | tee {log:q}
        """


rule plan:
    """What each node needs of memory and time, by its config alone."""
    log:
        "<logs>/plan.log",
    conda:
        "../envs/track.yaml"
    params:
        text=lambda wildcards: flow.plan(),
    message:
        "plan"
    shell:
        r"""
        printf '%s\n' {params.text:q} | tee {log:q}
        """
