#!/bin/sh
# The image's entry point. A Ray driver needs a node on its own host: where RAY_ADDRESS names a cluster, this container
# first joins it, without CPUs and GPUs, so that no work is placed here. Then the command runs.
set -eu

if [ -n "${RAY_ADDRESS:-}" ]; then
    tries=0
    until ray health-check --address "$RAY_ADDRESS" > /dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -ge 60 ]; then
            echo "the Ray cluster at $RAY_ADDRESS does not answer: is it up, and is the token the same?" >&2
            exit 1
        fi
        sleep 5
    done
    ray start --address "$RAY_ADDRESS" --num-cpus 0 --num-gpus 0 --object-store-memory 100000000 > /dev/null
fi
exec "$@"
