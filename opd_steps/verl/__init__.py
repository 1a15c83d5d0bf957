"""Training on many machines by verl, whose loss and optimizer are ours (docs/scale.md).

`node` runs in our own environment and never imports verl; the rest runs in verl's. What the GPU workers import of us - `loss`,
`optimizer`, `scores` and what is under them - knows torch alone.
"""
