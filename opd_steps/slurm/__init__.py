"""What Snakemake's Slurm plugin leaves open: see docs/slurm.md. Nothing here is loaded unless the executor is slurm, but for `requeue`."""
