#!/usr/bin/env bash
# Train the weights that are shipped, from a folder of sharp photographs to the end of the training:
#   scripts/train_release.sh small|full PHOTOS [--piece MINUTES]
# Writes datasets/ and experiments/ below the current folder, and goes on from what is there: start it again after a stop.
# With --piece it stops by itself after so many minutes, with status 3 until the training has ended.
set -euo pipefail

usage() {
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

[[ $# -eq 2 || ( $# -eq 4 && $3 == --piece && $4 =~ ^[1-9][0-9]*$ ) ]] || usage
[[ $1 == small || $1 == full ]] || usage
name=macr_$1
photos=$2
deadline=${4:+$((SECONDS + 60 * $4))}
options=$(cd "$(dirname "$0")/../options" && pwd)/$name.yml
python=${PYTHON:-python}

# Run a command, until the piece is over.
in_piece() {
  local status=0
  if [[ -z $deadline ]]; then
    "$@"
    return
  fi
  local left=$((deadline - SECONDS))
  ((left > 0)) && timeout --kill-after=30 "$left" "$@" || status=$?
  if ((left <= 0 || status == 124 || status == 137)); then
    echo "$name: the piece is over, start again to go on" >&2
    exit 3
  fi
  return "$status"
}

if [[ -e experiments/$name/models/net_g_latest.pth ]]; then
  echo "$name: trained: experiments/$name/models/net_g_best.pth" >&2
  exit 0
fi
pairs=$([[ $1 == small ]] && echo 10 || echo 60)
in_piece "$python" -m macr_plugin.cli synthesize --demo
in_piece "$python" -m macr_plugin.cli synthesize --photos "$photos" --out "datasets/$name" \
  --realistic --size 256 256 --pairs "$pairs" --storage uncompressed
in_piece "$python" -m macr_plugin.train -opt "$options" --auto_resume
