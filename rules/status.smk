"""What is there, without running anything."""


localrules:
    status,


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
