#!/bin/bash
# A study on a Slurm allocation: starts Ray on its nodes, runs the study, stops Ray.
#   sbatch cluster/slurm.sh --space s2rda49 --storage /scratch/me/runs --name s2rda49
#   sbatch cluster/slurm.sh … --resume             resumes it, for instance after the time limit
# Submit from the repository's root, with .venv there and all of it visible to every node.
#SBATCH --job-name=syn2real
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --exclusive
#SBATCH --no-kill
#SBATCH --output=syn2real-%j.log
# (Exclusive: when it ends, Ray stops all Ray processes of this user on these nodes. No-kill: when a
# node fails, its trials resume on others.)
set -euo pipefail
umask 077

source .venv/bin/activate

# The token that nodes and jobs must present: others on the network can reach these ports too.
export RAY_AUTH_MODE=token
if [ ! -s ~/.ray/auth_token ]; then
    ray get-auth-token --generate > /dev/null
fi
chmod 700 ~/.ray
chmod 600 ~/.ray/auth_token

# On each node's own disk. User and job are in the name, since folders of others may remain in /tmp.
# The path is short because it contains sockets, whose paths are limited to 107 bytes.
export RAY_TMPDIR="/tmp/ray-$USER-$SLURM_JOB_ID"
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")

# shellcheck disable=SC2016 - the nodes' shells expand it
exec srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --no-kill --kill-on-bad-exit=0 \
    bash -c 'mkdir -p "$RAY_TMPDIR"; trap "rm -rf \"$RAY_TMPDIR\"" EXIT; "$@"' on-node \
    ray symmetric-run --address "${hosts[0]}:6379" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --resources='{"trial_slot": 8}' \
    --dashboard-host=127.0.0.1 --disable-usage-stats \
    -- python -m study.run --address auto "$@"
