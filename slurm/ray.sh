#!/bin/sh
# Ray on one machine of a job of several (resources: {nodes: 2, gpu: 8}; docs/scale.md). The node's step starts it on its own machine
# first, by `srun` on the others, and ends it; nobody else calls it:  ray.sh PYTHON GPUS head|join ADDRESS:PORT

# ---- Your site: what Ray and NCCL want on your machines -----------------------------------------------------------------------------
# module load cuda
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0    # the network between machines, where it is not the first one
# export RAY_TMPDIR=/local/$SLURM_JOB_ID                  # a short path, on a disk of the machine's own
# ---------------------------------------------------------------------------------------------------------------------------------------

python=$1 gpus=$2 role=$3 address=$4
case $role in
    head) set -- --head --node-ip-address="${address%:*}" --port="${address##*:}" --include-dashboard=false ;;
    join) set -- --address="$address" ;;
esac
# Slurm sends SIGTERM to every process of a job; what it means the step decides, which saves first. CPUs of Ray are tickets, of which
# verl holds some for each GPU: how many cores processes use is up to them.
exec "$python" -c 'import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
os.execv(sys.argv[1], sys.argv[1:])' "$python" -m ray.scripts.scripts start --block --num-gpus="$gpus" --num-cpus=$((16 + 8 * gpus)) "$@"
