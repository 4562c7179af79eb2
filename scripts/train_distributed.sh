#!/usr/bin/env bash
# Train with several processes, one for each GPU, or on CPUs:
#   scripts/train_distributed.sh PROCESSES options/macr_gopro.yml [more arguments of basicsr.train]
# Several machines: start it on each of them with NODES, NODE_RANK, MASTER_ADDR and MASTER_PORT set.
set -euo pipefail

if [[ $# -lt 2 ]]; then
  sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
processes=$1
options=$2
shift 2

# Slurm's warning before the end of a job: torchrun passes it on too, where it knows this variable.
export PET_SIGNALS_TO_HANDLE="${PET_SIGNALS_TO_HANDLE:-SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1}"
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${MASTER_PORT:-29500}" \
  -m macr_plugin.train -opt "$options" --launcher pytorch "$@"
